// SPDX-License-Identifier: Apache-2.0
#include "stream/file_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "stream/text.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

constexpr size_t kScanBytes = 256 << 10;
constexpr size_t kBinaryCheckBytes = 64 << 10;
constexpr uint64_t kFirstRecords = 1000;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

DeadRecord MakeDead(protocol::Offset offset, const Line& line, const std::string& reason) {
  return {offset, line.too_long ? fmt::format("longer than {} bytes", kMaxLineBytes) : reason,
          std::string(line.text.substr(0, kMaxDeadRawBytes))};
}

}  // namespace

FileLog::FileLog(FileLogOptions options, std::unique_ptr<ByteSource> source)
    : path_(std::move(options.path)),
      epochs_(options.epochs),
      growth_(options.growth),
      source_(std::move(source)),
      parser_(std::move(options.schema)),
      lines_(*source_) {}

Result<std::unique_ptr<FileLog>> FileLog::Open(FileLogOptions options) {
  if (options.epochs == 0) return Fail(ErrorCode::kInvalidArgument, "epochs must be at least 1");
  if (options.growth == FileGrowth::kAppend && options.epochs > 1) {
    return Fail(
        ErrorCode::kInvalidArgument,
        fmt::format("data file '{}' is followed, so it has no end after which epoch 2 of {} "
                    "could begin",
                    options.path, options.epochs));
  }
  auto source = OpenByteSource(options.path, options.growth);
  if (!source) return tl::unexpected(source.error());
  std::unique_ptr<FileLog> log(new FileLog(std::move(options), std::move(*source)));
  if (auto built = log->BuildIndex(); !built) return tl::unexpected(built.error());
  if (auto counted = log->CountRecords(); !counted) return tl::unexpected(counted.error());
  if (log->records_ == 0) {
    if (log->growth_ == FileGrowth::kAppend) return log;
    return Fail(
        ErrorCode::kInvalidArgument,
        fmt::format("data file '{}' has no records{}", log->path_,
                    log->index_.lines() == 0 ? "; it is empty" : "; there is only a header"));
  }
  if (log->epochs_ > std::numeric_limits<int64_t>::max() / log->records_) {
    return Fail(ErrorCode::kInvalidArgument, fmt::format("epochs {} is too many", log->epochs_));
  }
  if (auto good = log->CheckFirstRecords(); !good) return tl::unexpected(good.error());
  return log;
}

Result<> FileLog::CountRecords() {
  const bool header = parser_.schema().header();
  const uint64_t lines = growth_ == FileGrowth::kAppend ? index_.complete_lines() : index_.lines();
  if (header && !header_read_ && (lines > 0 || growth_ == FileGrowth::kNone)) {
    if (auto read = ReadHeader(); !read) return read;
    header_read_ = true;
  }
  records_ = lines - std::min<uint64_t>(lines, header ? 1 : 0);
  return {};
}

Result<> FileLog::Extend() {
  if (growth_ == FileGrowth::kNone) return {};
  auto grew = source_->Extend();
  if (!grew) return tl::unexpected(grew.error());
  if (!*grew) return {};
  // What lines_ holds ends where the file ended before.
  next_line_ = kNowhere;
  if (auto built = BuildIndex(); !built) return built;
  return CountRecords();
}

// From where it ends on.
Result<> FileLog::BuildIndex() {
  if (auto sought = source_->SeekTo(index_.position()); !sought) return sought;
  std::vector<char> chunk(kScanBytes);
  while (true) {
    auto got = source_->Read(chunk.data(), chunk.size());
    if (!got) return tl::unexpected(got.error());
    if (*got == 0) return {};
    const uint64_t begin = index_.position();
    if (begin < kBinaryCheckBytes) {
      const size_t checked = std::min<uint64_t>(*got, kBinaryCheckBytes - begin);
      if (const void* nul = std::memchr(chunk.data(), '\0', checked); nul != nullptr) {
        const auto at = begin + static_cast<uint64_t>(static_cast<const char*>(nul) - chunk.data());
        return Fail(
            ErrorCode::kInvalidArgument,
            fmt::format("data file '{}' is binary (a NUL byte at byte {}); a log is lines of "
                        "text, plain or gzip",
                        path_, at));
      }
    }
    index_.Append(chunk.data(), *got);
  }
}

Result<> FileLog::ReadHeader() {
  if (auto sought = lines_.SeekTo(0); !sought) return sought;
  Line line;
  auto more = lines_.Next(line);
  if (!more) return tl::unexpected(more.error());
  next_line_ = kNowhere;
  if (!*more) return {};
  if (line.too_long) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("the header of '{}' is longer than {} bytes", path_, kMaxLineBytes));
  }
  if (line.text.starts_with(kByteOrderMark)) line.text.remove_prefix(kByteOrderMark.size());
  auto parser = RecordParser::FromHeader(parser_.schema(), line.text, path_);
  if (!parser) return tl::unexpected(parser.error());
  parser_ = std::move(*parser);
  return {};
}

// A wrong schema or file shows at once, not as a million dead letters.
Result<> FileLog::CheckFirstRecords() {
  RecordBatch batch;
  const uint64_t count = std::min(kFirstRecords, records_);
  if (auto read = Read({0, count}, batch); !read) return read;
  if (batch.rows > 0) return {};
  const DeadRecord& first = batch.dead.front();
  return Fail(
      ErrorCode::kInvalidArgument,
      fmt::format("none of the first {} records of '{}' fits schema '{}'; the first: {}; it "
                  "reads: {}",
                  count, path_, parser_.schema().name(), first.reason, Printable(first.raw)));
}

Result<> FileLog::SeekToRecord(uint64_t record) {
  const uint64_t line = record + (parser_.schema().header() ? 1 : 0);
  if (line == next_line_) return {};
  const bool near = next_line_ < line && line - next_line_ <= kLinesPerIndexEntry;
  uint64_t ahead = near ? line - next_line_ : line % kLinesPerIndexEntry;
  if (!near) {
    auto sought = lines_.SeekTo(index_.EntryStart(line / kLinesPerIndexEntry));
    if (!sought) return sought;
  }
  if (auto skipped = lines_.Skip(ahead); !skipped) return skipped;
  next_line_ = line;
  return {};
}

Result<> FileLog::Read(protocol::Span span, RecordBatch& out) {
  const bool sound = span.begin <= span.end && span.size() <= kMaxReadRecords;
  if (sound && span.end > end() && growth_ == FileGrowth::kAppend) {
    auto extended = Extend();
    if (extended && span.end > end()) {
      extended = Fail(ErrorCode::kUnavailable,
                      fmt::format("records [{}, {}) of '{}' are not there yet; it has {}",
                                  span.begin, span.end, path_, end()));
    }
    if (!extended) {
      out.Clear();
      out.span = {};
      return extended;
    }
  }
  if (!sound || span.end > end()) {
    out.Clear();
    out.span = {};
    return Fail(
        ErrorCode::kInvalidArgument,
        fmt::format("records [{}, {}) of '{}' were asked for; it has {}, and at most {} go at "
                    "once",
                    span.begin, span.end, path_, end(), kMaxReadRecords));
  }
  auto read = ReadRecords(span, out);
  // Looked at afterwards, so that a change before or during the read is seen; what was parsed from
  // it must not be used.
  if (read) read = source_->CheckUnchanged();
  if (!read) {
    next_line_ = kNowhere;
    out.Clear();
    out.span = {};
    return read;
  }
  out.span = span;
  return {};
}

Result<> FileLog::ReadRecords(protocol::Span span, RecordBatch& out) {
  parser_.Begin(out, static_cast<uint32_t>(span.size()));
  uint64_t record = records_ == 0 ? 0 : span.begin % records_;
  Line line;
  for (protocol::Offset offset = span.begin; offset < span.end; ++offset, ++record) {
    if (record == records_) record = 0;
    if (auto sought = SeekToRecord(record); !sought) return sought;
    auto more = lines_.Next(line);
    if (!more) return tl::unexpected(more.error());
    if (!*more) {
      if (auto same = source_->CheckUnchanged(); !same) return same;
      return Fail(ErrorCode::kIo,
                  fmt::format("data file '{}' ends before record {}", path_, record));
    }
    if (next_line_++ == 0 && line.text.starts_with(kByteOrderMark)) {
      line.text.remove_prefix(kByteOrderMark.size());
    }
    if (line.too_long || !parser_.Parse(line.text, offset, out)) {
      out.dead.push_back(MakeDead(offset, line, parser_.reason()));
    }
  }
  parser_.Finish(out);
  return {};
}

}  // namespace freshet::stream
