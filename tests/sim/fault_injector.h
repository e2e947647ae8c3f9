// SPDX-License-Identifier: Apache-2.0
// FaultInjector: does to a cluster what its scenario says, until the faults end.
#pragma once

#include "tests/sim/sim_cluster.h"

namespace freshet::sim {

class FaultInjector {
 public:
  explicit FaultInjector(SimCluster& cluster)
      : cluster_(cluster), random_(base::Mix64(cluster.scenario().seed ^ 0xFA17)) {}

  void Start();
  // At the scenario's time, or earlier when the job is over.
  void Stop();
  bool stopped() const { return stopped_; }
  uint64_t injected() const { return injected_; }

 private:
  void ScheduleNext(Fault fault);
  void Inject(Fault fault);
  void KillOne(NodeKind kind);
  void DrainOne(NodeKind kind);
  void PauseOne();
  void SlowOne();
  void SlowTurn(int64_t pid, base::Duration until);
  void DamageOne();
  void StartPlan();
  void SendAway();
  void CutOne();
  int64_t PickPid(NodeKind kind);
  int64_t PickAny();

  SimCluster& cluster_;
  base::Random random_;
  bool stopped_ = false;
  uint64_t injected_ = 0;
};

}  // namespace freshet::sim
