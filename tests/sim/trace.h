// SPDX-License-Identifier: Apache-2.0
// Trace: what happened in a run, for whoever replays a seed.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "tests/sim/scheduler.h"

namespace freshet::sim {

struct Trace {
  bool events = false;
  bool messages = false;

  void Event(const Scheduler& scheduler, const std::string& text) const {
    if (events) Print(scheduler, text);
  }
  static void Print(const Scheduler& scheduler, const std::string& text) {
    std::fputs(fmt::format("{:>11.6f} #{} {}\n", static_cast<double>(scheduler.now().count()) / 1e6,
                           scheduler.events(), text)
                   .c_str(),
               stdout);
  }
};

}  // namespace freshet::sim
