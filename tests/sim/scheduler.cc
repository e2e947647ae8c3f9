// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace freshet::sim {

void Scheduler::After(base::Duration delay, Task task) {
  heap_.push_back({now_ + std::max(delay, base::Duration(0)), ++sequence_, std::move(task)});
  std::push_heap(heap_.begin(), heap_.end(), Later);
}

bool Scheduler::RunNext() {
  if (heap_.empty()) return false;
  std::pop_heap(heap_.begin(), heap_.end(), Later);
  Entry entry = std::move(heap_.back());
  heap_.pop_back();
  now_ = entry.when;
  ++sequence_run_;
  Mix(static_cast<uint64_t>(entry.when.count()) ^ entry.sequence << 40);
  entry.task();
  return true;
}

base::Duration DrawExponential(base::Random& random, base::Duration mean) {
  const double draw = -std::log(1.0 - random.Uniform());
  return base::Duration(static_cast<int64_t>(draw * static_cast<double>(mean.count())));
}

double DrawLogUniform(base::Random& random, double low, double high) {
  return low * std::pow(high / low, random.Uniform());
}

}  // namespace freshet::sim
