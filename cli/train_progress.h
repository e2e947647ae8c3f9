// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

#include "base/runtime.h"
#include "cli/json.h"

namespace freshet::cli {

// How far a run is, as one line that is rewritten on a terminal or as a plain line per second.
std::string TerminalLine(const Json& job);
std::string PlainLine(const Json& job);

// Writes them to `stream`, together with what happened. One thread.
class TrainProgress {
 public:
  enum class Style { kTerminal, kPlain };
  TrainProgress(FILE* stream, Style style) : stream_(stream), style_(style) {}

  // A status of the master; shown if it is time, or the last one of the phase.
  void Show(const Json& status, base::Instant now);
  // A line of its own that stays.
  void Say(const std::string& line);
  // One of the master's events.
  void ShowEvent(const Json& event);
  // Leaves the cursor at the start of an empty line.
  void End();

 private:
  FILE* stream_;
  Style style_;
  std::optional<base::Instant> last_shown_;
  std::string last_phase_;
  std::string line_on_screen_;
};

}  // namespace freshet::cli
