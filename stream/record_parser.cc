// SPDX-License-Identifier: Apache-2.0
#include "stream/record_parser.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "stream/text.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

constexpr size_t kBlockBytes = 64;

// Bit i: byte i of the block is a delimiter; is one that the plain way cannot handle.
struct BlockMasks {
  uint64_t delimiters = 0;
  uint64_t special = 0;
};

// `quote` is NUL when quotes are ordinary text. Bytes above 127 and NUL are always special.
BlockMasks ScanBlock(const char* block, char delimiter, char quote) {
  BlockMasks masks;
#if defined(__AVX2__)
  const __m256i delimiters = _mm256_set1_epi8(delimiter);
  const __m256i quotes = _mm256_set1_epi8(quote);
  const __m256i zero = _mm256_setzero_si256();
  for (int half = 0; half < 2; ++half) {
    const __m256i bytes = _mm256_loadu_si256(
        reinterpret_cast<const __m256i*>(block + static_cast<size_t>(half) * 32));
    const __m256i odd = _mm256_or_si256(
        bytes, _mm256_or_si256(_mm256_cmpeq_epi8(bytes, quotes), _mm256_cmpeq_epi8(bytes, zero)));
    const __m256i cuts = _mm256_cmpeq_epi8(bytes, delimiters);
    masks.delimiters |= uint64_t{static_cast<uint32_t>(_mm256_movemask_epi8(cuts))} << (32 * half);
    masks.special |= uint64_t{static_cast<uint32_t>(_mm256_movemask_epi8(odd))} << (32 * half);
  }
#else
  for (size_t i = 0; i < kBlockBytes; ++i) {
    const char c = block[i];
    const bool odd = c == quote || c == '\0' || (static_cast<unsigned char>(c) & 0x80) != 0;
    masks.delimiters |= uint64_t{c == delimiter} << i;
    masks.special |= uint64_t{odd} << i;
  }
#endif
  return masks;
}

uint64_t HashNumber(int64_t number, uint64_t seed) { return XXH64(&number, sizeof(number), seed); }

// sign(v) * ln(1 + |v|): a logarithm that every number has. Counts are mostly small.
double SignedLog1p(double value) {
  static const auto small = [] {
    std::array<double, 512> logs{};
    for (size_t i = 0; i < logs.size(); ++i) logs[i] = std::log1p(static_cast<double>(i));
    return logs;
  }();
  const double magnitude = std::abs(value);
  if (magnitude < static_cast<double>(small.size())) {
    const auto whole = static_cast<size_t>(magnitude);
    if (static_cast<double>(whole) == magnitude) return std::copysign(small[whole], value);
  }
  return std::copysign(std::log1p(magnitude), value);
}

std::string HeaderNames(const std::vector<std::string_view>& names) {
  std::string all;
  for (std::string_view name : names) {
    if (!all.empty()) all += ", ";
    all += Printable(name);
    if (all.size() > 200) return all + ", ..";
  }
  return all;
}

}  // namespace

RecordParser::RecordParser(LogSchema schema) : schema_(std::move(schema)) {
  std::vector<int64_t> positions(schema_.columns().size());
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int64_t>(i);
  Plan(positions, positions.size());
}

Result<RecordParser> RecordParser::FromHeader(LogSchema schema, std::string_view header,
                                              const std::string& source) {
  RecordParser parser(std::move(schema));
  parser.column_count_ = 0;  // any number of columns
  std::string padded(header);
  padded.append(kBlockBytes, ' ');
  const auto invalid = [&](const std::string& what) {
    return Fail(ErrorCode::kInvalidArgument, fmt::format("'{}' does not fit schema '{}': {}",
                                                         source, parser.schema_.name(), what));
  };
  if (!parser.Split(std::string_view(padded).substr(0, header.size()))) {
    return invalid("its header cannot be read: " + parser.reason_);
  }
  const std::vector<std::string_view> names = parser.fields_;
  const auto& columns = parser.schema_.columns();
  std::vector<int64_t> positions(columns.size(), -1);
  for (size_t at = 0; at < names.size(); ++at) {
    const std::string lower = ToLowerAscii(names[at]);
    size_t column = 0;
    while (column < columns.size() && ToLowerAscii(columns[column].name) != lower) ++column;
    if (column == columns.size()) {
      if (parser.schema_.extra_columns() == ExtraColumns::kIgnore) continue;
      return invalid(
          fmt::format("its column {} '{}' is not in the schema (extra_columns: ignore "
                      "would allow it); the header is: {}",
                      at + 1, Printable(names[at]), HeaderNames(names)));
    }
    if (positions[column] >= 0) {
      return invalid(fmt::format("column '{}' is there twice", columns[column].name));
    }
    positions[column] = static_cast<int64_t>(at);
  }
  for (size_t column = 0; column < columns.size(); ++column) {
    if (positions[column] >= 0 || columns[column].optional) continue;
    return invalid(fmt::format("column '{}' is missing; the header is: {}", columns[column].name,
                               HeaderNames(names)));
  }
  const size_t column_count = names.size();
  parser.Plan(positions, column_count);
  return parser;
}

void RecordParser::Plan(const std::vector<int64_t>& positions, size_t column_count) {
  column_count_ = column_count;
  actions_.clear();
  uint32_t dense = 0;
  uint32_t sparse = 0;
  const auto& columns = schema_.columns();
  for (size_t i = 0; i < columns.size(); ++i) {
    const Column& column = columns[i];
    if (column.role == ColumnRole::kIgnored) continue;
    Action action;
    action.position = static_cast<uint32_t>(positions[i]);
    action.column = static_cast<uint32_t>(i);
    action.role = column.role;
    action.seed = FieldSeed(column.name);
    if (column.FeedsDense()) action.dense_index = dense++;
    if (column.FeedsSparse()) action.sparse_index = sparse++;
    actions_.push_back(action);
  }
}

void RecordParser::Begin(RecordBatch& batch, uint32_t max_rows) const {
  batch.rows = 0;
  batch.dense_count = schema_.dense_count();
  batch.sparse_count = schema_.sparse_count();
  batch.dead.clear();
  batch.offsets.resize(max_rows);
  batch.labels.resize(max_rows);
  batch.timestamps.resize(max_rows);
  batch.dense.resize(size_t{max_rows} * batch.dense_count);
  batch.sparse.resize(size_t{max_rows} * batch.sparse_count);
}

void RecordParser::Finish(RecordBatch& batch) const {
  batch.offsets.resize(batch.rows);
  batch.labels.resize(batch.rows);
  batch.timestamps.resize(batch.rows);
  batch.dense.resize(size_t{batch.rows} * batch.dense_count);
  batch.sparse.resize(size_t{batch.rows} * batch.sparse_count);
}

bool RecordParser::Parse(std::string_view line, protocol::Offset offset, RecordBatch& batch) {
  if (line.empty()) {
    reason_ = "empty line";
    return false;
  }
  if (!Split(line)) return false;
  Row row{batch.dense.data() + size_t{batch.rows} * batch.dense_count,
          batch.sparse.data() + size_t{batch.rows} * batch.sparse_count};
  for (const Action& action : actions_) {
    const std::string_view text = fields_[action.position];
    switch (action.role) {
      case ColumnRole::kSparse:
        row.sparse[action.sparse_index] = XXH64(text.data(), text.size(), action.seed);
        break;
      case ColumnRole::kDense:
        if (!ReadDense(action, text, row)) return false;
        break;
      case ColumnRole::kLabel:
        if (!ReadLabel(action, text, row)) return false;
        break;
      case ColumnRole::kTimestamp:
        if (!ReadTimestamp(action, text, row)) return false;
        break;
      case ColumnRole::kIgnored: break;
    }
  }
  batch.offsets[batch.rows] = offset;
  batch.labels[batch.rows] = row.label;
  batch.timestamps[batch.rows] = row.timestamp;
  ++batch.rows;
  return true;
}

bool RecordParser::Split(std::string_view line) {
  fields_.clear();
  if (!SplitPlain(line)) {
    if (line.find('\0') != std::string_view::npos) {
      reason_ = "binary data (a NUL byte)";
      return false;
    }
    if (!IsUtf8(line)) {
      reason_ = "not UTF-8";
      return false;
    }
    const bool quoted = schema_.quotes() && line.find('"') != std::string_view::npos;
    if (quoted && !SplitQuoted(line)) return false;
  }
  if (column_count_ == 0 || fields_.size() == column_count_) return true;
  reason_ = fmt::format("{} columns instead of {}", fields_.size(), column_count_);
  return false;
}

// Fills fields_ as if there were no quotes; false when there are bytes that need a closer look.
bool RecordParser::SplitPlain(std::string_view line) {
  const char quote = schema_.quotes() ? '"' : '\0';
  const char* begin = line.data();
  uint64_t odd = 0;
  for (size_t block = 0; block < line.size(); block += kBlockBytes) {
    BlockMasks masks = ScanBlock(line.data() + block, schema_.delimiter(), quote);
    const size_t left = line.size() - block;
    const uint64_t inside = left >= kBlockBytes ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
    odd |= masks.special & inside;
    for (uint64_t cuts = masks.delimiters & inside; cuts != 0; cuts &= cuts - 1) {
      const char* cut = line.data() + block + std::countr_zero(cuts);
      fields_.emplace_back(begin, static_cast<size_t>(cut - begin));
      begin = cut + 1;
    }
  }
  fields_.emplace_back(begin, static_cast<size_t>(line.data() + line.size() - begin));
  return odd == 0;
}

// A field that begins with a quote ends with one; a doubled quote inside stands for one.
bool RecordParser::SplitQuoted(std::string_view line) {
  fields_.clear();
  unquoted_.clear();
  unquoted_.reserve(line.size());  // the views below stay valid
  size_t at = 0;
  while (true) {
    const size_t begin = unquoted_.size();
    if (at < line.size() && line[at] == '"') {
      for (++at;; ++at) {
        if (at >= line.size()) {
          reason_ =
              fmt::format("the quote of column {} does not end on the line", fields_.size() + 1);
          return false;
        }
        if (line[at] == '"' && (at + 1 >= line.size() || line[at + 1] != '"')) break;
        if (line[at] == '"') ++at;
        unquoted_ += line[at];
      }
      if (++at < line.size() && line[at] != schema_.delimiter()) {
        reason_ = fmt::format("text behind the quotes of column {}", fields_.size() + 1);
        return false;
      }
    } else {
      while (at < line.size() && line[at] != schema_.delimiter()) unquoted_ += line[at++];
    }
    fields_.emplace_back(unquoted_.data() + begin, unquoted_.size() - begin);
    if (at >= line.size()) return true;
    ++at;
  }
}

bool RecordParser::Reject(const Action& action, const char* what, std::string_view text) {
  reason_ = fmt::format("column '{}': {} '{}'", schema_.columns()[action.column].name, what,
                        Printable(text));
  return false;
}

bool RecordParser::ReadLabel(const Action& action, std::string_view text, Row& row) {
  const Column& column = schema_.columns()[action.column];
  double value = 0;
  if (text.empty()) return Reject(action, "no label", text);
  if (!ParseNumber(text, value)) return Reject(action, "bad number", text);
  if (!column.threshold && value != 0 && value != 1) {
    return Reject(action, "a label without threshold must be 0 or 1, not", text);
  }
  row.label = value >= column.threshold.value_or(1.0) ? 1.0f : 0.0f;
  return true;
}

bool RecordParser::ReadDense(const Action& action, std::string_view text, Row& row) {
  const Column& column = schema_.columns()[action.column];
  if (text.empty()) {
    if (column.FeedsDense()) row.dense[action.dense_index] = 0.0f;
    if (column.FeedsSparse()) row.sparse[action.sparse_index] = XXH64("", 0, action.seed);
    return true;
  }
  double value = 0;
  if (!ParseNumber(text, value)) return Reject(action, "bad number", text);
  if (column.clip_min && value < *column.clip_min) value = *column.clip_min;
  if (column.clip_max && value > *column.clip_max) value = *column.clip_max;
  if (column.FeedsSparse()) {
    row.sparse[action.sparse_index] = HashNumber(BucketOf(column, value), action.seed);
  }
  if (!column.FeedsDense()) return true;
  if (column.log1p) value = SignedLog1p(value);
  if (std::abs(value) > std::numeric_limits<float>::max()) {
    return Reject(action, "number too large", text);
  }
  row.dense[action.dense_index] = static_cast<float>(value);
  return true;
}

bool RecordParser::ReadTimestamp(const Action& action, std::string_view text, Row& row) {
  const Column& column = schema_.columns()[action.column];
  if (text.empty()) {
    if (column.hour_of_day) row.sparse[action.sparse_index] = XXH64("", 0, action.seed);
    return true;
  }
  const auto time_ms = ParseTimestampMs(text, column.time_format);
  if (!time_ms) return Reject(action, "bad time", text);
  row.timestamp = *time_ms;
  if (column.hour_of_day) {
    constexpr int64_t kMillisPerHour = 3'600'000;
    const int64_t hours = *time_ms / kMillisPerHour - (*time_ms % kMillisPerHour < 0 ? 1 : 0);
    row.sparse[action.sparse_index] = HashNumber(((hours % 24) + 24) % 24, action.seed);
  }
  return true;
}

}  // namespace freshet::stream
