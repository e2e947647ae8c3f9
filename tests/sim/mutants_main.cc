// SPDX-License-Identifier: Apache-2.0
// freshet_sim_mutants: the simulator over brains that break one rule at a time. A rule that can be broken
// without any seed noticing has no test: then the program fails.
#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <string>

#include "base/config.h"
#include "base/log.h"
#include "base/mutant.h"
#include "tests/sim/sim_run.h"

namespace freshet::sim {
namespace {

using base::Mutant;

struct Row {
  Mutant mutant;
  const char* name;
  const char* rule;
};

constexpr std::array<Row, 15> kRows = {{
    {Mutant::kRowsWithoutSet, "rows_without_set", "G1"},
    {Mutant::kTwoTransactions, "two_transactions", "G1"},
    {Mutant::kTrustFinished, "trust_finished", "G14"},
    {Mutant::kOldIncarnation, "old_incarnation", "G9"},
    {Mutant::kVolatileFloor, "volatile_floor", "G18"},
    {Mutant::kApplyOverlap, "apply_overlap", "G5"},
    {Mutant::kNoCover, "no_cover", "G5"},
    {Mutant::kAdoptWatermark, "adopt_watermark", "G2"},
    {Mutant::kSkipUnreported, "skip_unreported", "G15, G18"},
    {Mutant::kViewsOutOfOrder, "views_out_of_order", "G7"},
    {Mutant::kRestartKeepsTenure, "restart_keeps_tenure", "G6"},
    {Mutant::kEndByApplied, "end_by_applied", "G19"},
    {Mutant::kNoCuts, "no_cuts", "G16"},
    {Mutant::kNoEmptyPushes, "no_empty_pushes", "G4"},
    {Mutant::kLateHello, "late_hello", "hello"},
}};
static_assert(kRows.size() + 1 == static_cast<size_t>(Mutant::kCount));

struct MutantConfig {
  uint64_t seeds = 2000;
  uint64_t from = 1;
  std::string faults = "all";
  std::string mutant;
  bool count = false;
  bool verbose = false;

  void Declare(base::ConfigFields& fields) {
    fields.Add("seeds", &seeds, {.min = 1}, "at most so many seeds for each mutant");
    fields.Add("from", &from, "the first seed");
    fields.Add("faults", &faults, "as of freshet_sim");
    fields.Add("mutant", &mutant, "only this one");
    fields.Add("count", &count, "run all seeds, and say how many caught it");
    fields.Add("verbose", &verbose, "print what happens");
  }
};

// False: nothing was caught.
bool Hunt(const MutantConfig& config, const FaultSet& faults, const Row& row) {
  const Trace trace{config.verbose, false};
  base::active_mutant = row.mutant;
  uint64_t caught = 0;
  uint64_t run = 0;
  std::string first;
  while (run < config.seeds && (caught == 0 || config.count)) {
    const uint64_t seed = config.from + run++;
    const RunResult result = RunSeed(seed, faults, trace);
    if (!result.violation) continue;
    if (++caught == 1) first = fmt::format("seed {}: {}", seed, *result.violation);
  }
  base::active_mutant = Mutant::kNone;
  fmt::print("{:<21} {:<9} {:>5} of {:<5} {}\n", row.name, row.rule, caught, run,
             caught == 0 ? "NOT CAUGHT" : first.substr(0, 150));
  std::fflush(stdout);
  return caught > 0;
}

int HuntAll(const MutantConfig& config, const FaultSet& faults) {
  if (!config.verbose) base::SetLogLevel(base::LogLevel::kOff);
  fmt::print("{:<21} {:<9} {:>5}    {:<5} {}\n", "mutant", "rule", "caught", "runs", "first by");
  bool all = true;
  bool any = false;
  for (const Row& row : kRows) {
    if (!config.mutant.empty() && config.mutant != row.name) continue;
    any = true;
    all = Hunt(config, faults, row) && all;
  }
  if (!any) {
    std::fprintf(stderr, "freshet_sim_mutants: no mutant is called '%s'\n", config.mutant.c_str());
    return base::ExitCodeFor(base::ErrorCode::kInvalidArgument);
  }
  return all ? 0 : 1;
}

}  // namespace
}  // namespace freshet::sim

int main(int argc, char** argv) {
  using namespace freshet;
  sim::MutantConfig config;
  base::ConfigFields fields;
  config.Declare(fields);
  base::ConfigOptions about;
  about.program = "freshet_sim_mutants";
  about.description = "Shows that the simulator notices when a rule of the protocol is broken.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  const auto faults = sim::ParseFaults(config.faults);
  if (!faults) {
    std::fprintf(stderr, "freshet_sim_mutants: %s\n", faults.error().message.c_str());
    return base::ExitCodeFor(faults.error().code);
  }
  return sim::HuntAll(config, *faults);
}
