// SPDX-License-Identifier: Apache-2.0
// Pull and push of all rows that one request names in one table: the hot loops of a PS. Memory is slower
// than work, so each step (bucket, row, work) is done for many keys and fetches ahead for the next one;
// runs are short, so fetching ahead goes across them. For the PS loop only.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "protocol/ids.h"
#include "ps/table_shard.h"

namespace freshet::ps {

// keys[begin, end) of a request belong to this shard. All shards of one call are of the same table, and
// no shard has two runs.
struct RowRun {
  TableShard* shard = nullptr;
  uint32_t begin = 0;
  uint32_t end = 0;
};

// out[i * dim ..] = the weights of keys[i], for every i in a run; an unknown key gives the value its row
// would start with and stays unknown. Aligned to 4 bytes at least (keys: 8).
void PullRows(std::span<const RowRun> runs, std::span<const protocol::Key> keys, float* out);

// Memory for the rows that a push of these keys would create. After it succeeded for every table of a
// request, the pushes of that request succeed. kResourceExhausted: the arena is at its limit.
// kInvalidArgument: a key that its dense table does not have. A failure changes no row.
base::Result<> ReserveRows(std::span<const RowRun> runs, std::span<const protocol::Key> keys);

// Every key in a run learns from gradients[i * dim ..]; rows are created as needed, in memory that
// ReserveRows has found for these keys; equal keys learn one after the other.
void PushRows(std::span<const RowRun> runs, std::span<const protocol::Key> keys,
              const float* gradients);

}  // namespace freshet::ps
