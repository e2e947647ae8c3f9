// SPDX-License-Identifier: Apache-2.0
// MasterNode: its own start, the processes of the nodes (started, adopted, missed, killed), and the end
// of them all.
#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "master/master_node.h"

namespace freshet::master {

using base::ErrorCode;
using base::Result;
using protocol::LogPurpose;
using protocol::Role;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// Within this time whoever lives has found a restarted master again, and has told it what it holds.
constexpr milliseconds kReunion{1500};
// Workers that joined by themselves are forgotten when they have been lost for so long.
constexpr std::chrono::hours kGuestMemory{1};
// A server opens its images before it speaks for the first time.
constexpr int kStartPatience = 4;

double InSeconds(base::Duration duration) { return static_cast<double>(duration.count()) / 1e6; }

}  // namespace

void MasterNode::Start() {
  started_ = sampled_ = runtime_.clock.Now();
  if (auto loaded = LoadState(); !loaded) {
    return Exit(base::ExitCodeFor(loaded.error().code), loaded.error().message);
  }
  if (!Save()) return;
  sender_ = {state_.cluster, protocol::Incarnation()};
  progress_ = std::make_unique<ProgressBook>(options_.partitions);
  load_ = std::make_unique<LoadWatch>(options_.partitions, options_.balance);
  leases_ = std::make_unique<LeaseBook>(options_.partitions, state_.boot);
  for (const protocol::LogSpec& spec : options_.job.logs) logs_[spec.log].spec = spec;
  RecallNodes();
  events_.ContinueAt(state_.boot << 32);
  events_.Add("master_started", "",
              fmt::format("cluster {:016x}, {} partitions, start {}", state_.cluster.value(),
                          options_.partitions, state_.boot));
  ProbeLogs(options_.job.logs);
  StartNodes();
  FollowConfiguration();
  BeginTicks();
}

Result<> MasterNode::LoadState() {
  const auto loaded = store_.Load();
  if (!loaded) {
    return base::Fail(loaded.error().code,
                      "cannot read the cluster's state: " + loaded.error().message);
  }
  if (*loaded) {
    auto state = DecodeClusterState(**loaded, "the cluster's state");
    if (!state) return base::Fail(state.error().code, state.error().message);
    state_ = std::move(*state);
    if (auto same = CheckSameJob(); !same) return same;
  } else {
    state_.cluster = protocol::ClusterId(runtime_.random.Next() | 1);
    state_.view.number = protocol::ViewNumber(1);
    state_.view.places.resize(options_.partitions);
    state_.view.tables.push_back({protocol::kAuditTable, protocol::AuditTableSchema()});
  }
  state_.job = options_.job;
  ++state_.boot;
  RecallServers();
  return {};
}

// A new cluster has what the configuration says, a restored one the servers of its view.
void MasterNode::RecallServers() {
  if (state_.configured_ps != 0 && state_.placed) return;
  state_.servers.clear();
  state_.workers.clear();
  state_.configured_ps = options_.ps;
  state_.configured_workers = options_.workers;
  state_.next_ps = options_.ps;
  for (uint32_t i = 0; i < options_.workers; ++i) {
    state_.workers.push_back(fmt::format("worker-{}", i));
  }
  if (!state_.placed) return;
  for (const protocol::ViewNode& node : state_.view.nodes) state_.servers.push_back(node.name);
  state_.next_ps = std::max(state_.next_ps, static_cast<uint32_t>(state_.servers.size()));
}

size_t MasterNode::WantedServers() const {
  size_t wanted = state_.placed ? state_.servers.size() : options_.ps;
  for (const PlanRecord& plan : state_.plans) {
    if (!plan.ended() && plan.request.ps > 0) wanted = plan.request.ps;
  }
  return wanted;
}

size_t MasterNode::WantedWorkers() const {
  size_t wanted = state_.workers.size();
  for (const PlanRecord& plan : state_.plans) {
    if (!plan.ended() && plan.request.workers > 0) wanted = plan.request.workers;
  }
  return wanted;
}

// Other numbers than the last time are a plan like any other.
void MasterNode::FollowConfiguration() {
  PlanRequest request;
  if (options_.ps != state_.configured_ps) request.ps = options_.ps;
  if (options_.workers != state_.configured_workers) request.workers = options_.workers;
  if (request == PlanRequest() || !launcher_.manages_processes()) return;
  if (auto added = plans_.Add(request); !added) {
    FRESHET_LOG_WARN("the configuration's numbers are not followed: {}", added.error().message);
    return events_.Add("configuration_ignored", "", added.error().message);
  }
  state_.configured_ps = options_.ps;
  state_.configured_workers = options_.workers;
}

// What the rows and applied sets of this cluster were made from cannot become something else.
Result<> MasterNode::CheckSameJob() const {
  const auto refuse = [](const std::string& what) {
    return base::Fail(ErrorCode::kConflict,
                      "this directory holds a cluster with other settings: " + what +
                          "; set it back, or choose another directory for a new cluster");
  };
  if (options_.partitions != state_.view.partitions()) {
    return refuse(
        fmt::format("partitions was {}, not {}", state_.view.partitions(), options_.partitions));
  }
  if (options_.job.seed != state_.job.seed) {
    return refuse(fmt::format("seed was {}, not {}", state_.job.seed, options_.job.seed));
  }
  for (const protocol::LogSpec& before : state_.job.logs) {
    if (before.purpose != LogPurpose::kTrain) continue;
    const auto& logs = options_.job.logs;
    const auto now = std::find_if(logs.begin(), logs.end(), [&](const protocol::LogSpec& spec) {
      return spec.log == before.log;
    });
    if (now == logs.end()) return refuse("it also trained on " + before.path);
    if (now->path != before.path) return refuse("data was " + before.path + ", not " + now->path);
    if (now->schema != before.schema) {
      return refuse("schema was " + before.schema + ", not " + now->schema);
    }
    if (now->features != before.features) {
      return refuse("the schema " + now->schema +
                    " made other features of a record than it does now; its file was changed");
    }
    if (now->epochs < before.epochs) {
      return refuse(fmt::format("epochs was {}, not {}", before.epochs, now->epochs));
    }
  }
  return {};
}

void MasterNode::RecallNodes() {
  for (const KnownNode& known : state_.nodes) {
    Node& node = nodes_[known.name];
    node.role = known.role;
    node.name = known.name;
    node.incarnation = known.incarnation;
    node.process = known.process;
    node.pid = known.pid;
    node.restarts = known.restarts;
    node.launched = known.launched;
    node.awaited = known.pid != 0;
    node.state = known.pid != 0 ? "lost" : "stopped";
    node.last_heard = node.started = started_;
    node.sampled_units.reset();
    node.noted_images.reset();
  }
}

void MasterNode::StartNodes() {
  if (!launcher_.manages_processes()) return;
  std::set<std::string> wanted;
  for (uint32_t i = 0; i < options_.ps && !state_.placed; ++i) {
    wanted.insert(fmt::format("ps-{}", i));
  }
  wanted.insert(state_.servers.begin(), state_.servers.end());
  wanted.insert(state_.workers.begin(), state_.workers.end());
  // Who joined by itself is started again by whoever started it.
  std::erase_if(wanted, [this](const std::string& name) {
    const auto known = nodes_.find(name);
    return known != nodes_.end() && !known->second.launched;
  });
  // Those that own partitions are needed whatever the configuration says now.
  for (const protocol::Place& place : state_.view.places) {
    if (place.node >= state_.view.nodes.size()) continue;
    const std::string& owner = state_.view.nodes[place.node].name;
    const auto known = nodes_.find(owner);
    if (known == nodes_.end() || known->second.launched) wanted.insert(owner);
  }
  // Children of a master before us that had not yet said hello to it.
  for (uint32_t i = 0; i < state_.next_ps; ++i) {
    const std::string name = fmt::format("ps-{}", i);
    if (wanted.contains(name) || nodes_.contains(name) || !AdoptNode(name)) continue;
    plans_.LetGo(name);
  }
  std::vector<std::string> gone;
  for (const auto& [name, node] : nodes_) {
    if (!node.launched || wanted.contains(name)) continue;
    if (!AdoptNode(name)) {
      gone.push_back(name);
    } else if (!plans_.WillLeave(name)) {
      plans_.LetGo(name);  // a plan that runs lets its own go when they own nothing any more
    }
  }
  for (const std::string& name : gone) {
    nodes_.erase(name);
    std::erase_if(state_.nodes, [&](const KnownNode& known) { return known.name == name; });
  }
  for (const std::string& name : wanted) {
    if (AdoptNode(name)) continue;
    Node& node = nodes_[name];
    if (node.launched && node.pid != 0) {
      ++node.restarts;
      events_.Add("node_exited", name,
                  fmt::format("pid {}: ended while the master was away", node.pid));
    }
    Launch(name);
  }
}

NodeSpec MasterNode::SpecOf(const std::string& name) const {
  const bool ps = name.starts_with("ps-");
  NodeSpec spec{name, ps ? NodeRole::kPs : NodeRole::kWorker,
                ps ? options_.ps_args : options_.worker_args};
  const ServerResources* resources = state_.ResourcesOf(name);
  if (resources == nullptr) return spec;
  spec.processors = resources->processors;
  const auto limit = std::find(spec.extra_args.begin(), spec.extra_args.end(), "--memory-limit");
  if (resources->memory_bytes == 0) return spec;
  const std::string bytes = std::to_string(resources->memory_bytes);
  if (limit == spec.extra_args.end()) {
    spec.extra_args.insert(spec.extra_args.end(), {"--memory-limit", bytes});
  } else {
    *std::next(limit) = bytes;
  }
  return spec;
}

// Children do not end with a long-running cluster's master; its successor finds them again.
bool MasterNode::AdoptNode(const std::string& name) {
  const NodeSpec spec = SpecOf(name);
  const auto pid = launcher_.Adopt(spec);
  if (!pid) return false;
  Node& node = nodes_[name];
  node.name = name;
  node.role = spec.role == NodeRole::kPs ? Role::kPs : Role::kWorker;
  node.state = "adopted";
  node.launched = true;
  node.awaited = true;
  node.pid = *pid;
  node.started = node.last_heard = runtime_.clock.Now();
  events_.Add("node_adopted", name, fmt::format("pid {}", *pid));
  return true;
}

void MasterNode::Launch(const std::string& name) {
  if (plans_.Leaves(name)) return plans_.OnNodeGone(name);
  if (auto started = StartProcess(name); !started) {
    Fail("cannot start " + name + ": " + started.error().message);
  }
}

// The plan waits for it, and fails in time.
void MasterNode::LaunchForPlan(const std::string& name) {
  const auto started = StartProcess(name);
  if (started) return;
  events_.Add("node_failed", name, "cannot be started: " + started.error().message);
  nodes_.erase(name);
}

Result<> MasterNode::StartProcess(const std::string& name) {
  const NodeSpec spec = SpecOf(name);
  Node& node = nodes_[name];
  node.name = name;
  node.role = spec.role == NodeRole::kPs ? Role::kPs : Role::kWorker;
  node.state = "starting";
  node.launched = true;
  node.awaited = false;
  node.kill_asked = false;
  node.started = node.last_heard = runtime_.clock.Now();
  const auto pid = launcher_.Start(spec);
  if (!pid) return base::Fail(pid.error().code, pid.error().message);
  node.pid = *pid;
  events_.Add("node_started", name, fmt::format("pid {}", *pid));
  return {};
}

void MasterNode::OnNodeExit(const NodeExit& exit) {
  const auto it = nodes_.find(exit.name);
  if (it == nodes_.end() || it->second.pid != exit.pid) return;
  Node& node = it->second;
  node.connected = false;
  events_.Add("node_exited", node.name, fmt::format("pid {}: {}", exit.pid, exit.how));
  KeepCounts(node);
  node.worker = {};
  EndLeasesOf(node);
  node.state = "stopped";
  if (phase_ == Phase::kDraining) return CheckStopped();
  if (node.role == Role::kPs) plans_.OnServerLost(node.name);
  if (plans_.Leaves(exit.name)) return plans_.OnNodeGone(exit.name);
  if (phase_ == Phase::kFailed) return;
  const base::Instant now = runtime_.clock.Now();
  const bool quick = now - node.started < seconds(2);
  node.quick_exits = quick ? node.quick_exits + 1 : 0;
  if (exit.code == base::ExitCodeFor(ErrorCode::kInvalidArgument) ||
      node.quick_exits > options_.max_quick_restarts) {
    const std::string why =
        fmt::format("{} cannot be kept running ({}): see its log", node.name, exit.how);
    if (plans_.GiveUpJoining(exit.name, why)) return;
    return Fail(why);
  }
  if (node.role == Role::kPs) recoveries_.OnDeath(node.name, now, records_done_);
  ++node.restarts;
  node.state = "restarting";
  const auto delay = node.quick_exits == 0
                         ? milliseconds(0)
                         : std::min(milliseconds(5000), milliseconds(50 << node.quick_exits));
  restart_timers_[node.name] =
      runtime_.timers.After(delay, [this, name = node.name] { Launch(name); });
}

// What a worker process did stays counted when it is gone.
void MasterNode::KeepCounts(const Node& node) {
  gone_.steps += node.worker.steps;
  gone_.conflicts += node.worker.conflicts;
  gone_.already_applied += node.worker.already_applied;
}

void MasterNode::CheckNodes() {
  const base::Instant now = runtime_.clock.Now();
  for (auto& [name, node] : nodes_) {
    const base::Duration silence = now - node.last_heard;
    const bool expected =
        node.state == "running" || node.state == "adopted" || node.state == "excluded";
    if (expected && silence >= options_.node_timeout) MissNode(node, silence);
    KillIfHung(node, silence);
  }
  ForgetGuests();
}

void MasterNode::MissNode(Node& node, base::Duration silence) {
  node.state = "lost";
  EndLeasesOf(node);
  if (node.role == Role::kPs) {
    recoveries_.OnDeath(node.name, runtime_.clock.Now(), records_done_);
    plans_.OnServerLost(node.name);
  }
  events_.Add("node_lost", node.name,
              fmt::format("nothing heard for {:.1f} s", InSeconds(silence)));
}

// A process that hangs does not end by itself; only the launcher's own may be ended for it.
void MasterNode::KillIfHung(Node& node, base::Duration silence) {
  const bool silent = node.state == "lost" || node.state == "starting";
  if (!node.launched || !silent || node.kill_asked || node.pid == 0) return;
  if (phase_ == Phase::kDraining || phase_ == Phase::kFailed) return;
  const auto limit = std::max(options_.hung_timeout, options_.node_timeout) *
                     (node.state == "starting" ? kStartPatience : 1);
  if (silence < limit) return;
  node.kill_asked = true;
  events_.Add(
      "node_killed", node.name,
      fmt::format("pid {} hangs: nothing heard for {:.1f} s", node.pid, InSeconds(silence)));
  launcher_.Stop(node.name, StopMode::kKill);
}

void MasterNode::ForgetGuests() {
  const base::Instant now = runtime_.clock.Now();
  std::erase_if(nodes_, [&](const auto& entry) {
    const Node& node = entry.second;
    const bool guest = !node.launched && node.role == Role::kWorker && node.state == "lost";
    if (!guest || now - node.last_heard < kGuestMemory) return false;
    KeepCounts(node);
    std::erase_if(state_.nodes, [&](const KnownNode& known) { return known.name == node.name; });
    return true;
  });
}

// After a restart nobody else gets what a worker may still hold, until it has had the time to say so.
bool MasterNode::AwaitsHolders() const {
  if (runtime_.clock.Now() - started_ >= kReunion) return false;
  return std::any_of(nodes_.begin(), nodes_.end(), [](const auto& entry) {
    return entry.second.awaited && entry.second.role == Role::kWorker;
  });
}

void MasterNode::Stop(std::function<void(Result<>)> done) {
  stopped_.push_back(std::move(done));
  if (phase_ == Phase::kDraining) return;
  phase_ = Phase::kDraining;
  stop_deadline_ = runtime_.clock.Now() + options_.drain_timeout;
  for (auto& [name, timer] : restart_timers_) runtime_.timers.Cancel(timer);
  events_.Add("draining", "", "workers first, then servers");
  // Workers go first: they give their leases back and push nothing more, so that what the servers make
  // durable on their way out is everything.
  stopping_workers_ = true;
  AskToLeave(Role::kWorker);
  CheckStopped();
}

void MasterNode::AskToLeave(Role role) {
  for (const auto& [name, node] : nodes_) {
    if (node.role != role || !node.launched) continue;
    // Who hangs cannot be asked.
    launcher_.Stop(name, node.state == "lost" ? StopMode::kKill : StopMode::kDrain);
  }
}

// Nodes that nobody started for us are told with the answers to their heartbeats.
bool MasterNode::MustLeave(const Node& node) const {
  if (plans_.Leaves(node.name) && !node.launched) return true;
  return phase_ == Phase::kDraining && !node.launched &&
         (node.role == Role::kWorker || !stopping_workers_);
}

bool MasterNode::StillHere(const Node& node) const {
  if (node.launched) {
    return node.pid != 0 && node.state != "stopped" && node.state != "restarting";
  }
  const auto quiet = std::max<base::Duration>(options_.heartbeat * 10, seconds(1));
  return node.incarnation.value() != 0 && node.state != "stopped" &&
         runtime_.clock.Now() - node.last_heard < quiet;
}

void MasterNode::CheckStopped() {
  if (stopped_.empty()) return;
  const auto any = [this](Role role) {
    return std::any_of(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
      return entry.second.role == role && StillHere(entry.second);
    });
  };
  if (runtime_.clock.Now() > stop_deadline_) {
    FRESHET_LOG_WARN("some nodes did not leave in time: they are killed");
    for (const auto& [name, node] : nodes_) launcher_.Stop(name, StopMode::kKill);
    return EndStop(
        base::Fail(ErrorCode::kTimeout,
                   fmt::format("some nodes did not leave within {:.0f} s and were killed; "
                               "what they had not made durable is learnt again",
                               InSeconds(options_.drain_timeout))));
  }
  if (any(Role::kWorker)) return;
  if (stopping_workers_) {
    stopping_workers_ = false;
    return AskToLeave(Role::kPs);
  }
  if (!any(Role::kPs)) EndStop({});
}

// A node that left as it was asked to is not missed by the next master.
void MasterNode::EndStop(const Result<>& outcome) {
  for (KnownNode& known : state_.nodes) {
    const auto node = nodes_.find(known.name);
    if (node != nodes_.end() && !StillHere(node->second)) known.pid = 0;
  }
  std::erase_if(state_.nodes, [](const KnownNode& known) {
    return known.pid == 0 && !known.launched && known.role == Role::kWorker;
  });
  if (!Save()) return;
  for (auto& done : std::exchange(stopped_, {})) done(outcome);
}

Result<> MasterNode::StartBackup(std::shared_ptr<BackupWriter> writer) {
  if (phase_ == Phase::kDraining) {
    return base::Fail(ErrorCode::kUnavailable, "the cluster is being stopped");
  }
  return backup_.Start(std::move(writer));
}

Result<PlanRunner::Preview> MasterNode::CheckPlan(const PlanRequest& request) const {
  if (phase_ == Phase::kDraining || phase_ == Phase::kFailed) {
    return base::Fail(ErrorCode::kUnavailable, "the cluster is " + PhaseName(phase_));
  }
  return plans_.Check(request);
}

Result<uint64_t> MasterNode::AddPlan(const PlanRequest& request) {
  if (auto checked = CheckPlan(request); !checked) {
    return base::Fail(checked.error().code, checked.error().message);
  }
  return plans_.Add(request);
}

}  // namespace freshet::master
