// SPDX-License-Identifier: Apache-2.0
// freshet_sim: runs the simulator over a range of seeds; a failing one is named with how to replay it.
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "base/config.h"
#include "base/log.h"
#include "tests/sim/seed_runner.h"
#include "transport/malloc_tuning.h"

namespace freshet::sim {
namespace {

struct SimConfig {
  uint64_t seeds = 500;
  uint64_t from = 1;
  uint32_t jobs = 1;
  std::string faults = "all";
  bool verbose = false;
  bool messages = false;
  bool twice = false;
  uint32_t max_failures = 10;

  void Declare(base::ConfigFields& fields) {
    fields.Add("seeds", &seeds, {.min = 1}, "how many seeds to run");
    fields.Add("from", &from, "the first seed");
    fields.Add("jobs", &jobs, {.min = 1, .max = 256}, "so many seeds at a time");
    fields.Add("faults", &faults,
               "faults that may come, separated by commas; a level (none, network, workers, "
               "servers, all) or single ones (loss, kill_ps, ..)");
    fields.Add("verbose", &verbose, "print what happens");
    fields.Add("messages", &messages, "print every packet too");
    fields.Add("twice", &twice, "run each seed twice and compare");
    fields.Add("max_failures", &max_failures, {.min = 1}, "stop after so many failing seeds");
  }
};

double Seconds(base::Duration duration) { return static_cast<double>(duration.count()) / 1e6; }

int RunAll(const SimConfig& config, const FaultSet& faults) {
  SeedRange range;
  range.from = config.from;
  range.seeds = config.seeds;
  range.faults = faults;
  range.trace = {config.verbose || config.messages, config.messages};
  // What happens in two runs at a time cannot be read.
  range.jobs = range.trace.events ? 1 : config.jobs;
  range.max_failures = config.max_failures;
  range.twice = config.twice;
  if (!range.trace.events) base::SetLogLevel(base::LogLevel::kOff);
  const Totals totals = RunSeeds(range, [&config](uint64_t seed, const std::string& violation) {
    fmt::print(
        "seed {}: VIOLATION: {}\n  replay: freshet_sim --from {} --seeds 1 --faults {} "
        "--verbose\n",
        seed, violation, seed, config.faults);
    std::fflush(stdout);
  });
  const RunResult& sum = totals.sum;
  fmt::print(
      "{} seeds ({} to {}), {} violations, {} faults, {} packets ({} lost, doubled or refused), "
      "{} checkpoints by hand, {} backups restored, {} events, {:.0f} virtual s, at most {:.1f} s "
      "from the last fault to the end; {:.1f} s, {:.0f} seeds/s\n",
      totals.seeds, config.from, config.from + totals.seeds - 1, totals.failures, sum.faults,
      sum.network.sent,
      sum.network.lost + sum.network.cut + sum.network.doubled + sum.network.refused,
      sum.checkpoints, sum.restores, sum.events, Seconds(sum.virtual_time),
      Seconds(sum.after_faults), totals.elapsed_s,
      static_cast<double>(totals.seeds) / totals.elapsed_s);
  return totals.failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace freshet::sim

int main(int argc, char** argv) {
  using namespace freshet;
  transport::TuneMallocForFrames();
  sim::SimConfig config;
  base::ConfigFields fields;
  config.Declare(fields);
  base::ConfigOptions about;
  about.program = "freshet_sim";
  about.description = "Simulates whole clusters under faults; one seed is one run.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  const auto faults = sim::ParseFaults(config.faults);
  if (!faults) {
    std::fprintf(stderr, "freshet_sim: %s\n", faults.error().message.c_str());
    return base::ExitCodeFor(faults.error().code);
  }
  return sim::RunAll(config, *faults);
}
