// SPDX-License-Identifier: Apache-2.0
// RecordBatch: the records of a span, parsed into flat arrays. LogReader: where they come from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/ids.h"
#include "protocol/span.h"

namespace freshet::stream {

// A record that could not be parsed: goes to the dead-letter file; its offset is still covered (I8).
struct DeadRecord {
  protocol::Offset offset = 0;
  std::string reason;
  std::string raw;  // at most kMaxDeadRawBytes, cut if longer
};
inline constexpr size_t kMaxDeadRawBytes = 4096;

// Structure of arrays; `rows` parsed records in offset order. Reused between batches: Clear keeps memory.
struct RecordBatch {
  protocol::Span span;        // every offset of it is in `offsets` or in `dead`
  uint32_t dense_count = 0;   // columns
  uint32_t sparse_count = 0;  // columns
  uint32_t rows = 0;
  std::vector<protocol::Offset> offsets;  // [rows]
  std::vector<float> labels;              // [rows], 0 or 1
  std::vector<float> dense;               // [rows][dense_count], missing = 0
  std::vector<protocol::Key> sparse;      // [rows][sparse_count], hashed with the column's field
  std::vector<int64_t> timestamps;        // [rows], Unix milliseconds; 0 = none
  std::vector<DeadRecord> dead;

  void Clear() {
    rows = 0;
    offsets.clear();
    labels.clear();
    dense.clear();
    sparse.clear();
    timestamps.clear();
    dead.clear();
  }
};

// One log, open for reading. Used by one thread at a time.
class LogReader {
 public:
  virtual ~LogReader() = default;
  virtual uint32_t dense_count() const = 0;
  virtual uint32_t sparse_count() const = 0;
  // First offset that does not exist (yet).
  virtual protocol::Offset end() const = 0;
  // Replaces `out` by exactly the records of `span`. kInvalidArgument: beyond end(); kIo, kCorrupt: the
  // log cannot replay it (named).
  virtual base::Result<> Read(protocol::Span span, RecordBatch& out) = 0;
};

}  // namespace freshet::stream
