// SPDX-License-Identifier: Apache-2.0
// ByteSource: the text of a data file, plain or gzip, by position in the unpacked text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"

namespace freshet::stream {

enum class FileGrowth : uint8_t {
  kNone,   // the file stays as it is
  kAppend  // bytes may be added at its end, nothing else
};

// What tells a file from the one that was opened.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;

  bool operator==(const FileIdentity&) const = default;
};

// One open file. Used by one thread at a time. Reads with pread, not through a mapping: a file that
// shrinks while it is open is then an error instead of a SIGBUS, at about a tenth of a nanosecond a
// byte. Errors name the file: kIo, or kCorrupt for gzip data that cannot be unpacked.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills `out` with up to `size_bytes` (> 0) bytes from the current position; 0 at the end.
  virtual base::Result<size_t> Read(char* out, size_t size_bytes) = 0;
  // gzip: unpacks everything in between, and a step back starts at the front again.
  virtual base::Result<> SeekTo(uint64_t position) = 0;
  // kIo when the file is no longer the one that was opened; one with kAppend may have grown.
  virtual base::Result<> CheckUnchanged() const = 0;
  // Only with kAppend: what was added counts from now on. True: there is more than before. kIo: it was
  // cut, replaced, removed or written anew.
  virtual base::Result<bool> Extend() = 0;
  // What counts now survives a crash of this host. kIo: it may not; asking again would not tell.
  virtual base::Result<> Sync() = 0;
  virtual bool compressed() const = 0;
};

// Tells gzip by its first bytes. kNotFound: no such file; kInvalidArgument: a directory or another
// thing that has no bytes to replay, or gzip with kAppend; kIo: anything else that keeps it from being
// read.
base::Result<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path,
                                                         FileGrowth growth = FileGrowth::kNone);

}  // namespace freshet::stream
