// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace freshet::cli {

// The last `lines` lines of a file, of at most its last MiB; a line without its end counts.
// kNotFound, kIo.
base::Result<std::vector<std::string>> LastLines(const std::string& path, size_t lines);

// A line of a log as people read it: "info ps-0: ready" of the JSON form, any other line as it is.
std::string ReadableLogLine(const std::string& line);

// Reads a file that grows, and the one that takes its place when it is renamed or cut short.
class LogFollower {
 public:
  enum class From { kStart, kEnd };
  static base::Result<LogFollower> Open(const std::string& path, From from);

  LogFollower(LogFollower&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), inode_(other.inode_) {}
  LogFollower& operator=(LogFollower&&) = delete;
  ~LogFollower();

  // What was added since the last call, at most a MiB; empty when there is nothing now.
  base::Result<std::string> ReadMore();

 private:
  explicit LogFollower(std::string path) : path_(std::move(path)) {}
  base::Result<> Reopen();
  // The name leads to another file now, or the file was cut.
  bool Replaced() const;

  std::string path_;
  int fd_ = -1;
  ino_t inode_ = 0;
};

}  // namespace freshet::cli
