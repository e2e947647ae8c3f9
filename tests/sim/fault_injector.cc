// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/fault_injector.h"

#include <algorithm>
#include <utility>

namespace freshet::sim {

using base::Duration;

namespace {

constexpr size_t kMostServers = 5;

bool IsTimed(Fault fault) {
  return fault >= Fault::kKillWorker && fault != Fault::kDisk && fault != Fault::kCrash;
}

}  // namespace

void FaultInjector::Start() {
  for (size_t f = 0; f < kFaults; ++f) {
    const auto fault = static_cast<Fault>(f);
    if (IsTimed(fault) && cluster_.scenario().Has(fault)) ScheduleNext(fault);
  }
  cluster_.scheduler().After(cluster_.scenario().faults_end, [this] { Stop(); });
}

void FaultInjector::Stop() {
  if (stopped_) return;
  stopped_ = true;
  cluster_.Calm();
}

void FaultInjector::ScheduleNext(Fault fault) {
  const Duration mean = cluster_.scenario().fault_interval[static_cast<size_t>(fault)];
  cluster_.scheduler().After(DrawExponential(random_, mean), [this, fault] {
    if (stopped_) return;
    Inject(fault);
    ScheduleNext(fault);
  });
}

void FaultInjector::Inject(Fault fault) {
  ++injected_;
  switch (fault) {
    case Fault::kKillWorker: return KillOne(NodeKind::kWorker);
    case Fault::kDrainWorker: return DrainOne(NodeKind::kWorker);
    case Fault::kKillPs: return KillOne(NodeKind::kPs);
    case Fault::kDrainPs: return DrainOne(NodeKind::kPs);
    case Fault::kKillMaster: return KillOne(NodeKind::kMaster);
    case Fault::kKillAll: return cluster_.KillAll();
    case Fault::kPause: return PauseOne();
    case Fault::kCut: return CutOne();
    case Fault::kSlow: return SlowOne();
    case Fault::kRot: return DamageOne();
    case Fault::kStop: return cluster_.Stop();
    case Fault::kPlan: return cluster_.scenario().focus_on_moves ? SendAway() : StartPlan();
    case Fault::kJoin:
      if (cluster_.disks().size() < kMostServers) cluster_.JoinServer();
      return;
    default: return;
  }
}

void FaultInjector::StartPlan() {
  if (random_.Chance(0.2)) return cluster_.CancelPlan();
  const Scenario& scenario = cluster_.scenario();
  master::PlanRequest plan;
  plan.kind = static_cast<master::PlanKind>(1 + random_.Below(4));
  switch (plan.kind) {
    case master::PlanKind::kScale:
      plan.ps = 1 + static_cast<uint32_t>(random_.Below(std::min(4u, scenario.partitions)));
      if (random_.Chance(0.5)) plan.workers = 1 + static_cast<uint32_t>(random_.Below(4));
      if (plan.workers > 0 && random_.Chance(0.3)) plan.ps = 0;
      break;
    case master::PlanKind::kMigrate:
    case master::PlanKind::kDrain: {
      const bool server = plan.kind == master::PlanKind::kMigrate || random_.Chance(0.7);
      const SimNode* node = cluster_.Find(PickPid(server ? NodeKind::kPs : NodeKind::kWorker));
      if (node == nullptr) return;
      plan.node = node->process.name();
      break;
    }
    default: break;
  }
  cluster_.StartPlan(plan);
}

// Everything begins to leave a server, and is called back at any moment; what had gone comes back, or the
// rest is sent away once more.
void FaultInjector::SendAway() {
  const SimNode* node = cluster_.Find(PickPid(NodeKind::kPs));
  if (node == nullptr) return;
  master::PlanRequest away;
  away.kind = master::PlanKind::kDrain;
  away.node = node->process.name();
  master::PlanRequest back;
  back.kind = master::PlanKind::kRebalance;
  const master::PlanRequest next = random_.Chance(0.5) ? away : back;
  cluster_.StartPlan(away);
  const Duration cancelled = DrawExponential(random_, std::chrono::milliseconds(150));
  const Duration again =
      cancelled + DrawExponential(random_, std::chrono::milliseconds(random_.Chance(0.5) ? 1 : 50));
  cluster_.scheduler().After(cancelled, [this] { cluster_.CancelPlan(); });
  cluster_.scheduler().After(again, [this, next] { cluster_.StartPlan(next); });
  if (random_.Chance(0.3)) {
    cluster_.scheduler().After(again + cancelled, [this] { cluster_.CancelPlan(); });
  }
}

int64_t FaultInjector::PickPid(NodeKind kind) {
  const auto pids = cluster_.Pids(kind);
  return pids.empty() ? 0 : pids[random_.Below(pids.size())];
}

void FaultInjector::KillOne(NodeKind kind) {
  if (const int64_t pid = PickPid(kind); pid != 0) cluster_.Kill(pid);
}

void FaultInjector::DrainOne(NodeKind kind) {
  if (const int64_t pid = PickPid(kind); pid != 0) cluster_.Drain(pid);
}

int64_t FaultInjector::PickAny() {
  constexpr NodeKind kKinds[] = {NodeKind::kMaster, NodeKind::kPs, NodeKind::kWorker};
  return PickPid(kKinds[random_.Below(3)]);
}

void FaultInjector::PauseOne() {
  const int64_t pid = PickAny();
  if (pid == 0) return;
  SimNode* node = cluster_.Find(pid);
  const Duration time = DrawExponential(random_, cluster_.scenario().pause_time);
  cluster_.Log(
      fmt::format("pause {} pid {} for {} ms", node->process.name(), pid, time.count() / 1000));
  node->process.Pause();
  const bool outside = cluster_.scenario().supervision == Supervision::kOutside;
  if (node->kind == NodeKind::kWorker && outside && random_.Chance(0.3)) {
    cluster_.StartTwin(node->process.name());
  }
  cluster_.scheduler().After(time, [this, pid] {
    SimNode* paused = cluster_.Find(pid);
    if (paused != nullptr) paused->process.Resume();
  });
}

// As with a neighbour that takes the processor: it runs a little, then waits longer.
void FaultInjector::SlowOne() {
  const int64_t pid = PickAny();
  if (pid == 0) return;
  const Duration time = DrawExponential(random_, cluster_.scenario().pause_time * 2);
  cluster_.Log(fmt::format("pid {} is slow for {} ms", pid, time.count() / 1000));
  SlowTurn(pid, cluster_.scheduler().now() + time);
}

void FaultInjector::SlowTurn(int64_t pid, Duration until) {
  SimNode* node = cluster_.Find(pid);
  if (node == nullptr || stopped_ || cluster_.scheduler().now() > until) return;
  node->process.Pause();
  const Duration away = DrawExponential(random_, std::chrono::milliseconds(40));
  cluster_.scheduler().After(away, [this, pid, until] {
    SimNode* slow = cluster_.Find(pid);
    if (slow == nullptr) return;
    slow->process.Resume();
    const Duration here = DrawExponential(random_, std::chrono::milliseconds(10));
    cluster_.scheduler().After(here, [this, pid, until] { SlowTurn(pid, until); });
  });
}

void FaultInjector::DamageOne() {
  std::vector<std::string> names;
  for (const auto& [name, disk] : cluster_.disks()) {
    if (!disk.images.empty()) names.push_back(name);
  }
  if (names.empty()) return;
  const std::string& name = names[random_.Below(names.size())];
  SimDisk& disk = cluster_.disk(name);
  const auto image =
      std::next(disk.images.begin(), static_cast<ptrdiff_t>(random_.Below(disk.images.size())));
  const size_t at = random_.Below(image->second.size());
  cluster_.Log(
      fmt::format("image {} of partition {} of {} is damaged", at, image->first.value(), name));
  const auto [known, first] = disk.damaged.emplace(image->first, at);
  if (!first) known->second = std::min(known->second, at);
}

void FaultInjector::CutOne() {
  auto names = cluster_.Names();
  if (names.size() < 2) return;
  const std::string a = names[random_.Below(names.size())];
  const std::string b = names[random_.Below(names.size())];
  if (a == b) return;
  const Duration time = DrawExponential(random_, cluster_.scenario().cut_time);
  const bool both = random_.Chance(0.6);
  cluster_.Log(
      fmt::format("cut {} {} {} for {} ms", a, both ? "<->" : "->", b, time.count() / 1000));
  cluster_.network().Cut(a, b);
  if (both) cluster_.network().Cut(b, a);
  cluster_.scheduler().After(time, [this, a, b, both] {
    cluster_.network().Heal(a, b);
    if (both) cluster_.network().Heal(b, a);
  });
}

}  // namespace freshet::sim
