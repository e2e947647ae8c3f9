// SPDX-License-Identifier: Apache-2.0
// Files as the control plane needs them: small, whole, durable. Every error names the path and what
// to do about it. Blocking; not for the data path.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace freshet::base {

// The whole file. kNotFound when absent, kResourceExhausted when longer than `max_bytes`.
Result<std::string> ReadFile(const std::string& path, size_t max_bytes);

// When it succeeds the new content is durable; when it fails or the machine dies, the file holds
// its old or its new content, whole. One writer at a time: the draft is `path`.tmp.
Result<void> WriteFileAtomic(const std::string& path, std::string_view content);

// The directory and those above it; fine when it is there already.
Result<void> MakeDirectories(const std::string& path);

// Makes names that were created, renamed or removed in the directory durable.
Result<void> SyncDirectory(const std::string& path);

// Two such parts of a path: JoinPath("a", "b") is "a/b".
std::string JoinPath(std::string_view directory, std::string_view name);

// The path as it is, or seen from the working directory, whichever is shorter: the path of a socket
// has at most 107 bytes.
std::string ShortestPath(const std::string& path);

// An exclusive lock that the process holds until this object or the process ends, however it ends.
// The file stays, with the pid of the last holder in it; children do not inherit the lock.
class LockFile {
 public:
  // kConflict, naming the holder's pid, when another process (or object) has it.
  static Result<LockFile> Acquire(const std::string& path);

  LockFile(LockFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  LockFile& operator=(LockFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~LockFile();

 private:
  explicit LockFile(int fd) : fd_(fd) {}

  int fd_ = -1;
};

}  // namespace freshet::base
