// SPDX-License-Identifier: Apache-2.0
// freshet_sim: runs the simulator over a range of seeds; a failing one is named with how to replay it.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/config.h"
#include "base/log.h"
#include "tests/sim/sim_run.h"
#include "transport/malloc_tuning.h"
#include "transport/system_clock.h"

namespace freshet::sim {
namespace {

struct SimConfig {
  uint64_t seeds = 500;
  uint64_t from = 1;
  std::string faults = "all";
  bool verbose = false;
  bool messages = false;
  bool twice = false;
  uint32_t max_failures = 10;

  void Declare(base::ConfigFields& fields) {
    fields.Add("seeds", &seeds, {.min = 1}, "how many seeds to run");
    fields.Add("from", &from, "the first seed");
    fields.Add("faults", &faults,
               "faults that may come, separated by commas; a level (none, network, workers, "
               "servers, all) or single ones (loss, kill_ps, ..)");
    fields.Add("verbose", &verbose, "print what happens");
    fields.Add("messages", &messages, "print every packet too");
    fields.Add("twice", &twice, "run each seed twice and compare");
    fields.Add("max_failures", &max_failures, {.min = 1}, "stop after so many failing seeds");
  }
};

struct Totals {
  uint64_t seeds = 0;
  uint64_t failures = 0;
  uint64_t events = 0;
  uint64_t faults = 0;
  uint64_t packets = 0;
  uint64_t disturbed = 0;
  uint64_t checkpoints = 0;
  base::Duration virtual_time{};
  base::Duration slowest{};

  void Add(const RunResult& result) {
    ++seeds;
    events += result.events;
    faults += result.faults;
    packets += result.network.sent;
    disturbed +=
        result.network.lost + result.network.cut + result.network.doubled + result.network.refused;
    checkpoints += result.checkpoints;
    virtual_time += result.virtual_time;
    slowest = std::max(slowest, result.after_faults);
  }
};

double Seconds(base::Duration duration) { return static_cast<double>(duration.count()) / 1e6; }

void Report(const SimConfig& config, uint64_t seed, const std::string& violation) {
  std::printf(
      "seed %llu: VIOLATION: %s\n  replay: freshet_sim --from %llu --seeds 1 --faults %s "
      "--verbose\n",
      static_cast<unsigned long long>(seed), violation.c_str(),
      static_cast<unsigned long long>(seed), config.faults.c_str());
  std::fflush(stdout);
}

int RunAll(const SimConfig& config, const FaultSet& faults) {
  const Trace trace{config.verbose || config.messages, config.messages};
  if (!trace.events) base::SetLogLevel(base::LogLevel::kOff);
  const transport::SystemClock clock;
  const base::Instant began = clock.Now();
  Totals totals;
  for (uint64_t seed = config.from; seed < config.from + config.seeds; ++seed) {
    const RunResult result = RunSeed(seed, faults, trace);
    totals.Add(result);
    std::string violation = result.violation.value_or("");
    if (violation.empty() && config.twice && RunSeed(seed, faults, trace).digest != result.digest) {
      violation = "replay: the second run of this seed went another way";
    }
    if (violation.empty()) continue;
    Report(config, seed, violation);
    if (++totals.failures >= config.max_failures) break;
  }
  const double elapsed = std::max(Seconds(clock.Now() - began), 1e-6);
  fmt::print(
      "{} seeds, {} violations, {} faults, {} packets ({} lost, doubled or refused), {} "
      "checkpoints "
      "by hand, {} events, {:.0f} virtual s, at most {:.1f} s from the last fault to the end; "
      "{:.1f} s, {:.0f} seeds/s\n",
      totals.seeds, totals.failures, totals.faults, totals.packets, totals.disturbed,
      totals.checkpoints, totals.events, Seconds(totals.virtual_time), Seconds(totals.slowest),
      elapsed, static_cast<double>(totals.seeds) / elapsed);
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
