// SPDX-License-Identifier: Apache-2.0
// Supervisor: keeps the master of a long-running cluster running, in the background, and does nothing
// else. Runs on one thread, the main one. The nodes are the master's: they go on while there is none,
// and when the supervisor itself dies nobody else does. SIGTERM drains the cluster, then it ends.
#pragma once

#include <optional>
#include <string>

#include "base/file.h"
#include "base/process_watch.h"
#include "cli/admin_client.h"
#include "transport/event_loop.h"
#include "transport/signal_watcher.h"

namespace freshet::cli {

// In the cluster's directory; locked, and with the pid in it, as long as the supervisor lives.
inline constexpr const char* kSupervisorFile = "supervisor.pid";
// The pid of the supervisor of the cluster in this directory; nothing if none runs.
std::optional<base::ProcessId> SupervisorOf(const std::string& dir);
// What the master is told; written by `freshet up`.
inline constexpr const char* kClusterFile = "cluster.yaml";

class Supervisor {
 public:
  Supervisor(std::string dir, base::LockFile lock);

  // Until the cluster is stopped or the master cannot be kept running; the exit code.
  int Run();

 private:
  bool AdoptMaster();
  void StartMaster();
  void AwaitService();
  void OnSignal(int signal);
  void OnMasterEnd(const base::ExitedProcess& exited);
  void Drain();
  void AskMasterToDrain();
  void End(int code, const std::string& why);

  const std::string dir_;
  const base::LockFile lock_;
  const AdminClient client_;
  transport::EventLoop loop_;
  transport::SignalWatcher signals_;
  base::ProcessId master_ = 0;  // 0: none runs now
  std::optional<base::WatchedProcess> adopted_;
  base::Instant started_;
  uint32_t quick_deaths_ = 0;  // in a row
  bool serving_ = false;       // this master answers
  bool served_ = false;        // some master did
  bool draining_ = false;
  int code_ = 0;
};

}  // namespace freshet::cli
