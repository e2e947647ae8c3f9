// SPDX-License-Identifier: Apache-2.0
// Rows of a shard into the packed blocks of an image and back, at the speed of memory. For the PS loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "protocol/image.h"
#include "ps/table_set.h"
#include "ps/table_shard.h"

namespace freshet::ps {

// Which rows of a shard: of its blocks [begin, end), those whose last change carries a later cut than
// `after`, or all.
struct RowChoice {
  size_t begin = 0;
  size_t end = SIZE_MAX;  // or the last block
  std::optional<uint32_t> after = std::nullopt;
};

// Appends the chosen rows; returns their number.
uint64_t CutRows(const TableShard& shard, const RowChoice& choice,
                 std::vector<protocol::Buffer>* blocks);

// Reads and checks every block. kCorrupt: damaged bytes, or rows that are not of their table's shape.
// kNotFound: a table this PS does not know.
base::Result<std::vector<protocol::BlockView>> ReadBlocks(
    const std::vector<protocol::Buffer>& blocks, const TableSet& tables);

// Sets the rows of a checked block, which `shard` has room for; the rows carry cut 0.
void RestoreRows(const protocol::BlockView& block, TableShard* shard);

}  // namespace freshet::ps
