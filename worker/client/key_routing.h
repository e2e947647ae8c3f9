// SPDX-License-Identifier: Apache-2.0
// KeyRouting: the keys of one table and batch, grouped by partition. Built once per batch, used by its
// pull and its push. Value type; built on one thread, then read by another.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocol/ids.h"

namespace freshet::worker {

class KeyRouting {
 public:
  // Keeps memory between batches. Keys should be distinct: one row per key and batch.
  void Build(protocol::TableId table, std::span<const protocol::Key> keys, uint32_t partitions);

  protocol::TableId table() const { return table_; }
  uint32_t partitions() const { return static_cast<uint32_t>(begins_.size()) - 1; }
  size_t size() const { return keys_.size(); }
  // Keys in order of partition; those of partition p are [begin(p), begin(p + 1)).
  std::span<const protocol::Key> keys() const { return keys_; }
  uint32_t begin(uint32_t partition) const { return begins_[partition]; }
  // Where the i-th grouped key stood in the list it was built from.
  std::span<const uint32_t> order() const { return order_; }

 private:
  protocol::TableId table_;
  std::vector<protocol::Key> keys_;
  std::vector<uint32_t> order_;
  std::vector<uint32_t> begins_ = {0};
  std::vector<uint16_t> partition_of_;
};

}  // namespace freshet::worker
