// SPDX-License-Identifier: Apache-2.0
#include "master/plan.h"

#include <fmt/format.h>

#include "base/config.h"

namespace freshet::master {

std::string PlanKindName(PlanKind kind) {
  switch (kind) {
    case PlanKind::kScale: return "scale";
    case PlanKind::kMigrate: return "migrate";
    case PlanKind::kDrain: return "drain";
    case PlanKind::kRebalance: return "rebalance";
    case PlanKind::kJoin: return "join";
    case PlanKind::kEvenLoad: return "even-load";
    case PlanKind::kRelieve: return "relieve";
  }
  return "unknown";
}

std::string PlanStateName(PlanState state) {
  switch (state) {
    case PlanState::kQueued: return "queued";
    case PlanState::kRunning: return "running";
    case PlanState::kDone: return "done";
    case PlanState::kFailed: return "failed";
    case PlanState::kCancelled: return "cancelled";
  }
  return "unknown";
}

std::string PlanText(const PlanRequest& request) {
  std::string text = PlanKindName(request.kind);
  if (!request.node.empty()) text += " " + request.node;
  if (request.ps > 0) text += fmt::format(" --ps {}", request.ps);
  if (request.workers > 0) text += fmt::format(" --workers {}", request.workers);
  if (request.processors > 0) text += fmt::format(" --cpu {}", request.processors);
  if (request.memory_bytes > 0) {
    text += " --memory " + base::FormatByteSize({request.memory_bytes});
  }
  return text;
}

}  // namespace freshet::master
