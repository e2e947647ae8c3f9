// SPDX-License-Identifier: Apache-2.0
// Reading a schema from YAML. Every key is listed in docs/schema.md.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "base/file.h"
#include "stream/schema.h"
#include "stream/text.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

constexpr size_t kMaxSchemaBytes = 1 << 20;

// What is wrong, and where. Thrown inside this file only.
struct Fault {
  int line = 0;
  std::string what;
};

int LineOf(const YAML::Node& node) { return node.Mark().line + 1; }

std::string ScalarOf(const YAML::Node& node, const std::string& key) {
  if (!node.IsScalar()) throw Fault{LineOf(node), fmt::format("'{}' needs a single value", key)};
  return node.Scalar();
}

bool BoolOf(const YAML::Node& node, const std::string& key) {
  const std::string text = ScalarOf(node, key);
  if (text == "true" || text == "yes") return true;
  if (text == "false" || text == "no") return false;
  throw Fault{LineOf(node),
              fmt::format("'{}' must be true or false, not '{}'", key, Printable(text))};
}

double NumberOf(const YAML::Node& node, const std::string& key) {
  const std::string text = ScalarOf(node, key);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Fault{LineOf(node), fmt::format("'{}' must be a number, not '{}'", key, Printable(text))};
  }
  return value;
}

template <class T>
struct Word {
  const char* text;
  T value;
};

template <class T, size_t N>
T WordOf(const YAML::Node& node, const std::string& key, const Word<T> (&words)[N]) {
  const std::string text = ScalarOf(node, key);
  std::vector<std::string> known;
  for (const Word<T>& word : words) {
    if (text == word.text) return word.value;
    known.push_back(word.text);
  }
  throw Fault{LineOf(node), fmt::format("'{}' is no {}{} (known: {})", Printable(text), key,
                                        Suggest(text, known), Joined(known))};
}

constexpr Word<ColumnRole> kRoles[] = {{"label", ColumnRole::kLabel},
                                       {"dense", ColumnRole::kDense},
                                       {"sparse", ColumnRole::kSparse},
                                       {"timestamp", ColumnRole::kTimestamp},
                                       {"ignored", ColumnRole::kIgnored}};
constexpr Word<TimestampFormat> kFormats[] = {{"unix", TimestampFormat::kUnixSeconds},
                                              {"unix_ms", TimestampFormat::kUnixMillis},
                                              {"yymmddhh", TimestampFormat::kYymmddhh}};
constexpr Word<ExtraColumns> kExtras[] = {{"refuse", ExtraColumns::kRefuse},
                                          {"ignore", ExtraColumns::kIgnore}};

// Calls `handle(key, value)` for each entry; refuses a key that is unknown or there twice.
template <class Handler>
void ForEachEntry(const YAML::Node& map, const std::string& what,
                  const std::vector<std::string>& known, Handler handle) {
  if (!map.IsMap()) {
    throw Fault{LineOf(map),
                fmt::format("{} must be a map of keys (known: {})", what, Joined(known))};
  }
  std::set<std::string> seen;
  for (const auto& entry : map) {
    const int line = LineOf(entry.first);
    if (!entry.first.IsScalar()) throw Fault{line, fmt::format("a key of {} is not a word", what)};
    const std::string key = entry.first.Scalar();
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw Fault{line, fmt::format("unknown key '{}' in {}{} (known: {})", Printable(key), what,
                                    Suggest(key, known), Joined(known))};
    }
    if (!seen.insert(key).second) {
      throw Fault{line, fmt::format("key '{}' appears twice in {}", key, what)};
    }
    handle(key, entry.second);
  }
}

void ReadBucketize(const YAML::Node& node, Column& column) {
  if (node.IsScalar() && node.Scalar() == "log_squared") {
    column.bucket = BucketKind::kLogSquared;
    return;
  }
  if (!node.IsSequence()) {
    throw Fault{LineOf(node), "bucketize must be a list of numbers or log_squared"};
  }
  if (node.size() > kMaxBoundaries) {
    throw Fault{LineOf(node), fmt::format("bucketize has more than {} boundaries", kMaxBoundaries)};
  }
  column.bucket = BucketKind::kBoundaries;
  for (const auto& boundary : node) column.boundaries.push_back(NumberOf(boundary, "bucketize"));
}

Column ReadColumn(const YAML::Node& node) {
  Column column;
  column.line = LineOf(node);
  bool has_role = false;
  ForEachEntry(node, "a column",
               {"name", "role", "threshold", "clip", "log1p", "bucketize", "keep_dense", "format",
                "hour_of_day", "optional"},
               [&](const std::string& key, const YAML::Node& value) {
                 if (key == "name") column.name = ScalarOf(value, key);
                 if (key == "role") column.role = WordOf(value, key, kRoles);
                 if (key == "role") has_role = true;
                 if (key == "threshold") column.threshold = NumberOf(value, key);
                 if (key == "log1p") column.log1p = BoolOf(value, key);
                 if (key == "keep_dense") column.keep_dense = BoolOf(value, key);
                 if (key == "format") column.time_format = WordOf(value, key, kFormats);
                 if (key == "hour_of_day") column.hour_of_day = BoolOf(value, key);
                 if (key == "optional") column.optional = BoolOf(value, key);
                 if (key == "bucketize") ReadBucketize(value, column);
                 if (key != "clip") return;
                 ForEachEntry(value, "clip", {"min", "max"},
                              [&](const std::string& bound, const YAML::Node& number) {
                                auto& target = bound == "min" ? column.clip_min : column.clip_max;
                                target = NumberOf(number, bound);
                              });
               });
  if (column.name.empty()) throw Fault{column.line, "a column has no name"};
  if (!has_role) {
    throw Fault{column.line,
                fmt::format("column '{}' has no role (label, dense, sparse, timestamp or ignored)",
                            Printable(column.name))};
  }
  if (node["format"] && column.role != ColumnRole::kTimestamp) {
    throw Fault{column.line, fmt::format("column '{}': format needs role: timestamp", column.name)};
  }
  return column;
}

// "I1..I13" stands for I1, I2, .. I13, all alike.
void AppendColumns(const Column& column, std::vector<Column>& columns) {
  const size_t dots = column.name.find("..");
  if (dots == std::string::npos) {
    columns.push_back(column);
    return;
  }
  const auto split = [&](const std::string& text, std::string& prefix, uint32_t& number) {
    const size_t digits = text.find_last_not_of("0123456789") + 1;
    prefix = text.substr(0, digits);
    const char* end = text.data() + text.size();
    return digits < text.size() &&
           std::from_chars(text.data() + digits, end, number).ec == std::errc();
  };
  std::string first_prefix;
  std::string last_prefix;
  uint32_t first = 0;
  uint32_t last = 0;
  if (!split(column.name.substr(0, dots), first_prefix, first) ||
      !split(column.name.substr(dots + 2), last_prefix, last) || first_prefix != last_prefix ||
      last < first) {
    throw Fault{column.line, fmt::format("'{}' is no range of columns; write it like C1..C26",
                                         Printable(column.name))};
  }
  if (last - first >= kMaxColumns) {
    throw Fault{column.line, fmt::format("more than {} columns", kMaxColumns)};
  }
  for (uint32_t i = first; i <= last; ++i) {
    columns.push_back(column);
    columns.back().name = first_prefix + std::to_string(i);
  }
}

SchemaSpec ReadSpec(const YAML::Node& root, const std::string& origin) {
  SchemaSpec spec;
  spec.origin = origin;
  spec.name = origin;
  if (!root.IsDefined() || root.IsNull()) throw Fault{0, "the schema is empty"};
  ForEachEntry(root, "the schema",
               {"name", "delimiter", "header", "quotes", "extra_columns", "columns"},
               [&](const std::string& key, const YAML::Node& value) {
                 if (key == "name") spec.name = ScalarOf(value, key);
                 if (key == "header") spec.header = BoolOf(value, key);
                 if (key == "quotes") spec.quotes = BoolOf(value, key);
                 if (key == "extra_columns") spec.extra_columns = WordOf(value, key, kExtras);
                 if (key == "delimiter") {
                   auto delimiter = ParseDelimiter(ScalarOf(value, key));
                   if (!delimiter) throw Fault{LineOf(value), delimiter.error().message};
                   spec.delimiter = *delimiter;
                 }
                 if (key != "columns") return;
                 if (!value.IsSequence()) throw Fault{LineOf(value), "columns must be a list"};
                 for (const auto& column : value) {
                   AppendColumns(ReadColumn(column), spec.columns);
                   if (spec.columns.size() <= kMaxColumns) continue;
                   throw Fault{LineOf(column), fmt::format("more than {} columns", kMaxColumns)};
                 }
               });
  return spec;
}

bool LooksLikePath(const std::string& text) {
  return text.find('/') != std::string::npos || text.find('.') != std::string::npos;
}

}  // namespace

Result<LogSchema> ParseSchema(const std::string& yaml, const std::string& origin) {
  std::optional<SchemaSpec> spec;
  const auto invalid = [&](int line, const std::string& what) {
    return Fail(ErrorCode::kInvalidArgument,
                line > 0 ? fmt::format("{}:{}: {}", origin, line, what) : origin + ": " + what);
  };
  try {
    spec = ReadSpec(YAML::Load(yaml), origin);
  } catch (const Fault& fault) {
    return invalid(fault.line, fault.what);
  } catch (const YAML::Exception& error) {
    return invalid(error.mark.is_null() ? 0 : error.mark.line + 1, "not YAML: " + error.msg);
  } catch (const std::exception& error) {
    return invalid(0, error.what());
  }
  return LogSchema::Create(std::move(*spec));
}

Result<LogSchema> LoadSchema(const std::string& name_or_file) {
  if (const std::string yaml = BuiltinSchemaYaml(name_or_file); !yaml.empty()) {
    return ParseSchema(yaml, "built-in schema " + name_or_file);
  }
  auto text = base::ReadFile(name_or_file, kMaxSchemaBytes);
  if (!text && text.error().code == ErrorCode::kNotFound && !LooksLikePath(name_or_file)) {
    const auto& names = BuiltinSchemaNames();
    return Fail(ErrorCode::kNotFound,
                fmt::format("no schema '{}'{} (built in: {}; or give the path of a YAML file)",
                            Printable(name_or_file), Suggest(name_or_file, names), Joined(names)));
  }
  if (!text) return tl::unexpected(text.error());
  return ParseSchema(*text, name_or_file);
}

}  // namespace freshet::stream
