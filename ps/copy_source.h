// SPDX-License-Identifier: Apache-2.0
// CopySource: the giving end of a migration (rules G10 and G12). It answers what the target asks and
// keeps nothing between two requests but that a partition is frozen. A slice is short enough for the
// loop to serve pulls and pushes in between. Belongs to the PS loop; borrows the slots.
#pragma once

#include <vector>

#include "base/result.h"
#include "protocol/move_messages.h"
#include "ps/slot.h"

namespace freshet::ps {

struct CopyAnswer {
  protocol::CopyReply reply;
  std::vector<protocol::Buffer> blocks;
};

class CopySource {
 public:
  explicit CopySource(Slots& slots) : slots_(slots) {}

  // kConflict: the partition is not served here under that tenure, or no view of this PS says that it
  // is to go in that migration.
  base::Result<CopyAnswer> Handle(const protocol::CopyRequest& request);

 private:
  Slots& slots_;
};

}  // namespace freshet::ps
