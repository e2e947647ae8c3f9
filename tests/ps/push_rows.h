// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ps/batch_ops.h"

namespace freshet::ps {

// As a server does it: nothing is pushed unless there is room for everything.
inline base::Result<> ReserveAndPush(std::span<const RowRun> runs,
                                     std::span<const protocol::Key> keys, const float* gradients) {
  if (auto ok = ReserveRows(runs, keys); !ok) return ok;
  PushRows(runs, keys, gradients);
  return {};
}

}  // namespace freshet::ps
