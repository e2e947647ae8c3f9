// SPDX-License-Identifier: Apache-2.0
// Many seeds, some at a time, with their progress on stderr. One seed's run is one thread's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tests/sim/sim_run.h"

namespace freshet::sim {

struct SeedRange {
  uint64_t from = 1;
  uint64_t seeds = 1;
  uint32_t jobs = 1;
  FaultSet faults;
  Trace trace;
  bool twice = false;  // each seed, and compare
  uint64_t max_failures = UINT64_MAX;
};

struct Totals {
  uint64_t seeds = 0;
  uint64_t failures = 0;
  RunResult sum;
  double elapsed_s = 0;
};

// `on_violation` is called once per failing seed, in the order in which they end.
using ViolationHandler = std::function<void(uint64_t seed, const std::string& violation)>;
Totals RunSeeds(const SeedRange& range, const ViolationHandler& on_violation);

}  // namespace freshet::sim
