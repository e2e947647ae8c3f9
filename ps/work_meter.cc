// SPDX-License-Identifier: Apache-2.0
#include "ps/work_meter.h"

#include <algorithm>

namespace freshet::ps {

namespace {

using std::chrono::milliseconds;

constexpr base::Duration kTick = milliseconds(5);
constexpr base::Duration kWindow = milliseconds(1000);
// Less work says nothing about how it went.
constexpr base::Duration kLeastWork = milliseconds(10);
constexpr double kLeastAvailability = 0.01;

double Ratio(base::Duration part, base::Duration whole) {
  return static_cast<double>(part.count()) / static_cast<double>(whole.count());
}

}  // namespace

WorkMeter::Reading WorkMeter::Read() const {
  return {clock_.Now(), processor_.used ? processor_.used() : base::Duration(0)};
}

WorkMeter::WorkMeter(const base::Clock& clock, base::Timers& timers, ProcessorTimes processor)
    : clock_(clock), timers_(timers), processor_(std::move(processor)) {
  if (!processor_.used) return;
  ticked_ = Read();
  threads_ = processor_.of_messages();
  window_began_ = ticked_.clock;
  timer_ = timers_.After(kTick, [this] { Tick(); });
}

base::Duration WorkMeter::Used() const {
  return processor_.used ? processor_.used() : clock_.Now().time_since_epoch();
}

void WorkMeter::Begin() { began_ = Read(); }

void WorkMeter::End() {
  const Reading now = Read();
  const base::Duration took = now.clock - began_.clock;
  if (!processor_.used) {
    busy_us_ += static_cast<uint64_t>(took.count());
    processor_us_ = busy_us_;
    return;
  }
  worked_clock_ += took;
  worked_processor_ += now.processor - began_.processor;
}

void WorkMeter::Tick() {
  timer_ = timers_.After(kTick, [this] { Tick(); });
  const Reading now = Read();
  const base::Duration passed = now.clock - ticked_.clock;
  const base::Duration idle_or_kept = passed - (now.processor - ticked_.processor);
  // It slept for the tick at most; of the rest it was kept from running. What does not exceed the tick by
  // half is how timers are.
  if (idle_or_kept > kTick * 3 / 2) kept_ += idle_or_kept - kTick / 2;
  ticked_ = now;
  if (now.clock - window_began_ < kWindow) return;
  CloseWindow(now.clock - window_began_);
  window_began_ = now.clock;
}

void WorkMeter::CloseWindow(base::Duration window) {
  double availability = 1 - std::min(1.0, Ratio(kept_, window));
  if (worked_processor_ >= kLeastWork || worked_clock_ >= kLeastWork) {
    availability = std::min(availability, Ratio(worked_processor_, worked_clock_));
  }
  const transport::ThreadTimes threads = processor_.of_messages();
  const base::Duration ran = threads.ran - threads_.ran;
  const base::Duration wanted = ran + threads.waited - threads_.waited;
  threads_ = threads;
  if (wanted >= kLeastWork) availability = std::min(availability, Ratio(ran, wanted));
  availability_ = std::clamp(availability, kLeastAvailability, 1.0);
  const double stretched = static_cast<double>(worked_processor_.count()) / availability_;
  busy_us_ += static_cast<uint64_t>(stretched);
  processor_us_ += static_cast<uint64_t>(worked_processor_.count());
  worked_clock_ = worked_processor_ = kept_ = base::Duration(0);
}

}  // namespace freshet::ps
