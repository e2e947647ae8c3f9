// SPDX-License-Identifier: Apache-2.0
// Plans as the admin socket speaks of them.
#pragma once

#include "master/admin_server.h"
#include "master/master_node.h"

#include <nlohmann/json_fwd.hpp>

namespace freshet::master {

nlohmann::ordered_json PlansJson(const MasterNode& node);

// {"kind": "scale", "ps": 4, "workers": 2, "node": "ps-0", "cpu": 2, "memory_bytes": 1073741824,
// "dry_run": true}: begins the plan, or only
// says what it would do.
void HandlePlanRequest(MasterNode& node, const AdminRequest& request, const AdminReply& reply);
// {"id": 3}
void HandlePlanCancel(MasterNode& node, const AdminRequest& request, const AdminReply& reply);

}  // namespace freshet::master
