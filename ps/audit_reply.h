// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "protocol/messages.h"
#include "ps/slot.h"

namespace freshet::ps {

// What the audit (I1) compares: of each partition that is served its applied set and its audit rows.
protocol::AuditReply AuditOf(const Slots& slots);

}  // namespace freshet::ps
