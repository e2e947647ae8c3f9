// SPDX-License-Identifier: Apache-2.0
// LineIndex and LineReader: from bytes to numbered lines.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "stream/byte_source.h"

namespace freshet::stream {

// A longer line is skipped, and comes out as its first bytes with `too_long`.
inline constexpr size_t kMaxLineBytes = 1 << 20;
inline constexpr uint64_t kLinesPerIndexEntry = 1024;

// Where every 1024th line starts. Fed in order, so a log that grows can go on feeding it later.
// Value type, not thread safe.
class LineIndex {
 public:
  // The bytes that follow those of the call before; `begin` is where line 0 starts.
  explicit LineIndex(uint64_t begin = 0) : starts_{begin}, position_(begin) {}

  void Append(const char* data, size_t size_bytes);

  // Lines so far; a last one without a newline counts.
  uint64_t lines() const { return newlines_ + (ends_in_line_ ? 1 : 0); }
  // Those that a newline ends.
  uint64_t complete_lines() const { return newlines_; }
  uint64_t position() const { return position_; }
  // Start of line `entry * kLinesPerIndexEntry`.
  uint64_t EntryStart(uint64_t entry) const { return starts_[entry]; }

 private:
  std::vector<uint64_t> starts_;
  uint64_t position_;
  uint64_t newlines_ = 0;
  bool ends_in_line_ = false;
};

struct Line {
  std::string_view
      text;  // without LF or CRLF; valid until the next call; kLinePadding bytes behind
             // its end may be read
  bool too_long = false;
};
inline constexpr size_t kLinePadding = 64;

// Hands out the lines of a source one after the other through one bounded buffer. Used by one thread
// at a time; refers to the source. Errors are the source's.
class LineReader {
 public:
  explicit LineReader(ByteSource& source);

  // The next line starts at this position of the text.
  base::Result<> SeekTo(uint64_t position);
  // False at the end of the text. Never returns an error for what is in the text.
  base::Result<bool> Next(Line& line);
  // The same without looking at the text.
  base::Result<> Skip(uint64_t lines);

 private:
  // Moves what is left to the front and reads more behind it; false at the end of the source.
  base::Result<bool> Refill();
  // Leaves the buffer behind the newline that ends an overlong line.
  base::Result<> SkipRestOfLine();

  ByteSource& source_;
  std::vector<char> buffer_;
  std::vector<char> long_line_;  // the first bytes of an overlong line
  size_t begin_ = 0;
  size_t end_ = 0;
  bool source_ended_ = false;
};

}  // namespace freshet::stream
