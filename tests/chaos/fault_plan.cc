// SPDX-License-Identifier: Apache-2.0
#include "tests/chaos/fault_plan.h"

#include <utility>

#include "base/random.h"

namespace freshet::chaos {

using std::chrono::milliseconds;

namespace {

struct Weight {
  FaultKind kind;
  uint32_t parts;
};
constexpr Weight kKills[] = {{FaultKind::kKillPs, 5},
                             {FaultKind::kKillWorker, 4},
                             {FaultKind::kKillMaster, 3},
                             {FaultKind::kKillSupervisor, 1},
                             {FaultKind::kKillAll, 1}};
constexpr Weight kStops[] = {
    {FaultKind::kStopPs, 1}, {FaultKind::kStopWorker, 1}, {FaultKind::kStopMaster, 1}};

template <size_t N>
FaultKind Draw(const Weight (&weights)[N], base::Random& random) {
  uint64_t sum = 0;
  for (const Weight& weight : weights) sum += weight.parts;
  uint64_t at = random.Below(sum);
  for (const Weight& weight : weights) {
    if (at < weight.parts) return weight.kind;
    at -= weight.parts;
  }
  return weights[0].kind;
}

milliseconds Between(base::Random& random, uint64_t least, uint64_t most) {
  return milliseconds(static_cast<int64_t>(least + random.Below(most - least + 1)));
}

// A cluster that is taken down, or killed as a whole, is brought up by hand at once.
bool MayOverlap(FaultKind kind) {
  return kind != FaultKind::kRestart && kind != FaultKind::kKillAll &&
         kind != FaultKind::kKillSupervisor;
}

}  // namespace

std::string NameOf(FaultKind kind) {
  switch (kind) {
    case FaultKind::kKillPs: return "kill ps";
    case FaultKind::kKillWorker: return "kill worker";
    case FaultKind::kKillMaster: return "kill master";
    case FaultKind::kKillSupervisor: return "kill supervisor";
    case FaultKind::kKillAll: return "kill all";
    case FaultKind::kStopPs: return "stop ps";
    case FaultKind::kStopWorker: return "stop worker";
    case FaultKind::kStopMaster: return "stop master";
    case FaultKind::kRestart: return "down and up";
    case FaultKind::kFullDisk: return "disk full";
  }
  return "unknown";
}

std::vector<Fault> DrawPlan(const PlanOptions& options) {
  base::Random random(options.seed);
  std::vector<FaultKind> kinds;
  for (uint32_t i = 0; i < options.kills; ++i) kinds.push_back(Draw(kKills, random));
  for (uint32_t i = 0; i < (options.kills + 7) / 8; ++i) kinds.push_back(Draw(kStops, random));
  for (uint32_t i = 0; i < (options.kills + 39) / 40; ++i) kinds.push_back(FaultKind::kRestart);
  for (uint32_t i = 0; options.disk && i < options.kills / 20; ++i) {
    kinds.push_back(FaultKind::kFullDisk);
  }
  for (size_t i = kinds.size(); i > 1; --i) std::swap(kinds[i - 1], kinds[random.Below(i)]);
  // A store that is young grows, and misses the room at once.
  if (options.disk) kinds.insert(kinds.begin(), FaultKind::kFullDisk);
  kinds.insert(kinds.end(), options.all_kills, FaultKind::kKillAll);

  std::vector<Fault> plan;
  for (const FaultKind kind : kinds) {
    Fault fault;
    fault.kind = kind;
    fault.kills_too = random.Chance(0.5);
    const bool worker = kind == FaultKind::kKillWorker || kind == FaultKind::kStopWorker;
    fault.number = static_cast<uint32_t>(random.Below(worker ? options.workers : options.ps));
    fault.pause = Between(random, 20, 500);
    fault.hold =
        kind == FaultKind::kFullDisk ? Between(random, 600, 1500) : Between(random, 50, 1500);
    fault.overlaps = random.Chance(0.25) && MayOverlap(kind);
    plan.push_back(fault);
  }
  // What comes at once after an overlapping fault must not be a drained stop: that waits for all.
  for (size_t i = 0; i < plan.size(); ++i) {
    const bool last = i + 1 == plan.size();
    if (last || plan[i + 1].kind == FaultKind::kRestart) plan[i].overlaps = false;
  }
  return plan;
}

}  // namespace freshet::chaos
