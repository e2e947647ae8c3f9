// SPDX-License-Identifier: Apache-2.0
// Processes that need not be our children: find them, notice their end, signal them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/process.h"
#include "base/result.h"

namespace freshet::base {

// A process held by a descriptor: its pid cannot come to mean another process while this object lives.
// What a zombie is depends on its parent; here it has ended.
class WatchedProcess {
 public:
  // kNotFound: no such process.
  static Result<WatchedProcess> Open(ProcessId pid);

  WatchedProcess(WatchedProcess&& other) noexcept
      : pid_(other.pid_), fd_(std::exchange(other.fd_, -1)) {}
  WatchedProcess& operator=(WatchedProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~WatchedProcess();

  ProcessId pid() const { return pid_; }
  // Can be read, as poll(2) sees it, once the process has ended.
  int fd() const { return fd_; }
  bool ended() const;
  // kNotFound: it has ended.
  Result<> Signal(int signal) const;

 private:
  WatchedProcess(ProcessId pid, int fd) : pid_(pid), fd_(fd) {}

  ProcessId pid_;
  int fd_;
};

// The words a process was started with; empty when it has ended or belongs to the kernel.
std::vector<std::string> CommandLineOf(ProcessId pid);

// A running process whose command line `matches`, if there is one; never ourselves. The command line
// may be empty.
std::optional<WatchedProcess> FindProcess(
    const std::function<bool(const std::vector<std::string>& command_line)>& matches);

// From now on the children of our children that are left alone become ours to collect.
Result<> AdoptOrphans();
// Any child that has ended, ours by start or by adoption; nothing when there is none now.
std::optional<ExitedProcess> ReapAnyProcess();

}  // namespace freshet::base
