// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/process.h"
#include "master/launcher.h"

namespace freshet::master {

struct LocalLauncherOptions {
  std::string dir;  // the cluster's; nodes live in DIR/<name>/, log to DIR/logs/<name>.log
  std::string master_address;   // given to every node
  std::string binary_dir = {};  // of freshet-ps and freshet-worker; empty: beside this executable
  // kKill for a cluster that ends with its command, kLive for one whose nodes are adopted again.
  base::OnParentDeath on_master_death = base::OnParentDeath::kKill;
};

// Nodes as child processes of the master. One thread, the main one (children that die with their
// parent die with the thread that started them). Call ReapExited whenever SIGCHLD arrived. Its end
// leaves the children running.
class LocalLauncher final : public Launcher {
 public:
  explicit LocalLauncher(LocalLauncherOptions options);

  base::Result<int64_t> Start(const NodeSpec& spec) override;
  void Stop(const std::string& name, StopMode mode) override;
  bool manages_processes() const override { return true; }

  // Children that ended since the last call, in the order of their names.
  std::vector<NodeExit> ReapExited();
  size_t running() const { return pids_.size(); }

 private:
  base::Result<std::string> Program(NodeRole role) const;

  LocalLauncherOptions options_;
  std::map<std::string, base::ProcessId> pids_;
};

}  // namespace freshet::master
