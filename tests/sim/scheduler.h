// SPDX-License-Identifier: Apache-2.0
// Scheduler: virtual time. Tasks run one at a time, by their time, then in the order they were given.
// Everything of a run hangs on one scheduler, so one seed gives one order.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/random.h"
#include "base/runtime.h"

namespace freshet::sim {

class Scheduler {
 public:
  using Task = std::function<void()>;

  // Since the run began.
  base::Duration now() const { return now_; }
  void After(base::Duration delay, Task task);
  // False: nothing is left to do.
  bool RunNext();

  uint64_t events() const { return sequence_run_; }
  // Two runs of one seed must agree on it.
  uint64_t digest() const { return digest_; }
  void Mix(uint64_t value) { digest_ = base::Mix64(digest_ ^ value); }

 private:
  struct Entry {
    base::Duration when;
    uint64_t sequence = 0;
    Task task;
  };
  static bool Later(const Entry& a, const Entry& b) {
    return a.when != b.when ? a.when > b.when : a.sequence > b.sequence;
  }

  base::Duration now_{0};
  std::vector<Entry> heap_;
  uint64_t sequence_ = 0;
  uint64_t sequence_run_ = 0;
  uint64_t digest_ = 0;
};

// An exponentially distributed time: what comes at random comes like this.
base::Duration DrawExponential(base::Random& random, base::Duration mean);
// Between the two, small ones as likely as large ones.
double DrawLogUniform(base::Random& random, double low, double high);

}  // namespace freshet::sim
