// SPDX-License-Identifier: Apache-2.0
// One seed, from an empty disk to the end of its job.
#pragma once

#include "tests/sim/checker.h"
#include "tests/sim/scenario.h"
#include "tests/sim/trace.h"

namespace freshet::sim {

struct RunResult {
  Violation violation;
  uint64_t events = 0;
  uint64_t digest = 0;
  uint64_t faults = 0;
  uint64_t checkpoints = 0;
  uint64_t restores = 0;
  uint64_t moves = 0;  // of partitions, each compared at its commit
  NetworkCounts network;
  base::Duration virtual_time{};
  base::Duration after_faults{};  // from the last fault to the end

  // Sums, and the longest time; the violation stays as it is.
  void Add(const RunResult& other);
};

RunResult RunSeed(uint64_t seed, const FaultSet& faults, const Trace& trace);

}  // namespace freshet::sim
