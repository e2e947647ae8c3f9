// SPDX-License-Identifier: Apache-2.0
// The seams between a brain (a node without IO) and the world: time, timers, background work, chance.
// A brain gets a Runtime by constructor and never reads a clock, sleeps, draws or starts a thread itself.
// All callbacks run on the brain's own loop, one at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "base/random.h"
#include "base/strong_id.h"

namespace freshet::base {

using Duration = std::chrono::microseconds;

// A point of monotonic time; its origin means nothing outside the process.
struct MonotonicTag {};
using Instant = std::chrono::time_point<MonotonicTag, Duration>;

// Milliseconds since 1970-01-01 UTC; for people and files only, never for deciding anything.
struct WallTime {
  int64_t unix_ms = 0;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant Now() const = 0;
  virtual WallTime WallNow() const = 0;
};

using TimerId = StrongId<struct TimerTag, uint64_t>;

class Timers {
 public:
  virtual ~Timers() = default;
  // Runs `callback` once, at the earliest after `delay`. Never runs it inside this call.
  virtual TimerId After(Duration delay, std::function<void()> callback) = 0;
  // After this returns the callback will not run. Unknown or past ids are ignored.
  virtual void Cancel(TimerId id) = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `work` in the background, then `done` on the loop. Work of one executor runs in order,
  // one at a time. When the process ends, work may be dropped; `done` never runs without `work`.
  virtual void Run(std::function<void()> work, std::function<void()> done) = 0;
};

struct Runtime {
  const Clock& clock;
  Timers& timers;
  Executor& executor;
  Random& random;
};

}  // namespace freshet::base
