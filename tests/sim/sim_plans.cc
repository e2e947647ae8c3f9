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

bool SimCluster::LeavesForPlan(const std::string& name) {
  if (master() == nullptr) return false;
  const auto& view = master()->view();
  const auto index = view.FindNode(name);
  for (const protocol::Place& place : view.places) {
    if (index && place.node == *index) return false;
  }
  const auto& plans = master()->plans();
  return std::any_of(plans.begin(), plans.end(), [&](const master::PlanRecord& plan) {
    return std::find(plan.leaving.begin(), plan.leaving.end(), name) != plan.leaving.end();
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
