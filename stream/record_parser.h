// SPDX-License-Identifier: Apache-2.0
// RecordParser: one line of text to one row of a RecordBatch, as a schema says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "stream/record_batch.h"
#include "stream/schema.h"

namespace freshet::stream {

// Keeps scratch memory between calls, so one thread at a time; the batch is the caller's. Allocates
// nothing per record that is well formed. What is wrong with a record is text, never an Error.
class RecordParser {
 public:
  // Records without a header: the columns are the schema's, in its order.
  explicit RecordParser(LogSchema schema);
  // Columns by the names in `header`. kInvalidArgument names `source` and the column that is missing,
  // unknown or there twice.
  static base::Result<RecordParser> FromHeader(LogSchema schema, std::string_view header,
                                               const std::string& source);

  const LogSchema& schema() const { return schema_; }

  // Makes room for `max_rows` rows behind those the batch has none of yet (rows = 0).
  void Begin(RecordBatch& batch, uint32_t max_rows) const;
  // Appends a row and returns true, or leaves the batch as it is and says in reason() what is wrong.
  // kLinePadding bytes behind the end of `line` must be readable.
  bool Parse(std::string_view line, protocol::Offset offset, RecordBatch& batch);
  // Cuts the room that was not used.
  void Finish(RecordBatch& batch) const;

  const std::string& reason() const { return reason_; }

 private:
  // What is done with one column that matters.
  struct Action {
    uint32_t position = 0;  // of the column in the line
    uint32_t column = 0;    // of the schema
    uint32_t dense_index = 0;
    uint32_t sparse_index = 0;
    uint64_t seed = 0;
    ColumnRole role = ColumnRole::kIgnored;
  };
  // Where the values of one row go.
  struct Row {
    float* dense;
    protocol::Key* sparse;
    float label = 0.0f;
    int64_t timestamp = 0;
  };

  // `positions[i]` = where column i of the schema is in a line, -1 = nowhere.
  void Plan(const std::vector<int64_t>& positions, size_t column_count);

  bool Split(std::string_view line);
  bool SplitPlain(std::string_view line);
  bool SplitQuoted(std::string_view line);
  bool ReadLabel(const Action& action, std::string_view text, Row& row);
  bool ReadDense(const Action& action, std::string_view text, Row& row);
  bool ReadTimestamp(const Action& action, std::string_view text, Row& row);
  bool Reject(const Action& action, const char* what, std::string_view text);

  LogSchema schema_;
  std::vector<Action> actions_;
  size_t column_count_ = 0;
  std::vector<std::string_view> fields_;
  std::string unquoted_;
  std::string reason_;
};

// A decimal number that fills `text` (blanks around it are allowed), finite.
bool ParseNumber(std::string_view text, double& value);

// Unix milliseconds of a timestamp column's text; nothing for what is no time.
std::optional<int64_t> ParseTimestampMs(std::string_view text, TimestampFormat format);

// The bucket of a value under a column's bucketize (not kNone).
int64_t BucketOf(const Column& column, double value);

}  // namespace freshet::stream
