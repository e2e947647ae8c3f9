// SPDX-License-Identifier: Apache-2.0
// What the tests of the parameter store share: tables, and requests grouped by partition as the protocol
// sends them.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "ps/batch_ops.h"
#include "ps/partition.h"

namespace freshet::ps {

inline protocol::Table MakeTable(uint16_t id, uint32_t dim, protocol::OptimizerKind kind) {
  protocol::Table table;
  table.id = protocol::TableId(id);
  table.schema.name = fmt::format("t{}", id);
  table.schema.dim = dim;
  table.schema.optimizer.kind = kind;
  if (kind != protocol::OptimizerKind::kSum) {
    table.schema.init = {{protocol::InitKind::kUniform, 0.5f, 0, dim}};
  }
  return table;
}

// Keys with their gradients, grouped by partition.
struct Batch {
  std::vector<protocol::Key> keys;
  std::vector<uint32_t> counts;  // per partition
  std::vector<float> gradients;
};

// Draws `count` distinct keys below `key_space`, with gradients.
inline Batch DrawBatch(base::Random& random, const TableLayout& layout, uint32_t partitions,
                       size_t count, uint64_t key_space) {
  std::map<std::pair<uint16_t, protocol::Key>, int> chosen;
  while (chosen.size() < count) {
    const protocol::Key key = base::Mix64(random.Below(key_space));
    chosen[{protocol::PartitionOf(layout.id, key, partitions).value(), key}] = 0;
  }
  Batch batch;
  batch.counts.resize(partitions);
  for (const auto& [at, unused] : chosen) {
    batch.keys.push_back(at.second);
    ++batch.counts[at.first];
  }
  batch.gradients.resize(count * layout.dim);
  const bool integers = layout.schema.optimizer.kind == protocol::OptimizerKind::kSum;
  for (float& g : batch.gradients) {
    g = integers ? 0.0f : static_cast<float>(random.Uniform() * 2 - 1);
  }
  for (size_t i = 0; integers && i + 1 < batch.gradients.size(); i += 2) {
    const uint64_t value = random.Next();
    std::memcpy(&batch.gradients[i], &value, sizeof value);
  }
  return batch;
}

// The partitions of a small PS.
struct Cluster {
  Cluster(const TableSet& tables, RowArena& arena, uint32_t count) {
    for (uint32_t p = 0; p < count; ++p) {
      partitions.push_back(std::make_unique<Partition>(
          protocol::PartitionId(static_cast<uint16_t>(p)), tables, arena));
    }
  }
  std::vector<RowRun> Runs(protocol::TableId table, const Batch& batch) {
    std::vector<RowRun> runs;
    uint32_t begin = 0;
    for (size_t p = 0; p < partitions.size(); ++p) {
      const uint32_t end = begin + batch.counts[p];
      if (end > begin) runs.push_back({partitions[p]->Shard(table), begin, end});
      begin = end;
    }
    return runs;
  }
  uint64_t rows() const {
    uint64_t rows = 0;
    for (const auto& partition : partitions) rows += partition->rows();
    return rows;
  }
  std::vector<std::unique_ptr<Partition>> partitions;
};

}  // namespace freshet::ps
