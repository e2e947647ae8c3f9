// SPDX-License-Identifier: Apache-2.0
// LogSchema: what each column of a record means. docs/schema.md is the user's side of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace freshet::stream {

enum class ColumnRole : uint8_t {
  kIgnored = 0,
  kLabel = 1,
  kDense = 2,
  kSparse = 3,
  kTimestamp = 4
};

enum class BucketKind : uint8_t {
  kNone = 0,
  kBoundaries = 1,  // bucket = number of boundaries that are <= the value
  kLogSquared = 2   // floor(value) up to 2, then 3 + floor(ln(value)^2)
};

enum class TimestampFormat : uint8_t { kUnixSeconds = 0, kUnixMillis = 1, kYymmddhh = 2 };

// What a log with a header does with columns that the schema does not name.
enum class ExtraColumns : uint8_t { kRefuse = 0, kIgnore = 1 };

struct Column {
  std::string name;
  ColumnRole role = ColumnRole::kIgnored;
  bool optional = false;            // ignored columns of a log with a header only
  std::optional<double> threshold;  // label: 1 when value >= threshold
  std::optional<double> clip_min;   // dense, before the other transforms
  std::optional<double> clip_max;
  bool log1p = false;  // dense: sign(v) * ln(1 + |v|)
  BucketKind bucket = BucketKind::kNone;
  std::vector<double> boundaries;  // ascending
  bool keep_dense = false;         // a bucketized column stays a dense one as well
  TimestampFormat time_format = TimestampFormat::kUnixSeconds;
  bool hour_of_day = false;  // timestamp: the hour becomes a sparse field as well
  int line = 0;              // in the schema file; 0 = none

  bool FeedsDense() const {
    return role == ColumnRole::kDense && (bucket == BucketKind::kNone || keep_dense);
  }
  bool FeedsSparse() const {
    return role == ColumnRole::kSparse ||
           (role == ColumnRole::kDense && bucket != BucketKind::kNone) ||
           (role == ColumnRole::kTimestamp && hour_of_day);
  }
};

struct SchemaSpec {
  std::string name;    // of a built-in schema, or as the file says
  std::string origin;  // file the errors are about; empty = built in
  char delimiter = ',';
  bool header = false;
  bool quotes = true;
  ExtraColumns extra_columns = ExtraColumns::kRefuse;
  std::vector<Column> columns;
};

// A validated SchemaSpec; a value that never changes, so any thread may read it. The n-th dense
// (sparse) feature of a record comes from the n-th column of the schema that feeds one, whatever
// the order of the columns in the file.
class LogSchema {
 public:
  // kInvalidArgument naming file and line: no label or two, a column twice, settings that do not
  // fit the role, a delimiter that could be part of a value.
  static base::Result<LogSchema> Create(SchemaSpec spec);

  const std::string& name() const { return spec_.name; }
  char delimiter() const { return spec_.delimiter; }
  bool header() const { return spec_.header; }
  bool quotes() const { return spec_.quotes; }
  ExtraColumns extra_columns() const { return spec_.extra_columns; }
  const std::vector<Column>& columns() const { return spec_.columns; }
  uint32_t dense_count() const { return dense_count_; }
  uint32_t sparse_count() const { return sparse_count_; }

  // Equal when two schemas make the same features of the same values: a trained model fits. Ignored
  // columns and what only says how values are written down (delimiter, header, quotes) do not count.
  uint64_t Fingerprint() const;

 private:
  explicit LogSchema(SchemaSpec spec) : spec_(std::move(spec)) {}

  SchemaSpec spec_;
  uint32_t dense_count_ = 0;
  uint32_t sparse_count_ = 0;
};

// The hash seed of a column's values: equal values of two columns get different keys. Depends on the
// lower-case name only, so that moving a column keeps its keys.
uint64_t FieldSeed(std::string_view column_name);

// "tab", "comma", "semicolon", "pipe", "space" or one character that cannot be part of a number.
base::Result<char> ParseDelimiter(std::string_view text);

inline constexpr size_t kMaxColumns = 4096;
inline constexpr size_t kMaxBoundaries = 4096;

// A built-in schema by its name, else a YAML file (a name with a '/' or a '.' is always a file).
// kNotFound names the nearest built-in; kInvalidArgument names file and line.
base::Result<LogSchema> LoadSchema(const std::string& name_or_file);
// `origin` is what errors call the text.
base::Result<LogSchema> ParseSchema(const std::string& yaml, const std::string& origin);

const std::vector<std::string>& BuiltinSchemaNames();
// The YAML text of a built-in schema: a starting point for one's own. Empty if there is none.
std::string BuiltinSchemaYaml(std::string_view name);

}  // namespace freshet::stream
