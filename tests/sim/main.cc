// SPDX-License-Identifier: Apache-2.0
// freshet_sim: runs the simulator over a range of seeds; a failing one is named with how to replay it.
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "tests/sim/sim_program.h"

namespace freshet::sim {
namespace {

struct SimConfig {
  SeedConfig seeds;
  bool messages = false;
  bool twice = false;
  uint32_t max_failures = 10;

  void Declare(base::ConfigFields& fields) {
    seeds.Declare(fields);
    fields.Add("messages", &messages, "with --verbose: print every packet too");
    fields.Add("twice", &twice, "run each seed twice and compare");
    fields.Add("max_failures", &max_failures, {.min = 1}, "stop after so many failing seeds");
  }
};

double Seconds(base::Duration duration) { return static_cast<double>(duration.count()) / 1e6; }

int RunAll(const SimConfig& config, const FaultSet& faults) {
  SeedRange range;
  range.from = config.seeds.from;
  range.seeds = config.seeds.seeds;
  range.faults = faults;
  range.trace = {config.seeds.verbose, config.messages};
  // What happens in two runs at a time cannot be read.
  range.jobs = range.trace.events ? 1 : config.seeds.jobs;
  range.max_failures = config.max_failures;
  range.twice = config.twice;
  const Totals totals = RunSeeds(range, [&config](uint64_t seed, const std::string& violation) {
    fmt::print(
        "seed {}: VIOLATION: {}\n  replay: freshet_sim --from {} --seeds 1 --faults {} "
        "--verbose\n",
        seed, violation, seed, config.seeds.faults);
    std::fflush(stdout);
  });
  const RunResult& sum = totals.sum;
  fmt::print(
      "{} seeds ({} to {}), {} violations, {} faults, {} packets ({} lost, doubled or refused), "
      "{} checkpoints by hand, {} backups restored, {} partitions moved, {} events, {:.0f} virtual "
      "s, at most {:.1f} s from the last fault to the end; {:.1f} s, {:.0f} seeds/s\n",
      totals.seeds, range.from, range.from + totals.seeds - 1, totals.failures, sum.faults,
      sum.network.sent,
      sum.network.lost + sum.network.cut + sum.network.doubled + sum.network.refused,
      sum.checkpoints, sum.restores, sum.moves, sum.events, Seconds(sum.virtual_time),
      Seconds(sum.after_faults), totals.elapsed_s,
      static_cast<double>(totals.seeds) / totals.elapsed_s);
  return totals.failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace freshet::sim

int main(int argc, char** argv) {
  using namespace freshet;
  sim::SimConfig config;
  base::ConfigFields fields;
  config.Declare(fields);
  return sim::RunProgram(
      {"freshet_sim", "Simulates whole clusters under faults; one seed is one run."}, fields,
      config.seeds, {argc, argv},
      [&config](const sim::FaultSet& faults) { return sim::RunAll(config, faults); });
}
