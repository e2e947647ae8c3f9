// SPDX-License-Identifier: Apache-2.0
// UpCluster: a cluster of real processes in a directory, started and stopped by the real `freshet`, and
// hurt on purpose. The executables lie beside the running one. Every wait has a deadline; nothing is
// left running when it goes.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/process_watch.h"
#include "cli/admin_client.h"
#include "transport/event_loop.h"

namespace freshet::testing {

struct CommandOutput {
  int code = -1;
  std::string out;
  std::string err;
  cli::Json json() const { return cli::Json::parse(out, nullptr, false); }
};

class UpCluster {
 public:
  // Works in `root`/cluster, which need not be there; what commands say goes to files in `root`.
  explicit UpCluster(std::string root);
  ~UpCluster();
  UpCluster(const UpCluster&) = delete;
  UpCluster& operator=(const UpCluster&) = delete;

  const std::string& dir() const { return dir_; }
  // Runs `freshet ARGS.. --dir DIR` to its end.
  CommandOutput Freshet(std::vector<std::string> args);
  // Writes the settings and runs `freshet up -f` with them.
  CommandOutput Up(const std::map<std::string, std::string>& settings);
  // A daemon as if started from another shell.
  base::Result<base::ProcessId> Start(const std::string& program, std::vector<std::string> args);
  // Its exit code, once it has ended; nothing if it has not within the time.
  std::optional<int> AwaitExit(base::ProcessId pid, std::chrono::milliseconds limit);

  // Polls until `holds`; false when the time is up.
  bool Await(const std::function<bool()>& holds,
             std::chrono::milliseconds limit = std::chrono::seconds(30));
  // The first status that `holds`; null when none came in time or the job failed.
  cli::Json AwaitStatus(const std::function<bool(const cli::Json&)>& holds,
                        std::chrono::milliseconds limit = std::chrono::seconds(30));
  cli::Json AwaitRecords(uint64_t records);
  cli::Json AwaitPhase(const std::string& phase);

  // All processes of this cluster that run now, by what they are: "supervisor", "master", "ps-0", ..
  // Those without a name of their own are not among them.
  std::map<std::string, base::ProcessId> Processes() const;
  void Signal(const std::string& name, int signal) const;
  // SIGKILL to all, in the order of their names; returns when all have ended.
  void KillAll();

 private:
  std::string root_;
  std::string dir_;
  std::string binaries_;
  std::vector<base::ProcessId> started_;
  transport::EventLoop loop_{{.spin = base::Duration(0)}};
};

// The end of each log and event file below it, with its name.
std::string LogsUnder(const std::string& directory);

// Of a status.
cli::Json NodeOf(const cli::Json& status, const std::string& name);
uint64_t RecordsOf(const cli::Json& status);

}  // namespace freshet::testing
