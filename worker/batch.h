// SPDX-License-Identifier: Apache-2.0
// Batch: one batch on its way through a worker, with all the memory it needs. Reused, so that nothing is
// allocated per batch once the largest was seen. Filled by the executor (read, distinct keys, routing),
// then belongs to the loop.
#pragma once

#include <vector>

#include "protocol/messages.h"
#include "stream/record_batch.h"
#include "worker/client/key_routing.h"
#include "worker/model/key_dedup.h"
#include "worker/model/model.h"

namespace freshet::worker {

struct BatchTable {
  protocol::TableId id;
  protocol::TableSchema schema;
};

struct Batch {
  protocol::LogId log;
  protocol::Span span;
  protocol::LogPurpose purpose = protocol::LogPurpose::kTrain;
  base::Result<> read;
  bool pulled = false;  // counts against the pulls ahead
  stream::RecordBatch records;
  KeyDedup dedup;
  std::vector<KeyRouting> routings;           // per table
  std::vector<std::vector<float>> weights;    // per table
  std::vector<std::vector<float>> gradients;  // per table
  std::vector<float> logits;

  // Distinct keys of the records, and where each table's rows are. On the executor.
  void Route(const std::vector<BatchTable>& tables, uint32_t partitions);
  // On the loop, after the pull.
  void Compute(Model& model);
  // What of it must not be pushed; null: all is well.
  const char* NotFinite() const;
  std::vector<protocol::Offset> DeadOffsets() const;
};

}  // namespace freshet::worker
