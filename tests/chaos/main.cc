// SPDX-License-Identifier: Apache-2.0
// freshet_chaos: a cluster of real processes under load, hurt by faults drawn from a seed.
#include <fmt/format.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>

#include "base/check.h"
#include "base/config.h"
#include "base/log.h"
#include "tests/base/temp_dir.h"
#include "tests/chaos/chaos_run.h"
#include "tests/chaos/plan_storm.h"

namespace freshet::chaos {
namespace {

constexpr int kVoidCode = 4;

template <class Run>
Verdict RunAndReport(Run&& run) {
  const Verdict verdict = run.Run();
  fmt::print("{}", run.Report());
  return verdict;
}

int Main(int argc, char** argv) {
  ChaosOptions options;
  std::string dir;
  uint32_t plans = 0;
  base::ConfigFields fields;
  fields.Add("seed", &options.plan.seed, "of the faults and the data");
  fields.Add("kills", &options.plan.kills, {.min = 0, .max = 100'000},
             "SIGKILLs of any process, or all; other faults come in proportion");
  fields.Add("all_kills", &options.plan.all_kills, {.min = 0, .max = 10'000},
             "then everything is killed so many times in a row");
  fields.Add("plans", &plans, {.min = 0, .max = 100'000},
             "instead of faults: so many random plans (scale, migrate, ..) under random SIGKILLs");
  fields.Add("ps", &options.plan.ps, {.min = 1, .max = 16}, "parameter servers");
  fields.Add("workers", &options.plan.workers, {.min = 1, .max = 16}, "workers");
  fields.Add("records", &options.training.records, {.min = 1000},
             "of the generated log, read again and again");
  fields.Add("model", &options.training.model, "what is trained");
  fields.Add("batch_size", &options.training.batch_size, {.min = 1, .max = 65'536},
             "records of a step");
  fields.Add("checkpoint_interval_ms", &options.training.checkpoint_interval_ms, {.min = 10},
             "time between images of a partition");
  fields.Add("dir", &dir, "works in this new directory, and leaves it; default: a temporary one");
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet_chaos",
       .description =
           "Hurts a cluster of real processes by faults drawn from a seed, and audits it. "
           "Exit code 0: every audit exact; 1: not; 4: void, it proves nothing."});
  if (end) return *end;
  base::SetLogLevel(base::LogLevel::kError);
  const base::TempDir temporary;
  options.training.dir = dir.empty() ? temporary.path() : std::filesystem::absolute(dir).string();
  if (!dir.empty() && !std::filesystem::create_directories(options.training.dir)) {
    fmt::print(stderr, "freshet_chaos: {} is there already\n", options.training.dir);
    return 2;
  }
  options.training.seed = options.plan.seed;
  const Verdict verdict =
      plans > 0 ? RunAndReport(PlanStorm({.training = options.training, .plans = plans}))
                : RunAndReport(ChaosRun(options));
  if (verdict == Verdict::kFailed) return 1;
  return verdict == Verdict::kVoid ? kVoidCode : 0;
}

}  // namespace
}  // namespace freshet::chaos

int main(int argc, char** argv) { return freshet::chaos::Main(argc, argv); }
