// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/fault_injector.h"

#include <algorithm>
#include <utility>

namespace freshet::sim {

using base::Duration;

namespace {

bool IsTimed(Fault fault) {
  return fault >= Fault::kKillWorker && fault != Fault::kDisk && fault != Fault::kCount;
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
    default: return;
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

void FaultInjector::PauseOne() {
  constexpr NodeKind kKinds[] = {NodeKind::kMaster, NodeKind::kPs, NodeKind::kWorker};
  const NodeKind kind = kKinds[random_.Below(3)];
  const int64_t pid = PickPid(kind);
  if (pid == 0) return;
  SimNode* node = cluster_.Find(pid);
  const Duration time = DrawExponential(random_, cluster_.scenario().pause_time);
  cluster_.Log(
      fmt::format("pause {} pid {} for {} ms", node->process.name(), pid, time.count() / 1000));
  node->process.Pause();
  const bool outside = cluster_.scenario().supervision == Supervision::kOutside;
  if (kind == NodeKind::kWorker && outside && random_.Chance(0.3)) {
    cluster_.StartTwin(node->process.name());
  }
  cluster_.scheduler().After(time, [this, pid] {
    SimNode* paused = cluster_.Find(pid);
    if (paused != nullptr) paused->process.Resume();
  });
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
