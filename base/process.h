// SPDX-License-Identifier: Apache-2.0
// Child processes: start, signal, collect. Nothing here waits for a child.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace freshet::base {

using ProcessId = int64_t;

// What the kernel does to the child when the thread that started it ends. That thread should live as
// long as the process: the main one.
enum class OnParentDeath { kLive, kTerminate, kKill };
// A process of its own group does not get the signals of the terminal's keys; one of its own session
// does not notice the terminal's end either.
enum class ProcessGroup { kParents, kOwn, kOwnSession };

struct SpawnOptions {
  std::string path = {};                      // the executable; not searched in PATH
  std::vector<std::string> args = {};         // without the program's name
  std::vector<std::string> environment = {};  // NAME=VALUE, added to ours or replacing it
  std::string stdout_file = {};               // appended to, created with mode 0644; empty: ours
  std::string stderr_file = {};               // may be the same file
  OnParentDeath on_parent_death = OnParentDeath::kLive;
  ProcessGroup group = ProcessGroup::kOwn;
};

// Starts `path` with no open file but stdin (/dev/null), stdout and stderr, no blocked signal and no
// ignored one. Returns once the program runs. kNotFound: no such executable; kIo: anything else.
Result<ProcessId> SpawnProcess(const SpawnOptions& options);

// Makes the running process another program: `path` with these words after its name. Returns only when
// that cannot be done.
Error ReplaceProcess(const std::string& path, std::vector<std::string> args);

// kNotFound: no such process. Signal 0 only looks.
Result<> SignalProcess(ProcessId pid, int signal);

struct ExitedProcess {
  ProcessId pid = 0;
  int code = 0;    // of an exit; 128 + signal when a signal ended it
  int signal = 0;  // 0: it exited by itself
};
// "exit 0", "signal 9".
std::string DescribeExit(const ExitedProcess& exited);

// The child's end if it has ended: told once, after which the pid may be another's. A pid that is not
// our child counts as ended by itself with code 127.
std::optional<ExitedProcess> ReapProcess(ProcessId pid);

// Where the running executable lies, to find its siblings.
Result<std::string> ExecutableDirectory();

}  // namespace freshet::base
