// SPDX-License-Identifier: Apache-2.0
// DeadLetterFile: where records go that could not be parsed, for people to look at (I8).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "protocol/ids.h"
#include "stream/record_batch.h"

namespace freshet::stream {

struct DeadLetterOptions {
  std::string directory;  // made when it is missing
  std::string log;        // the log's name
  protocol::Incarnation writer;
  uint64_t max_file_bytes = 64 << 20;  // then the file becomes <name>.1, in place of an older one
};

// Append-only JSON lines {"log","offset","reason","raw"} in <directory>/<log>-<incarnation>.jsonl. Used
// by one thread at a time. Drops no double entries: a span that is read again after a crash leaves its
// dead records a second time, so the exact count is the audit's, not the number of lines. On an error
// (kIo: disk full ..) the file keeps whole lines only and a later Append may succeed.
class DeadLetterFile {
 public:
  // Creates nothing yet: a run without dead records leaves no file.
  explicit DeadLetterFile(DeadLetterOptions options);
  ~DeadLetterFile();
  DeadLetterFile(const DeadLetterFile&) = delete;
  DeadLetterFile& operator=(const DeadLetterFile&) = delete;

  // All of `records` or none.
  base::Result<> Append(std::span<const DeadRecord> records);

  const std::string& path() const { return path_; }
  // Lines this object has written.
  uint64_t written() const { return written_; }

 private:
  base::Result<> OpenFile();
  base::Result<> Rotate();
  base::Error IoError(std::string_view what) const;

  DeadLetterOptions options_;
  std::string path_;
  int fd_ = -1;
  uint64_t size_bytes_ = 0;
  uint64_t written_ = 0;
  std::string buffer_;
};

// A JSON string with its quotes. Bytes that are not UTF-8 become \u00XX, so the result always is.
std::string JsonString(std::string_view text);

}  // namespace freshet::stream
