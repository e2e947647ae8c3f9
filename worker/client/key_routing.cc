// SPDX-License-Identifier: Apache-2.0
#include "worker/client/key_routing.h"

#include <algorithm>

#include "protocol/table_schema.h"

namespace freshet::worker {

using protocol::Key;

void KeyRouting::Build(protocol::TableId table, std::span<const Key> keys, uint32_t partitions) {
  table_ = table;
  keys_.resize(keys.size());
  order_.resize(keys.size());
  partition_of_.resize(keys.size());
  // Without the counting the compiler does eight keys at once.
  for (size_t i = 0; i < keys.size(); ++i) {
    partition_of_[i] = protocol::PartitionOf(table, keys[i], partitions).value();
  }
  begins_.assign(partitions + 1, 0);
  for (const uint16_t partition : partition_of_) ++begins_[partition + 1u];
  for (uint32_t p = 0; p < partitions; ++p) begins_[p + 1] += begins_[p];
  // Counting sort; begins_[p] is moved to the end of p and comes back by the shift below.
  // By plain pointers: what is written could otherwise be the vectors' own.
  uint32_t* const next = begins_.data();
  Key* const grouped = keys_.data();
  uint32_t* const order = order_.data();
  const uint16_t* const partition_of = partition_of_.data();
  for (uint32_t i = 0; i < keys.size(); ++i) {
    const uint32_t at = next[partition_of[i]]++;
    grouped[at] = keys[i];
    order[at] = i;
  }
  std::copy_backward(begins_.begin(), begins_.end() - 1, begins_.end());
  begins_[0] = 0;
}

}  // namespace freshet::worker
