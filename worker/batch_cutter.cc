// SPDX-License-Identifier: Apache-2.0
#include "worker/batch_cutter.h"

#include <algorithm>

#include "base/check.h"

namespace freshet::worker {

protocol::Span NextBatch(const protocol::Lease& lease, protocol::Offset at, uint32_t batch_size) {
  CHECK(at >= lease.span.begin && at < lease.span.end && batch_size > 0);
  protocol::Offset end = std::min(lease.span.end, (at / batch_size + 1) * batch_size);
  const auto cut = std::upper_bound(lease.cuts.begin(), lease.cuts.end(), at);
  if (cut != lease.cuts.end()) end = std::min(end, *cut);
  return {at, end};
}

}  // namespace freshet::worker
