// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_program.h"

#include <cstdio>

#include "base/log.h"
#include "transport/malloc_tuning.h"

namespace freshet::sim {

void SeedConfig::Declare(base::ConfigFields& fields) {
  fields.Add("seeds", &seeds, {.min = 1}, "how many seeds to run at most");
  fields.Add("from", &from, "the first seed");
  fields.Add("jobs", &jobs, {.min = 1, .max = 256}, "so many seeds at a time");
  fields.Add("faults", &faults,
             "faults that may come, separated by commas; a level (none, network, workers, servers, "
             "all, plans, moves) or single ones (loss, kill_ps, ..)");
  fields.Add("verbose", &verbose, "print what happens");
}

int RunProgram(const ProgramText& text, base::ConfigFields& fields, const SeedConfig& config,
               std::pair<int, char**> arguments, const std::function<int(const FaultSet&)>& main) {
  transport::TuneMallocForFrames();
  base::ConfigOptions about;
  about.program = text.name;
  about.description = text.description;
  const auto [argc, argv] = arguments;
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  const auto faults = ParseFaults(config.faults);
  if (!faults) {
    std::fprintf(stderr, "%s: %s\n", text.name, faults.error().message.c_str());
    return base::ExitCodeFor(faults.error().code);
  }
  if (!config.verbose) base::SetLogLevel(base::LogLevel::kOff);
  return main(*faults);
}

}  // namespace freshet::sim
