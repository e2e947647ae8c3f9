// SPDX-License-Identifier: Apache-2.0
// freshet_sim_mutants: the simulator over brains that break one rule at a time. A rule that can be broken
// without any seed noticing has no test: then the program fails.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string>

#include "base/mutant.h"
#include "tests/sim/sim_program.h"

namespace freshet::sim {
namespace {

using base::Mutant;

struct Row {
  Mutant mutant;
  const char* number;  // in the protocol's evidence; - has none
  const char* name;
  const char* rule;
  // Of faults that find it sooner than all of them do.
  const char* faults = "plans";
  // Another rule makes it harmless, and no seed may notice it.
  bool harmless = false;
};

constexpr std::array<Row, 30> kRows = {{
    {Mutant::kRowsWithoutSet, "1", "rows_without_set", "G1"},
    {Mutant::kTwoTransactions, "2", "two_transactions", "G1"},
    {Mutant::kTrustFinished, "4", "trust_finished", "G14"},
    {Mutant::kOldIncarnation, "5", "old_incarnation", "G9"},
    {Mutant::kVolatileFloor, "8", "volatile_floor", "G18"},
    {Mutant::kApplyOverlap, "10", "apply_overlap", "G5"},
    {Mutant::kNoCover, "12", "no_cover", "G5"},
    {Mutant::kAdoptWatermark, "21", "adopt_watermark", "G2"},
    {Mutant::kSkipUnreported, "22", "skip_unreported", "G15, G18"},
    {Mutant::kViewsOutOfOrder, "26", "views_out_of_order", "G7"},
    {Mutant::kRestartKeepsTenure, "27", "restart_keeps_tenure", "G6"},
    {Mutant::kEndByApplied, "28", "end_by_applied", "G19"},
    {Mutant::kNoCuts, "29", "no_cuts", "G16"},
    {Mutant::kNoEmptyPushes, "30", "no_empty_pushes", "G4"},
    {Mutant::kLateHello, "-", "late_hello", "hello"},
    {Mutant::kDrainAtOnce, "-", "drain_at_once", "drain"},
    {Mutant::kMoveWithoutSet, "3", "move_without_set", "G1"},
    {Mutant::kPreparedBeforeDurable, "11", "prepared_before_durable", "G11"},
    {Mutant::kUnfreezeAlone, "15", "unfreeze_alone", "G12"},
    {Mutant::kPreparedNextTenure, "23", "prepared_next_tenure", "G11"},
    {Mutant::kViewOnWrongOwnerOnly, "24", "view_on_wrong_owner_only", "G17"},
    {Mutant::kNoViewOnRetry, "33", "no_view_on_retry", "G17", "plans", true},
    {Mutant::kNoViewNoDeadline, "33", "no_view_no_deadline", "G17"},
    {Mutant::kOldPreparedReport, "-", "old_prepared_report", "G21", "moves,rot"},
    {Mutant::kServeOldRows, "17", "serve_old_rows", "G8", "moves"},
    {Mutant::kDropAnyImage, "19", "drop_any_image", "G13", "moves"},
    {Mutant::kCopyAnyMigration, "20", "copy_any_migration", "G10", "moves"},
    {Mutant::kCopyOutlivesMigration, "20", "copy_outlives_migration", "G10", "moves"},
    {Mutant::kLatePrepared, "25", "late_prepared", "G11", "moves"},
    {Mutant::kLatePreparedUnchecked, "25", "late_prepared_unchecked", "G11, G12", "moves"},
}};
static_assert(kRows.size() + 1 == static_cast<size_t>(Mutant::kCount));

struct MutantConfig {
  SeedConfig seeds = {.seeds = 4000, .faults = ""};
  uint64_t sample = 100;
  std::string mutant;

  void Declare(base::ConfigFields& fields) {
    seeds.Declare(fields);
    fields.Add("sample", &sample, {.min = 1}, "at least so many seeds for each mutant");
    fields.Add("mutant", &mutant, "only this one");
  }
};

// What caught it: the violation's first word.
std::string CheckerOf(const std::string& violation) {
  return violation.substr(0, violation.find_first_of(" :,"));
}

struct Catch {
  uint64_t runs = 0;
  std::map<uint64_t, std::string> by_seed;
};

// Faults that the command line names go before those of the row.
Catch Hunt(const MutantConfig& config, const FaultSet& named, const Row& row) {
  Catch result;
  base::active_mutant = row.mutant;
  const uint64_t most = row.harmless ? config.sample : config.seeds.seeds;
  while (result.runs < most && (result.by_seed.empty() || result.runs < config.sample)) {
    SeedRange range;
    range.from = config.seeds.from + result.runs;
    range.seeds = std::min(config.sample, most - result.runs);
    range.jobs = config.seeds.jobs;
    range.faults = config.seeds.faults.empty() ? *ParseFaults(row.faults) : named;
    range.trace = {config.seeds.verbose, false};
    result.runs += RunSeeds(range, [&result](uint64_t seed, const std::string& violation) {
                     result.by_seed.emplace(seed, violation);
                   }).seeds;
  }
  base::active_mutant = Mutant::kNone;
  return result;
}

void PrintRow(const MutantConfig& config, const Row& row, const Catch& caught) {
  if (caught.by_seed.empty()) {
    fmt::print("| {} | {} | {} | {} | {} in {} | | |\n", row.number, row.name, row.rule, row.faults,
               row.harmless ? "harmless" : "NOT CAUGHT", caught.runs);
    std::fflush(stdout);
    return;
  }
  std::map<std::string, uint64_t> checkers;
  for (const auto& [seed, violation] : caught.by_seed) ++checkers[CheckerOf(violation)];
  std::string by;
  for (const auto& [checker, times] : checkers) {
    by += fmt::format("{}{} {}", by.empty() ? "" : ", ", checker, times);
  }
  const auto& [seed, violation] = *caught.by_seed.begin();
  fmt::print("| {} | {} | {} | {} | {} | {:.3g} % of {} | {} |\n", row.number, row.name, row.rule,
             row.faults, seed - config.seeds.from + 1,
             100.0 * static_cast<double>(caught.by_seed.size()) / static_cast<double>(caught.runs),
             caught.runs, by);
  std::fflush(stdout);
  if (config.seeds.verbose || row.harmless) fmt::print("seed {}: {}\n", seed, violation);
}

int HuntAll(const MutantConfig& config, const FaultSet& faults) {
  fmt::print(
      "| # | mutant | rule | faults | seeds until caught | runs that catch it | by "
      "|\n|---|---|---|---|---|---|---"
      "|\n");
  bool all = true;
  bool any = false;
  for (const Row& row : kRows) {
    if (!config.mutant.empty() && config.mutant != row.name) continue;
    any = true;
    const Catch caught = Hunt(config, faults, row);
    PrintRow(config, row, caught);
    all = all && caught.by_seed.empty() == row.harmless;
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
  return sim::RunProgram(
      {"freshet_sim_mutants",
       "Shows that the simulator notices when a rule of the protocol is broken."},
      fields, config.seeds, {argc, argv},
      [&config](const sim::FaultSet& faults) { return sim::HuntAll(config, faults); });
}
