// SPDX-License-Identifier: Apache-2.0
#include "worker/batch.h"

#include <algorithm>
#include <numeric>

#include "worker/client/finite.h"

namespace freshet::worker {

void Batch::Route(const std::vector<BatchTable>& tables, uint32_t partitions) {
  dedup.Assign(records.sparse);
  routings.resize(tables.size());
  weights.resize(tables.size());
  gradients.resize(tables.size());
  for (size_t t = 0; t < tables.size(); ++t) {
    const protocol::TableSchema& schema = tables[t].schema;
    size_t rows = dedup.distinct().size();
    if (schema.kind == protocol::TableKind::kSparse) {
      routings[t].Build(tables[t].id, dedup.distinct(), partitions);
    } else {
      rows = schema.dense_rows;
      // The rows of a tensor are always the same ones.
      if (routings[t].size() != rows || routings[t].partitions() != partitions) {
        std::vector<protocol::Key> keys(rows);
        std::iota(keys.begin(), keys.end(), protocol::Key{0});
        routings[t].Build(tables[t].id, keys, partitions);
      }
    }
    weights[t].resize(rows * schema.dim);
    gradients[t].resize(rows * schema.dim);
  }
}

void Batch::Compute(Model& model) {
  ModelInput input;
  input.rows = records.rows;
  input.labels = records.labels;
  input.dense = records.dense;
  input.key_indices = dedup.indices();
  input.distinct_keys = static_cast<uint32_t>(dedup.distinct().size());
  for (const auto& table : weights) input.weights.emplace_back(table);
  logits.resize(records.rows);
  ModelOutput output;
  output.logits = logits;
  if (purpose == protocol::LogPurpose::kTrain) {
    for (auto& table : gradients) output.gradients.emplace_back(table);
  }
  model.Compute(input, output);
}

const char* Batch::NotFinite() const {
  if (!AllFinite(logits)) return "prediction";
  if (purpose != protocol::LogPurpose::kTrain) return nullptr;
  const bool finite = std::all_of(gradients.begin(), gradients.end(),
                                  [](const auto& table) { return AllFinite(table); });
  return finite ? nullptr : "gradient";
}

std::vector<protocol::Offset> Batch::DeadOffsets() const {
  std::vector<protocol::Offset> offsets;
  for (const stream::DeadRecord& record : records.dead) offsets.push_back(record.offset);
  return offsets;
}

}  // namespace freshet::worker
