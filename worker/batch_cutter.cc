// SPDX-License-Identifier: Apache-2.0
#include "worker/batch_cutter.h"

#include <algorithm>

#include "base/check.h"

namespace freshet::worker {

protocol::Span NextBatch(const protocol::Lease& lease, protocol::Offset at, uint32_t batch_size) {
  CHECK(at >= lease.span.begin && at < lease.span.end);
  const uint64_t step = std::max<uint64_t>(batch_size, 1);
  protocol::Offset end = std::min(lease.span.end, (at / step + 1) * step);
  // The cuts are the master's word, so their order is not relied on.
  for (const protocol::Offset cut : lease.cuts) {
    if (cut > at) end = std::min(end, cut);
  }
  return {at, end};
}

}  // namespace freshet::worker
