// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "master/restore.h"
#include "worker/client/session.h"
#include "worker/worker_node.h"

namespace freshet::sim {

using base::Duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr const char* kMasterName = "master";
constexpr const char* kMasterAddress = "sim://master/";

}  // namespace

class SimLauncher final : public master::Launcher {
 public:
  SimLauncher(SimCluster& cluster, const SimProcess& master) : cluster_(cluster), master_(master) {}

  base::Result<int64_t> Start(const master::NodeSpec& spec) override {
    if (!master_.alive()) return base::Fail(base::ErrorCode::kIo, "the master has ended");
    if (cluster_.PidOf(spec.name)) {
      return base::Fail(base::ErrorCode::kConflict, spec.name + " still runs");
    }
    return cluster_.Spawn(spec.role == master::NodeRole::kPs ? NodeKind::kPs : NodeKind::kWorker,
                          spec.name);
  }
  std::optional<int64_t> Adopt(const master::NodeSpec& spec) override {
    return cluster_.PidOf(spec.name);
  }
  void Stop(const std::string& name, master::StopMode mode) override {
    if (!master_.alive()) return;
    std::vector<int64_t> pids;
    for (const auto& [pid, node] : cluster_.nodes_) {
      if (node->process.name() == name) pids.push_back(pid);
    }
    for (const int64_t pid : pids) {
      cluster_.scheduler().After(milliseconds(1), [cluster = &cluster_, pid, mode] {
        mode == master::StopMode::kKill ? cluster->Kill(pid) : cluster->Drain(pid);
      });
    }
  }
  bool manages_processes() const override {
    return cluster_.scenario().supervision != Supervision::kOutside;
  }

 private:
  SimCluster& cluster_;
  const SimProcess& master_;
};

// A disk fault may be the end of the process that uses it.
class DiskUser {
 public:
  DiskUser(SimCluster& cluster, SimProcess& process)
      : access(cluster.chance().Next(), cluster.disk_faults_) {
    access.die = [&cluster, &process, pid = process.pid()] {
      process.Doom();
      cluster.scheduler().After(Duration(0), [&cluster, pid] { cluster.Kill(pid); });
    };
  }

  DiskAccess access;
};

class PsLife final : public SimNode {
 public:
  PsLife(SimCluster& cluster, const std::string& name, int64_t pid)
      : SimNode(NodeKind::kPs, cluster.scheduler(), cluster.ProcessOptions(name, pid),
                cluster.network(), fmt::format("sim://{}/{}", name, pid)),
        disk(cluster, process),
        store(cluster.disks_[name], cluster.vault_, disk.access),
        brain(
            Options(cluster, name, pid, endpoint.address()), process.runtime(), endpoint, store,
            [&cluster, pid](int code, const std::string& why) { cluster.OnExit(pid, code, why); }) {
    endpoint.SetHandler(brain);
  }
  void Start() override { brain.Start(); }
  void Drain(std::function<void()> done) override { brain.Drain(std::move(done)); }
  protocol::Incarnation incarnation() const override { return brain.incarnation(); }
  uint64_t disk_failures() const override { return disk.access.failures(); }

  DiskUser disk;
  SimImageStore store;
  ps::PsNode brain;

 private:
  static ps::PsOptions Options(SimCluster& cluster, const std::string& name, int64_t pid,
                               const std::string& address) {
    const Scenario& s = cluster.scenario();
    ps::PsOptions options;
    options.name = name;
    options.address = address;
    options.master = kMasterAddress;
    options.pid = pid;
    options.checkpoint.interval = s.checkpoint_interval;
    options.checkpoint.spread = s.checkpoint_interval * 4 / 5;
    options.checkpoint.group_bytes = s.checkpoint_group_bytes;
    options.checkpoint.max_differences = s.max_differences;
    options.memory_limit_bytes = 8u << 20;
    if (s.balances) options.memory_limit_bytes <<= cluster.chance().Below(4);
    return options;
  }
};

class WorkerLife final : public SimNode {
 public:
  WorkerLife(SimCluster& cluster, const std::string& name, int64_t pid)
      : SimNode(NodeKind::kWorker, cluster.scheduler(), cluster.ProcessOptions(name, pid),
                cluster.network(), ""),
        session(Options(cluster, name, pid), process.runtime(), endpoint),
        brain(process.runtime(), session, cluster.logs_, dead) {
    session.on_exit = [&cluster, pid](int code, const std::string& why) {
      cluster.OnExit(pid, code, why);
    };
    session.on_leave = [this, &cluster, pid] {
      brain.Drain([&cluster, pid] { cluster.OnExit(pid, 0, "the cluster was stopped"); });
    };
    endpoint.SetHandler(session);
  }
  void Start() override { brain.Start(); }
  void Drain(std::function<void()> done) override { brain.Drain(std::move(done)); }
  protocol::Incarnation incarnation() const override { return session.incarnation(); }
  std::string given_name() const override { return session.name(); }

  SimDeadLetters dead;
  worker::Session session;
  worker::WorkerNode brain;

 private:
  static worker::SessionOptions Options(const SimCluster& cluster, const std::string& name,
                                        int64_t pid) {
    worker::SessionOptions options;
    options.name = cluster.unnamed_workers_ ? "" : name;
    options.master = kMasterAddress;
    options.pid = pid;
    options.call_deadline = seconds(20);
    options.attempt = milliseconds(300);
    return options;
  }
};

class MasterLife final : public SimNode {
 public:
  MasterLife(SimCluster& cluster, int64_t pid)
      : SimNode(NodeKind::kMaster, cluster.scheduler(), cluster.ProcessOptions(kMasterName, pid),
                cluster.network(), kMasterAddress),
        disk(cluster, process),
        store(cluster.master_cell_, disk.access),
        launcher(cluster, process),
        brain(
            cluster.MasterSettings(), process.runtime(), endpoint, store, launcher, cluster.logs_,
            [&cluster, pid](int code, const std::string& why) { cluster.OnExit(pid, code, why); }) {
    endpoint.SetHandler(brain);
    store.on_saved = [&cluster](const std::optional<protocol::Buffer>& before,
                                const protocol::Buffer& after) {
      if (!before || !cluster.on_view_written) return;
      const auto old_state = protocol::DecodeStruct<master::ClusterState>(*before, "state");
      const auto new_state = protocol::DecodeStruct<master::ClusterState>(after, "state");
      cluster.on_view_written(old_state->view, new_state->view);
    };
    if (cluster.trace().events) {
      brain.events().sink = [&cluster](const master::Event& event) {
        cluster.Log(fmt::format("master: {} {} {}", event.kind, event.node, event.text));
      };
    }
  }
  void Start() override { brain.Start(); }
  void Drain(std::function<void()> done) override { done(); }
  uint64_t disk_failures() const override { return disk.access.failures(); }

  DiskUser disk;
  SimStateStore store;
  SimLauncher launcher;
  master::MasterNode brain;
};

SimCluster::SimCluster(const Scenario& scenario, const Trace& trace)
    : scenario_(scenario),
      trace_(trace),
      chance_(base::Mix64(scenario.seed ^ 0xC1A05)),
      network_(scheduler_, base::Mix64(scenario.seed ^ 0x4E7), trace),
      work_(scenario.work),
      disk_faults_(scenario.disk),
      logs_(scenario.logs, scheduler_) {
  network_.times = scenario.network;
  unnamed_workers_ = scenario.supervision == Supervision::kOutside && chance_.Chance(0.2);
}

SimCluster::~SimCluster() { nodes_.clear(); }

void SimCluster::Restore(const SimVault& vault, const SimVault::Backup& backup) {
  auto state = protocol::DecodeStruct<master::ClusterState>(backup.state, "the backup's state");
  CHECK(state.has_value());
  master::ReshapeForRestore(*state, backup.manifest,
                            {.ps = scenario_.ps, .cluster = protocol::ClusterId(chance_.Next())});
  for (const protocol::BackupFile& file : backup.manifest.files) {
    const uint16_t owner = state->view.places[file.partition.value()].node;
    disks_[state->view.nodes[owner].name].images[file.partition] = vault.File(backup, file.name);
  }
  master_cell_ = protocol::EncodeStruct(*state);
}

void SimCluster::Start() {
  Spawn(NodeKind::kMaster, kMasterName);
  if (scenario_.supervision != Supervision::kOutside) return;
  for (uint32_t i = 0; i < scenario_.ps; ++i) Spawn(NodeKind::kPs, fmt::format("ps-{}", i));
  for (uint32_t i = 0; i < scenario_.workers; ++i) {
    Spawn(NodeKind::kWorker, fmt::format("worker-{}", i));
  }
}

protocol::JobSpec SimCluster::Job() const {
  protocol::JobSpec job;
  job.name = "simulated";
  job.model = "lr";
  for (const SimLog& log : scenario_.logs) job.logs.push_back(log.spec);
  job.batch_size = scenario_.batch_size;
  job.pull_ahead = scenario_.pull_ahead;
  job.seed = scenario_.seed;
  return job;
}

master::MasterOptions SimCluster::MasterSettings() {
  master::MasterOptions options;
  options.job = Job();
  if (scenario_.batch_size_changes) {
    options.job.batch_size = 5 + static_cast<uint32_t>(chance_.Below(50));
  }
  options.partitions = scenario_.partitions;
  options.ps = scenario_.ps;
  options.workers = scenario_.workers;
  options.heartbeat = scenario_.heartbeat;
  options.node_timeout = scenario_.node_timeout;
  options.linger = scenario_.linger;
  // How often a process may die is the seed's business.
  options.max_quick_restarts = 16;
  options.drain_timeout = seconds(12);
  options.plans.join_timeout = seconds(5);
  options.auto_balance = scenario_.balances;
  options.balance = scenario_.balance;
  options.plans.max_ps = scenario_.balances ? 5 : 64;
  return options;
}

SimProcess::Options SimCluster::ProcessOptions(const std::string& name, int64_t pid) {
  SimProcess::Options options{.name = name, .pid = pid, .seed = chance_.Next(), .work = &work_};
  // Some servers are slower than others, as long as they live.
  if (scenario_.balances) options.glance = Duration(1 + static_cast<int64_t>(options.seed % 9));
  return options;
}

int64_t SimCluster::Spawn(NodeKind kind, const std::string& name) {
  retired_.erase(name);
  const int64_t pid = ++last_pid_;
  starting_[pid] = {kind, name};
  ++started_[name];
  scheduler_.After(milliseconds(1) + DrawExponential(chance_, milliseconds(30)),
                   [this, pid] { Launch(pid); });
  return pid;
}

void SimCluster::Launch(int64_t pid) {
  const auto starting = starting_.extract(pid);
  if (starting.empty()) return;  // killed before its brain began
  const auto& [kind, name] = starting.mapped();
  Log(fmt::format("start {} pid {}", name, pid));
  std::unique_ptr<SimNode>& node = nodes_[pid];
  switch (kind) {
    case NodeKind::kMaster: node = std::make_unique<MasterLife>(*this, pid); break;
    case NodeKind::kPs: node = std::make_unique<PsLife>(*this, name, pid); break;
    case NodeKind::kWorker: node = std::make_unique<WorkerLife>(*this, name, pid); break;
  }
  node->Start();
}

std::optional<int64_t> SimCluster::PidOf(const std::string& name) const {
  for (const auto& [pid, node] : nodes_) {
    if (node->process.name() == name) return pid;
  }
  for (const auto& [pid, what] : starting_) {
    if (what.name == name) return pid;
  }
  return std::nullopt;
}

void SimCluster::OnExit(int64_t pid, int code, const std::string& why) {
  const SimNode* node = Find(pid);
  if (node != nullptr && !node->process.alive()) return;  // it has ended before it could
  Log(fmt::format("pid {} leaves with code {}: {}", pid, code, why));
  if (node != nullptr) CheckExit(*node, code, why);
  const bool told = why == "the cluster was stopped";
  if (node != nullptr && told) {
    if (const uint64_t plan = LeavesForPlan(*node)) retired_[node->process.name()] = plan;
  }
  // The brain is on the stack; its process still lives for a moment.
  scheduler_.After(Duration(static_cast<int64_t>(chance_.Below(5000))),
                   [this, pid, code] { End(pid, fmt::format("exit {}", code), code); });
}

// I9: a process gives up only because of its own disk, for another process of its name, or because a
// plan has ended without it.
void SimCluster::CheckExit(const SimNode& node, int code, const std::string& why) {
  const std::string& name = node.process.name();
  if (code == 0 && node.kind == NodeKind::kPs && on_drained) {
    on_drained(name, static_cast<const PsLife&>(node).brain);
  }
  const bool let_go = master() != nullptr && !master()->nodes().contains(node.given_name());
  const bool explained =
      code == 0 || let_go || node.disk_failures() > 0 || started_[name] > 1 || was_stopped_;
  if (explained || unexplained_exit_) return;
  unexplained_exit_ = fmt::format("{} exits with code {}: {}", name, code, why);
}

void SimCluster::Kill(int64_t pid) { End(pid, "signal 9", 137); }

void SimCluster::KillAll() {
  Log("kill everything");
  std::vector<int64_t> pids;
  for (const auto& [pid, node] : nodes_) {
    if (node->kind != NodeKind::kMaster) pids.push_back(pid);
  }
  if (SimNode* master = master_node()) Kill(master->process.pid());
  for (const int64_t pid : pids) Kill(pid);
}

void SimCluster::Drain(int64_t pid) {
  SimNode* node = Find(pid);
  if (node == nullptr) return;
  Log(fmt::format("drain {} pid {}", node->process.name(), pid));
  node->process.Post(
      Duration(0), [this, node, pid] { node->Drain([this, pid] { OnExit(pid, 0, "drained"); }); });
  // Whoever asked loses patience.
  scheduler_.After(seconds(8), [this, pid] { Kill(pid); });
}

void SimCluster::JoinServer() {
  // Far from the numbers that a master gives.
  const std::string name = fmt::format("ps-{}", 100 + guests_.size());
  Log(name + " joins");
  guests_.insert(name);
  Spawn(NodeKind::kPs, name);
}

void SimCluster::Stop() {
  SimNode* node = master_node();
  if (node == nullptr) return;
  Log("stop the cluster");
  node->process.Post(Duration(0), [this, brain = master(), pid = node->process.pid()] {
    brain->Stop([this, pid](const base::Result<>& outcome) {
      Log(outcome ? "stopped" : "stopped late: " + outcome.error().message);
      was_stopped_ = true;
      OnExit(pid, 0, "stopped");
    });
  });
}

void SimCluster::StartBackup() {
  SimNode* node = master_node();
  if (node == nullptr) return;
  auto writer =
      std::make_shared<SimBackupWriter>(vault_, fmt::format("backup-{}", ++backups_started_));
  node->process.Post(Duration(0), [this, brain = master(), writer] {
    const auto started = brain->StartBackup(writer);
    Log(started ? "backup to " + writer->dir() : "no backup: " + started.error().message);
  });
}

// Children of the master are started again by the master.
bool SimCluster::IsKeptFromOutside(const Starting& what) const {
  return scenario_.supervision == Supervision::kOutside || what.kind == NodeKind::kMaster ||
         guests_.contains(what.name);
}

void SimCluster::End(int64_t pid, const std::string& how, int code) {
  const auto starting = starting_.extract(pid);
  if (!starting.empty()) return AfterEnd(starting.mapped(), pid, how, code);
  auto node = nodes_.extract(pid);
  if (node.empty()) return;
  const Starting what{node.mapped()->kind, node.mapped()->process.name()};
  Log(fmt::format("end of {} pid {}: {}", what.name, pid, how));
  node.mapped().reset();
  AfterEnd(what, pid, how, code);
}

void SimCluster::AfterEnd(const Starting& what, int64_t pid, const std::string& how, int code) {
  if (scenario_.supervision == Supervision::kLauncher && what.kind == NodeKind::kMaster) {
    // Its children end with it.
    std::vector<int64_t> pids;
    for (const auto& [child, node] : nodes_) {
      if (!guests_.contains(node->process.name())) pids.push_back(child);
    }
    for (const auto& [child, starting] : starting_) {
      if (!guests_.contains(starting.name)) pids.push_back(child);
    }
    for (const int64_t child : pids) End(child, "signal 9", 137);
  }
  if (const auto retired = retired_.extract(what.name)) {
    return WatchRetired(what, retired.mapped());
  }
  if (IsKeptFromOutside(what)) {
    scheduler_.After(DrawExponential(chance_, scenario_.restart_delay), [this, what] {
      if (!PidOf(what.name)) Spawn(what.kind, what.name);
    });
    return;
  }
  if (SimNode* master = master_node()) {
    const Duration later(static_cast<int64_t>(chance_.Below(5000)));
    master->process.Post(later, [brain = this->master(), name = what.name, pid, how, code] {
      brain->OnNodeExit({.name = name, .pid = pid, .how = how, .code = code});
    });
  }
}

SimNode* SimCluster::master_node() const {
  for (const auto& [pid, node] : nodes_) {
    if (node->kind == NodeKind::kMaster && node->process.alive()) return node.get();
  }
  return nullptr;
}

master::MasterNode* SimCluster::master() const {
  SimNode* node = master_node();
  return node == nullptr ? nullptr : &static_cast<MasterLife*>(node)->brain;
}

std::vector<SimCluster::Server> SimCluster::Servers() const {
  std::vector<Server> servers;
  for (const auto& [pid, node] : nodes_) {
    if (node->kind != NodeKind::kPs || !node->process.alive()) continue;
    servers.push_back({node->process.name(), &static_cast<const PsLife*>(node.get())->brain});
  }
  return servers;
}

const ps::PsNode* SimCluster::FindServer(const std::string& name,
                                         protocol::Incarnation incarnation) const {
  for (const Server& server : Servers()) {
    if (server.name == name && server.brain->incarnation() == incarnation) return server.brain;
  }
  return nullptr;
}

std::vector<int64_t> SimCluster::Pids(NodeKind kind) const {
  std::vector<int64_t> pids;
  for (const auto& [pid, node] : nodes_) {
    if (node->kind == kind && node->process.alive()) pids.push_back(pid);
  }
  return pids;
}

SimNode* SimCluster::Find(int64_t pid) const {
  const auto found = nodes_.find(pid);
  return found == nodes_.end() ? nullptr : found->second.get();
}

std::vector<std::string> SimCluster::Names() const {
  std::vector<std::string> names;
  for (const auto& [pid, node] : nodes_) names.push_back(node->process.name());
  return names;
}

void SimCluster::Calm() {
  Log("no more faults");
  network_.times = scenario_.CalmNetwork();
  network_.HealAll();
  work_.slow_chance = 0;
  disk_faults_ = {};
  // A damage that is found when the job is over is not learnt again.
  for (auto& [name, disk] : disks_) disk.damaged.clear();
  for (const auto& [pid, node] : nodes_) node->process.Resume();
}

}  // namespace freshet::sim
