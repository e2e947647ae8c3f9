// SPDX-License-Identifier: Apache-2.0
#include "stream/line_reader.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "stream/record_batch.h"

namespace freshet::stream {
namespace {

using base::Result;

constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kCountBytes = 4096;

// A plain loop: the compiler turns it into vector code, which is bound by memory.
size_t CountNewlines(const char* data, size_t size_bytes) {
  size_t count = 0;
  // Byte-wide counters over at most 255 bytes a lane keep the inner loop narrow.
  constexpr size_t kStep = 64;
  constexpr size_t kSteps = 128;
  while (size_bytes >= kStep) {
    uint8_t lanes[kStep] = {};
    const size_t steps = std::min(kSteps, size_bytes / kStep);
    for (size_t step = 0; step < steps; ++step) {
      for (size_t i = 0; i < kStep; ++i) lanes[i] += data[step * kStep + i] == '\n' ? 1 : 0;
    }
    for (size_t i = 0; i < kStep; ++i) count += lanes[i];
    data += steps * kStep;
    size_bytes -= steps * kStep;
  }
  for (size_t i = 0; i < size_bytes; ++i) count += data[i] == '\n' ? 1 : 0;
  return count;
}

const char* FindNewline(const char* begin, const char* end) {
  return static_cast<const char*>(std::memchr(begin, '\n', static_cast<size_t>(end - begin)));
}

}  // namespace

void LineIndex::Append(const char* data, size_t size_bytes) {
  for (size_t done = 0; done < size_bytes; done += kCountBytes) {
    const char* block = data + done;
    const char* end = block + std::min(kCountBytes, size_bytes - done);
    const size_t count = CountNewlines(block, static_cast<size_t>(end - block));
    // Only a block in which an entry starts is looked at line by line.
    uint64_t line = newlines_;
    const bool has_entry =
        (newlines_ + count) / kLinesPerIndexEntry != newlines_ / kLinesPerIndexEntry;
    for (const char* at = block; has_entry && at < end;) {
      const char* newline = FindNewline(at, end);
      if (newline == nullptr) break;
      at = newline + 1;
      if (++line % kLinesPerIndexEntry != 0) continue;
      starts_.push_back(position_ + static_cast<uint64_t>(at - data));
    }
    newlines_ += count;
  }
  position_ += size_bytes;
  if (size_bytes > 0) ends_in_line_ = data[size_bytes - 1] != '\n';
}

LineReader::LineReader(ByteSource& source)
    : source_(source), buffer_(kMaxLineBytes + kReadBytes + kLinePadding) {}

Result<> LineReader::SeekTo(uint64_t position) {
  begin_ = 0;
  end_ = 0;
  source_ended_ = false;
  return source_.SeekTo(position);
}

Result<bool> LineReader::Refill() {
  if (source_ended_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const size_t room = buffer_.size() - kLinePadding - end_;
  CHECK(room > 0);
  auto got = source_.Read(buffer_.data() + end_, std::min(room, kReadBytes));
  if (!got) return tl::unexpected(got.error());
  end_ += *got;
  source_ended_ = *got == 0;
  return !source_ended_;
}

Result<bool> LineReader::Next(Line& line) {
  line.too_long = false;
  size_t searched = begin_;
  const char* newline = nullptr;
  while ((newline = FindNewline(buffer_.data() + searched, buffer_.data() + end_)) == nullptr) {
    const size_t pending = end_ - begin_;
    if (pending > kMaxLineBytes) break;
    auto more = Refill();
    if (!more) return more;
    searched = begin_ + pending;
    if (!*more) break;
  }
  const char* text = buffer_.data() + begin_;
  size_t size = newline != nullptr ? static_cast<size_t>(newline - text) : end_ - begin_;
  if (size > kMaxLineBytes) {
    long_line_.assign(text, text + kMaxDeadRawBytes);
    line = {std::string_view(long_line_.data(), long_line_.size()), true};
    if (newline == nullptr) {
      auto skipped = SkipRestOfLine();
      if (!skipped) return tl::unexpected(skipped.error());
    } else {
      begin_ += size + 1;
    }
    return true;
  }
  if (newline == nullptr && size == 0) return false;
  begin_ += size + (newline != nullptr ? 1 : 0);
  if (size > 0 && text[size - 1] == '\r') --size;
  line.text = std::string_view(text, size);
  return true;
}

Result<> LineReader::SkipRestOfLine() {
  while (true) {
    const char* newline = FindNewline(buffer_.data() + begin_, buffer_.data() + end_);
    if (newline != nullptr) {
      begin_ = static_cast<size_t>(newline - buffer_.data()) + 1;
      return {};
    }
    begin_ = end_;
    auto more = Refill();
    if (!more) return tl::unexpected(more.error());
    if (!*more) return {};
  }
}

Result<> LineReader::Skip(uint64_t lines) {
  for (; lines > 0; --lines) {
    const char* newline = FindNewline(buffer_.data() + begin_, buffer_.data() + end_);
    if (newline != nullptr) {
      begin_ = static_cast<size_t>(newline - buffer_.data()) + 1;
      continue;
    }
    if (auto skipped = SkipRestOfLine(); !skipped) return skipped;
  }
  return {};
}

}  // namespace freshet::stream
