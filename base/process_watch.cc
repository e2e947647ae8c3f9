// SPDX-License-Identifier: Apache-2.0
#include "base/process_watch.h"

#include <dirent.h>
#include <errno.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>

namespace freshet::base {
namespace {

std::string Reason(int error) { return std::generic_category().message(error); }

std::vector<ProcessId> AllProcesses() {
  std::vector<ProcessId> pids;
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return pids;
  while (const dirent* entry = ::readdir(proc)) {
    const std::string_view name = entry->d_name;
    ProcessId pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec == std::errc() && parsed.ptr == name.data() + name.size()) pids.push_back(pid);
  }
  ::closedir(proc);
  return pids;
}

}  // namespace

Result<WatchedProcess> WatchedProcess::Open(ProcessId pid) {
  if (pid <= 0) return Fail(ErrorCode::kNotFound, fmt::format("no process {}", pid));
  const auto fd = static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0));
  if (fd >= 0) return WatchedProcess(pid, fd);
  // EINVAL: a thread of another process has this number.
  if (errno == ESRCH || errno == EINVAL) {
    return Fail(ErrorCode::kNotFound, fmt::format("no process {}", pid));
  }
  return Fail(ErrorCode::kIo, fmt::format("cannot watch process {}: {}", pid, Reason(errno)));
}

WatchedProcess::~WatchedProcess() {
  if (fd_ >= 0) ::close(fd_);
}

bool WatchedProcess::ended() const {
  pollfd entry{.fd = fd_, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) > 0;
}

Result<> WatchedProcess::Signal(int signal) const {
  if (!ended() && ::syscall(SYS_pidfd_send_signal, fd_, signal, nullptr, 0) == 0) return {};
  if (ended() || errno == ESRCH) {
    return Fail(ErrorCode::kNotFound, fmt::format("no process {}", pid_));
  }
  return Fail(ErrorCode::kIo, fmt::format("cannot signal process {}: {}", pid_, Reason(errno)));
}

std::vector<std::string> CommandLineOf(ProcessId pid) {
  std::stringstream text;
  text << std::ifstream(fmt::format("/proc/{}/cmdline", pid)).rdbuf();
  std::vector<std::string> words;
  for (std::string word; std::getline(text, word, '\0');) words.push_back(std::move(word));
  return words;
}

std::optional<WatchedProcess> FindProcess(
    const std::function<bool(const std::vector<std::string>& command_line)>& matches) {
  for (const ProcessId pid : AllProcesses()) {
    if (pid == ::getpid() || !matches(CommandLineOf(pid))) continue;
    Result<WatchedProcess> watched = WatchedProcess::Open(pid);
    // Between the look and the hold the number may have become another's.
    if (watched && matches(CommandLineOf(pid)) && !watched->ended()) {
      return std::move(*watched);
    }
  }
  return std::nullopt;
}

Result<> AdoptOrphans() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0) return {};
  return Fail(ErrorCode::kIo, fmt::format("cannot adopt orphans: {}", Reason(errno)));
}

std::optional<ExitedProcess> ReapAnyProcess() {
  int status = 0;
  pid_t got = 0;
  do {
    got = ::waitpid(-1, &status, WNOHANG);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return std::nullopt;
  if (WIFSIGNALED(status)) return ExitedProcess{got, 128 + WTERMSIG(status), WTERMSIG(status)};
  return ExitedProcess{got, WEXITSTATUS(status), 0};
}

}  // namespace freshet::base
