// SPDX-License-Identifier: Apache-2.0
// How a worker cuts a data shard into batches (rule G16).
#pragma once

#include "protocol/messages.h"

namespace freshet::worker {

// The next batch of `lease` from offset `at` (inside the lease): ends at the next multiple of
// `batch_size`, at the lease's next cut, or at its end. Never empty.
protocol::Span NextBatch(const protocol::Lease& lease, protocol::Offset at, uint32_t batch_size);

}  // namespace freshet::worker
