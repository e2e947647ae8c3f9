// SPDX-License-Identifier: Apache-2.0
// What the programs of the simulator have in common: which seeds run under which faults.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "base/config.h"
#include "tests/sim/seed_runner.h"

namespace freshet::sim {

struct SeedConfig {
  uint64_t seeds = 500;
  uint64_t from = 1;
  uint32_t jobs = 1;
  std::string faults = "all";
  bool verbose = false;

  void Declare(base::ConfigFields& fields);
};

struct ProgramText {
  const char* name;
  const char* description;
};

// Reads the command line into `fields`, then runs `main` with the faults that `config` names; the exit
// code.
int RunProgram(const ProgramText& text, base::ConfigFields& fields, const SeedConfig& config,
               std::pair<int, char**> arguments, const std::function<int(const FaultSet&)>& main);

}  // namespace freshet::sim
