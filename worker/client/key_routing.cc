// SPDX-License-Identifier: Apache-2.0
#include "worker/client/key_routing.h"

#include "protocol/table_schema.h"

namespace freshet::worker {

void KeyRouting::Build(protocol::TableId table, std::span<const protocol::Key> keys,
                       uint32_t partitions) {
  table_ = table;
  keys_.resize(keys.size());
  order_.resize(keys.size());
  partition_of_.resize(keys.size());
  begins_.assign(partitions + 1, 0);
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint16_t partition = protocol::PartitionOf(table, keys[i], partitions).value();
    partition_of_[i] = partition;
    ++begins_[partition + 1];
  }
  for (uint32_t p = 0; p < partitions; ++p) begins_[p + 1] += begins_[p];
  // Counting sort; begins_[p] is moved to the end of p and comes back by the shift below.
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint32_t at = begins_[partition_of_[i]]++;
    keys_[at] = keys[i];
    order_[at] = static_cast<uint32_t>(i);
  }
  for (uint32_t p = partitions; p > 0; --p) begins_[p] = begins_[p - 1];
  begins_[0] = 0;
}

}  // namespace freshet::worker
