// SPDX-License-Identifier: Apache-2.0
// SimCluster: plans, as an operator asks for them.
#include <fmt/format.h>

#include <algorithm>

#include "tests/sim/sim_cluster.h"

namespace freshet::sim {

using base::Duration;

void SimCluster::StartPlan(const master::PlanRequest& request) {
  SimNode* node = master_node();
  if (node == nullptr) return;
  node->process.Post(Duration(0), [this, brain = master(), request] {
    const auto id = brain->AddPlan(request);
    Log(fmt::format("plan of kind {}, {} servers, {} workers, node '{}': {}",
                    static_cast<int>(request.kind), request.ps, request.workers, request.node,
                    id ? std::to_string(*id) : id.error().message));
  });
}

uint64_t SimCluster::LeavesForPlan(const SimNode& node) const {
  if (master() == nullptr) return 0;
  std::string name = node.process.name();
  // The master may have chosen a worker's name; and one that is free again is given again.
  bool known = false;
  for (const auto& [given, entry] : master()->nodes()) {
    if (entry.incarnation != node.incarnation() || entry.incarnation.value() == 0) continue;
    known = true;
    name = given;
  }
  if (!known && unnamed_workers_ && node.kind == NodeKind::kWorker) return 0;
  const auto& view = master()->view();
  const auto index = view.FindNode(name);
  for (const protocol::Place& place : view.places) {
    if (index && place.node == *index) return 0;
  }
  for (const master::PlanRecord& plan : master()->plans()) {
    const bool stands = plan.state == master::PlanState::kRunning ||
                        (plan.state == master::PlanState::kDone && !known);
    const auto& leaving = plan.leaving;
    if (stands && std::find(leaving.begin(), leaving.end(), name) != leaving.end()) return plan.id;
  }
  return 0;
}

// Whoever keeps nodes running does not start one again that left for a plan, unless the plan is given up.
void SimCluster::WatchRetired(const Starting& what, uint64_t plan) {
  scheduler_.After(std::chrono::milliseconds(500), [this, what, plan] {
    if (master() == nullptr) return WatchRetired(what, plan);
    for (const master::PlanRecord& record : master()->plans()) {
      if (record.id != plan || record.state == master::PlanState::kDone) continue;
      if (!record.ended()) return WatchRetired(what, plan);
      if (IsKeptFromOutside(what) && !PidOf(what.name)) Spawn(what.kind, what.name);
    }
  });
}

void SimCluster::CancelPlan() {
  SimNode* node = master_node();
  if (node == nullptr) return;
  node->process.Post(Duration(0), [this, brain = master()] {
    for (const master::PlanRecord& plan : brain->plans()) {
      if (plan.state >= master::PlanState::kDone) continue;
      const uint64_t id = plan.id;
      const auto cancelled = brain->CancelPlan(id);
      return Log(
          fmt::format("cancel plan {}: {}", id, cancelled ? "ok" : cancelled.error().message));
    }
  });
}

}  // namespace freshet::sim
