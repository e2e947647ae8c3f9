// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/process_watch.h"
#include "master/launcher.h"

namespace freshet::master {

struct LocalLauncherOptions {
  // The cluster's, absolute: nodes live in DIR/<name>/, log to DIR/logs/<name>.log, and are known
  // again by it.
  std::string dir;
  std::string master_address;   // given to every node
  std::string binary_dir = {};  // of freshet-ps and freshet-worker; empty: beside this executable
  // kKill for a cluster that ends with its command, kLive for one whose nodes are adopted again.
  base::OnParentDeath on_master_death = base::OnParentDeath::kKill;
};

// Nodes as child processes of the master, or of the one before it. One thread, the main one (children
// that die with their parent die with the thread that started them). Call ReapExited whenever SIGCHLD
// arrived or a watched descriptor can be read. Its end leaves the children running.
class LocalLauncher final : public Launcher {
 public:
  explicit LocalLauncher(LocalLauncherOptions options);

  // Told of the descriptors that say when an adopted process has ended. Set before Adopt.
  std::function<void(int fd)> on_watch;
  std::function<void(int fd)> on_unwatch;

  base::Result<int64_t> Start(const NodeSpec& spec) override;
  // A process that knows this master under another address is of no use: it is killed, and its end
  // reported.
  std::optional<int64_t> Adopt(const NodeSpec& spec) override;
  void Stop(const std::string& name, StopMode mode) override;
  bool manages_processes() const override { return true; }
  base::Result<> CanGive(uint32_t processors) const override;

  // Processes that ended since the last call, in the order of their names.
  std::vector<NodeExit> ReapExited();
  size_t running() const { return running_.size(); }

 private:
  struct Process {
    base::ProcessId pid = 0;
    std::optional<base::WatchedProcess> adopted;  // nothing: our child
    std::vector<int> processors;                  // that it alone asked for; empty: all
  };
  std::string NodeDirectory(const std::string& name) const;
  static std::optional<NodeExit> Ended(const std::string& name, const Process& process);
  base::Result<std::string> Program(NodeRole role) const;
  std::vector<int> LeastTaken(uint32_t count) const;

  LocalLauncherOptions options_;
  std::map<std::string, Process> running_;
};

}  // namespace freshet::master
