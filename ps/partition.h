// SPDX-License-Identifier: Apache-2.0
// Partition: the rows of one partition and the applied sets that say exactly which offsets they hold (rule
// G1). The two are cut into one image and restored from one image, never apart. Belongs to the PS loop;
// owns its shards; borrows the tables and the arena. A failed Restore leaves it empty.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "protocol/image.h"
#include "protocol/move_messages.h"
#include "protocol/span.h"
#include "ps/row_arena.h"
#include "ps/table_set.h"
#include "ps/table_shard.h"

namespace freshet::ps {

class Partition {
 public:
  Partition(protocol::PartitionId id, const TableSet& tables, RowArena& arena);

  // Where the table's rows of this partition are; nullptr if the table is not in the TableSet.
  TableShard* Shard(protocol::TableId table) {
    const size_t index = table.value();
    if (index < shards_.size() && shards_[index] != nullptr) [[likely]]
      return shards_[index].get();
    return AddShard(table);
  }

  // What a push of `span` would meet (rule G5). An empty span is contained in anything.
  protocol::Overlap Judge(protocol::LogId log, protocol::Span span) const;
  // False: the applied set has as many spans as it may have, and this one would be one more.
  bool HasRoomFor(protocol::LogId log, protocol::Span span) const;
  // The rows' change by `span`, which is disjoint from the applied set, is done: to be called in the same
  // turn. Raises the version.
  void RecordApplied(protocol::LogId log, protocol::Span span);

  // An image of this moment, and the beginning of the next cut. `tenure` is the one it is served under.
  protocol::Image CutWhole(protocol::Tenure tenure);
  // Only rows that changed after the cut `since_cut`: the current_cut() from before the image `base` was
  // cut, or 0 below the current one after a restore of `base`.
  protocol::Image CutDifference(protocol::Tenure tenure, protocol::Stamp base, uint32_t since_cut);
  // The number that rows changed from now on carry; the next cut image holds them.
  uint32_t current_cut() const { return cut_; }

  // A whole image, then its differences in order. kCorrupt, kNotFound (unknown table), kConflict (an image
  // that does not fit onto the one before), kResourceExhausted.
  base::Result<> Restore(const std::vector<protocol::Image>& images);
  void Clear();

  // How a partition goes to another PS while it serves. Rows of its next blocks from `at` on, about
  // `max_bytes` of them, as they are at this moment: the rows of different slices are of different
  // moments, so only a difference since before the first slice makes them one image.
  struct Slice {
    std::vector<protocol::Buffer> blocks;
    uint64_t rows = 0;
    protocol::CopyPosition next;
    bool more = false;
  };
  Slice CutSlice(protocol::CopyPosition at, std::optional<uint32_t> since_cut,
                 size_t max_bytes) const;
  // Rows that change from now on carry a later cut than the returned one.
  uint32_t BeginRound();
  // How many rows each table has; room for as many in a partition that is to receive them.
  std::vector<protocol::TableRows> RowsByTable() const;
  base::Result<> Reserve(const std::vector<protocol::TableRows>& tables);
  // Rows of a slice or of a difference; how many. On an error the partition is of no use any more.
  base::Result<uint64_t> Merge(const std::vector<protocol::Buffer>& blocks);
  // The rows are now the effect of exactly these sets (rule G1).
  void Settle(protocol::Stamp stamp, protocol::AppliedSets applied);

  // fn(key, weights) for every row of a table, in the order the rows were created.
  template <class Fn>
  void ForEachRow(protocol::TableId table, Fn&& fn) const {
    const size_t index = table.value();
    if (index >= shards_.size() || shards_[index] == nullptr) return;
    const TableShard& shard = *shards_[index];
    const TableLayout& layout = shard.layout();
    for (size_t i = 0; i < shard.blocks(); ++i) {
      const TableShard::Block block = shard.BlockAt(i);
      for (uint32_t j = 0; j < block.count; ++j) {
        const std::byte* row = block.rows + size_t{j} * layout.stride_bytes;
        fn(block.metas[j].key,
           std::span<const float>(reinterpret_cast<const float*>(row), layout.dim));
      }
    }
  }

  protocol::PartitionId id() const { return id_; }
  const protocol::AppliedSets& applied() const { return applied_; }
  uint64_t version() const { return stamp_.version; }
  uint64_t rows() const;
  uint64_t bytes() const;

 private:
  TableShard* AddShard(protocol::TableId table);
  protocol::Image StartImage(protocol::Tenure tenure) const;
  void StartNextCut();
  base::Result<> ApplyImage(const protocol::Image& image);

  protocol::PartitionId id_;
  const TableSet& tables_;
  RowArena& arena_;
  std::vector<std::unique_ptr<TableShard>> shards_;  // by table id
  protocol::AppliedSets applied_;
  // Of the image it was restored from, with the version counting on.
  protocol::Stamp stamp_;
  uint32_t cut_ = 1;
};

}  // namespace freshet::ps
