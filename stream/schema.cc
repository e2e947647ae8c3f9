// SPDX-License-Identifier: Apache-2.0
#include "stream/schema.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "stream/text.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

std::string Where(const SchemaSpec& spec, int line) {
  if (spec.origin.empty()) return fmt::format("schema '{}': ", spec.name);
  if (line == 0) return spec.origin + ": ";
  return fmt::format("{}:{}: ", spec.origin, line);
}

base::Error Invalid(const SchemaSpec& spec, int line, const std::string& what) {
  return {ErrorCode::kInvalidArgument, Where(spec, line) + what};
}

// What is wrong with the transforms of a dense column; empty = nothing.
std::string DenseFault(const Column& column) {
  const auto finite = [](const std::optional<double>& v) { return !v || std::isfinite(*v); };
  if (!finite(column.clip_min) || !finite(column.clip_max)) return "clip needs finite numbers";
  if (column.clip_min && column.clip_max && *column.clip_min > *column.clip_max) {
    return fmt::format("clip min {} is above max {}", *column.clip_min, *column.clip_max);
  }
  if (column.bucket == BucketKind::kBoundaries) {
    if (column.boundaries.empty()) return "bucketize needs at least one boundary";
    if (column.boundaries.size() > kMaxBoundaries) {
      return fmt::format("bucketize has more than {} boundaries", kMaxBoundaries);
    }
    for (size_t i = 0; i < column.boundaries.size(); ++i) {
      if (!std::isfinite(column.boundaries[i])) return "bucketize needs finite boundaries";
      if (i > 0 && column.boundaries[i] <= column.boundaries[i - 1]) {
        return fmt::format("bucketize boundaries must ascend: {} comes after {}",
                           column.boundaries[i], column.boundaries[i - 1]);
      }
    }
  }
  if (column.keep_dense && column.bucket == BucketKind::kNone) {
    return "keep_dense is for a column with bucketize";
  }
  if (column.log1p && !column.FeedsDense()) {
    return "log1p has no effect on a bucketized column; add keep_dense: true or leave it out";
  }
  return "";
}

// What is wrong with the column on its own; empty = nothing.
std::string ColumnFault(const SchemaSpec& spec, const Column& column) {
  if (column.name.empty()) return "a column has no name";
  if (!IsUtf8(column.name) || column.name.find_first_of("\r\n") != std::string::npos) {
    return "a column name must be one line of UTF-8 text";
  }
  const bool dense_settings = column.log1p || column.clip_min || column.clip_max ||
                              column.bucket != BucketKind::kNone || column.keep_dense;
  if (dense_settings && column.role != ColumnRole::kDense) {
    return fmt::format("column '{}': clip, log1p, bucketize and keep_dense need role: dense",
                       column.name);
  }
  if (column.threshold && column.role != ColumnRole::kLabel) {
    return fmt::format("column '{}': threshold needs role: label", column.name);
  }
  if (column.threshold && !std::isfinite(*column.threshold)) {
    return fmt::format("column '{}': threshold must be a finite number", column.name);
  }
  if (column.hour_of_day && column.role != ColumnRole::kTimestamp) {
    return fmt::format("column '{}': hour_of_day needs role: timestamp", column.name);
  }
  if (column.optional && (column.role != ColumnRole::kIgnored || !spec.header)) {
    return fmt::format("column '{}': optional is for ignored columns of a log with a header",
                       column.name);
  }
  const std::string fault = DenseFault(column);
  return fault.empty() ? "" : fmt::format("column '{}': {}", column.name, fault);
}

// The bytes a fingerprint is the hash of.
template <class T>
void AppendValue(std::string& bytes, const T& value) {
  static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendText(std::string& bytes, std::string_view text) {
  AppendValue(bytes, static_cast<uint64_t>(text.size()));
  bytes.append(text);
}

void AppendOptional(std::string& bytes, const std::optional<double>& value) {
  AppendValue(bytes, value.has_value());
  AppendValue(bytes, value.value_or(0.0));
}

void AppendColumn(std::string& bytes, const Column& column) {
  AppendText(bytes, ToLowerAscii(column.name));
  AppendValue(bytes, column.role);
  AppendOptional(bytes, column.threshold);
  AppendOptional(bytes, column.clip_min);
  AppendOptional(bytes, column.clip_max);
  AppendValue(bytes, column.log1p);
  AppendValue(bytes, column.bucket);
  AppendValue(bytes, static_cast<uint64_t>(column.boundaries.size()));
  for (double boundary : column.boundaries) AppendValue(bytes, boundary);
  AppendValue(bytes, column.keep_dense);
  AppendValue(bytes, column.time_format);
  AppendValue(bytes, column.hour_of_day);
}

}  // namespace

Result<LogSchema> LogSchema::Create(SchemaSpec spec) {
  if (auto delimiter = ParseDelimiter(std::string_view(&spec.delimiter, 1)); !delimiter) {
    return tl::unexpected(Invalid(spec, 0, delimiter.error().message));
  }
  if (spec.extra_columns == ExtraColumns::kIgnore && !spec.header) {
    return tl::unexpected(Invalid(spec, 0, "extra_columns: ignore needs header: true"));
  }
  if (spec.columns.empty()) return tl::unexpected(Invalid(spec, 0, "there are no columns"));
  if (spec.columns.size() > kMaxColumns) {
    return tl::unexpected(Invalid(spec, 0, fmt::format("more than {} columns", kMaxColumns)));
  }
  std::set<std::string> names;
  const Column* label = nullptr;
  const Column* timestamp = nullptr;
  uint32_t dense = 0;
  uint32_t sparse = 0;
  for (const Column& column : spec.columns) {
    std::string fault = ColumnFault(spec, column);
    if (fault.empty() && !names.insert(ToLowerAscii(column.name)).second) {
      fault = fmt::format("column '{}' appears twice (names do not depend on case)", column.name);
    }
    if (fault.empty() && column.role == ColumnRole::kLabel && label != nullptr) {
      fault = fmt::format("'{}' and '{}' are both labels; a log has one", label->name, column.name);
    }
    if (fault.empty() && column.role == ColumnRole::kTimestamp && timestamp != nullptr) {
      fault = fmt::format("'{}' and '{}' are both timestamps; a log has at most one",
                          timestamp->name, column.name);
    }
    if (!fault.empty()) return tl::unexpected(Invalid(spec, column.line, fault));
    if (column.role == ColumnRole::kLabel) label = &column;
    if (column.role == ColumnRole::kTimestamp) timestamp = &column;
    dense += column.FeedsDense() ? 1 : 0;
    sparse += column.FeedsSparse() ? 1 : 0;
  }
  if (label == nullptr) {
    return tl::unexpected(Invalid(spec, 0, "no column has role: label; training needs one"));
  }
  if (dense + sparse == 0) {
    return tl::unexpected(
        Invalid(spec, 0, "no column has role: dense or sparse; nothing to learn"));
  }
  LogSchema schema(std::move(spec));
  schema.dense_count_ = dense;
  schema.sparse_count_ = sparse;
  return schema;
}

uint64_t LogSchema::Fingerprint() const {
  std::string bytes;
  for (const Column& column : spec_.columns) {
    if (column.role != ColumnRole::kIgnored) AppendColumn(bytes, column);
  }
  return XXH64(bytes.data(), bytes.size(), 0);
}

uint64_t FieldSeed(std::string_view column_name) {
  const std::string lower = ToLowerAscii(column_name);
  return XXH64(lower.data(), lower.size(), 0);
}

Result<char> ParseDelimiter(std::string_view text) {
  if (text == "tab") return '\t';
  if (text == "comma") return ',';
  if (text == "semicolon") return ';';
  if (text == "pipe") return '|';
  if (text == "space") return ' ';
  const auto usable = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    const bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return byte < 128 && !word && c != '\n' && c != '\r' && c != '\0' && c != '"' && c != '.' &&
           c != '-' && c != '+';
  };
  if (text.size() == 1 && usable(text[0])) return text[0];
  return Fail(ErrorCode::kInvalidArgument,
              fmt::format("bad delimiter '{}': use tab, comma, semicolon, pipe, space or one "
                          "character that cannot be part of a value",
                          Printable(text)));
}

}  // namespace freshet::stream
