// SPDX-License-Identifier: Apache-2.0
// Rows of a shard into the packed blocks of an image and back, at the speed of memory. For the PS loop.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "protocol/image.h"
#include "ps/table_set.h"
#include "ps/table_shard.h"

namespace freshet::ps {

// Appends every row of the shard; returns their number.
uint64_t CutAllRows(const TableShard& shard, std::vector<protocol::Buffer>* blocks);

// Appends the rows whose last change carries a later cut than `cut`; returns their number.
uint64_t CutRowsAfter(const TableShard& shard, uint32_t cut, std::vector<protocol::Buffer>* blocks);

// Reads and checks every block of an image. kCorrupt: damaged bytes, rows that are not of their table's
// shape, or not as many as the header says. kNotFound: a table this PS does not know.
base::Result<std::vector<protocol::BlockView>> ReadBlocks(const protocol::Image& image,
                                                          const TableSet& tables);

// Sets the rows of a checked block, which `shard` has room for; the rows carry cut 0.
void RestoreRows(const protocol::BlockView& block, TableShard* shard);

}  // namespace freshet::ps
