// SPDX-License-Identifier: Apache-2.0
// SimCluster: a whole cluster of real brains in one thread. Starts, kills, pauses and restarts simulated
// processes; keeps what survives them. Decides nothing about faults and judges nothing.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "master/master_node.h"
#include "ps/ps_node.h"
#include "tests/sim/scenario.h"
#include "tests/sim/scheduler.h"
#include "tests/sim/sim_log.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_process.h"
#include "tests/sim/sim_stores.h"
#include "tests/sim/trace.h"

namespace freshet::sim {

enum class NodeKind : uint8_t { kMaster, kPs, kWorker };

// One life of a process with its brain.
class SimNode {
 public:
  SimNode(NodeKind kind, Scheduler& scheduler, SimProcess::Options options, SimNetwork& network,
          std::string address)
      : kind(kind),
        process(scheduler, std::move(options)),
        endpoint(network, process, std::move(address)) {}
  virtual ~SimNode() = default;
  virtual void Start() = 0;
  // As SIGTERM asks it; `done` when it has left.
  virtual void Drain(std::function<void()> done) = 0;
  virtual protocol::Incarnation incarnation() const { return {}; }
  // What the master calls it.
  virtual std::string given_name() const { return process.name(); }
  // Failures of its disk that it was told of.
  virtual uint64_t disk_failures() const { return 0; }

  const NodeKind kind;
  SimProcess process;
  SimEndpoint endpoint;
};

class SimCluster {
 public:
  SimCluster(const Scenario& scenario, const Trace& trace);
  ~SimCluster();

  // Before Start: every disk is as the backup says, shared out among the scenario's servers.
  void Restore(const SimVault& vault, const SimVault::Backup& backup);
  void Start();

  // Called when a server has left as it was asked to.
  std::function<void(const std::string& name, const ps::PsNode&)> on_drained;
  // A process that ended by itself without a reason (I9).
  const std::optional<std::string>& unexplained_exit() const { return unexplained_exit_; }

  // The brains that are alive; null when the master is down.
  master::MasterNode* master() const;
  SimNode* master_node() const;
  struct Server {
    std::string name;
    const ps::PsNode* brain;
  };
  std::vector<Server> Servers() const;
  // The live process that is this incarnation of a PS.
  const ps::PsNode* FindServer(const std::string& name, protocol::Incarnation incarnation) const;
  SimDisk& disk(const std::string& name) { return disks_[name]; }
  const std::map<std::string, SimDisk>& disks() const { return disks_; }
  const SimVault& vault() const { return vault_; }

  std::vector<int64_t> Pids(NodeKind kind) const;
  SimNode* Find(int64_t pid) const;
  std::vector<std::string> Names() const;
  void Kill(int64_t pid);
  void KillAll();
  void Drain(int64_t pid);
  // A second process of the same name, as an operator may start it while the first one hangs.
  void StartTwin(const std::string& name) { Spawn(NodeKind::kWorker, name); }
  // One more server; somebody outside keeps it running.
  void JoinServer();
  // As `freshet down`, then `up`.
  void Stop();
  void StartBackup();
  void StartPlan(const master::PlanRequest& request);
  // The oldest that has not ended.
  void CancelPlan();
  // The plan that it was told to leave for; 0: none, or one that was given up since.
  uint64_t LeavesForPlan(const SimNode& node) const;
  // Called when the master has written a state; while a partition changes its owner both have it.
  std::function<void(const protocol::View& before, const protocol::View& after)> on_view_written;
  // No more faults: everything works and nobody is paused from now on.
  void Calm();

  Scheduler& scheduler() { return scheduler_; }
  SimNetwork& network() { return network_; }
  base::Random& chance() { return chance_; }
  const Scenario& scenario() const { return scenario_; }
  const Trace& trace() const { return trace_; }
  protocol::JobSpec Job() const;
  void Log(const std::string& text) const { trace_.Event(scheduler_, text); }

 private:
  friend class DiskUser;
  friend class SimLauncher;
  friend class MasterLife;
  friend class PsLife;
  friend class WorkerLife;

  struct Starting {
    NodeKind kind = NodeKind::kPs;
    std::string name;
  };

  int64_t Spawn(NodeKind kind, const std::string& name);
  void CheckExit(const SimNode& node, int code, const std::string& why);
  bool IsKeptFromOutside(const Starting& what) const;
  void Launch(int64_t pid);
  // Of the live process of that name, also of one that is still starting.
  std::optional<int64_t> PidOf(const std::string& name) const;
  // A brain asked for its own end.
  void OnExit(int64_t pid, int code, const std::string& why);
  void End(int64_t pid, const std::string& how, int code);
  void AfterEnd(const Starting& what, int64_t pid, const std::string& how, int code);
  void WatchRetired(const Starting& what, uint64_t plan);
  SimProcess::Options ProcessOptions(const std::string& name, int64_t pid);
  master::MasterOptions MasterSettings();

  const Scenario& scenario_;
  const Trace& trace_;
  Scheduler scheduler_;
  base::Random chance_;
  SimNetwork network_;
  WorkTimes work_;
  DiskFaults disk_faults_;
  SimLogs logs_;
  std::map<std::string, SimDisk> disks_;
  SimVault vault_;
  uint64_t backups_started_ = 0;
  SimStateStore::Cell master_cell_;
  int64_t last_pid_ = 100;
  std::map<int64_t, Starting> starting_;
  std::map<int64_t, std::unique_ptr<SimNode>> nodes_;
  bool unnamed_workers_ = false;
  std::set<std::string> guests_;             // joined by themselves
  std::map<std::string, uint64_t> retired_;  // who left, and for which plan
  std::map<std::string, int> started_;       // processes by name
  bool was_stopped_ = false;                 // who was not there to hear of it has to go later
  std::optional<std::string> unexplained_exit_;
};

}  // namespace freshet::sim
