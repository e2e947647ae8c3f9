// SPDX-License-Identifier: Apache-2.0
#include "ps/work_meter.h"

#include <gtest/gtest.h>

#include <utility>

namespace freshet::ps {
namespace {

using base::Duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A machine on which time passes by hand, with one timer.
class Machine final : public base::Clock, public base::Timers {
 public:
  base::Instant Now() const override { return now_; }
  base::WallTime WallNow() const override { return {}; }
  base::TimerId After(Duration delay, std::function<void()> callback) override {
    due_ = now_ + delay;
    callback_ = std::move(callback);
    return base::TimerId(1);
  }
  void Cancel(base::TimerId) override { callback_ = nullptr; }

  // The thread sleeps until its timer, or runs.
  void Idle(Duration time) {
    const base::Instant end = now_ + time;
    while (due_ <= end) {
      now_ = std::max(now_, due_);
      Fire();
    }
    now_ = end;
  }
  void Work(WorkMeter& meter, Duration processor, Duration clock) {
    {
      const WorkMeter::Piece piece(meter);
      now_ += clock;
      used_ += processor;
    }
    threads_.ran += processor;
    threads_.waited += clock - processor;
    if (due_ <= now_) Fire();
  }
  // Stopped: nothing runs, and the kernel does not call it waiting.
  void Stop(Duration time) {
    now_ += time;
    if (due_ <= now_) Fire();
  }
  void Wait(Duration time) {
    threads_.waited += time;
    Stop(time);
  }
  ProcessorTimes times() {
    return {[this] { return used_; }, [this] { return threads_; }};
  }

 private:
  void Fire() {
    if (auto callback = std::exchange(callback_, nullptr)) callback();
  }

  base::Instant now_{seconds(10)};
  base::Instant due_;
  std::function<void()> callback_;
  Duration used_{0};
  transport::ThreadTimes threads_;
};

double BusyOf(Machine& machine, const WorkMeter& meter, const std::function<void()>& turn) {
  const base::Instant began = machine.Now();
  const uint64_t before = meter.busy_us();
  while (machine.Now() - began < seconds(20)) turn();
  return static_cast<double>(meter.busy_us() - before) /
         static_cast<double>((machine.Now() - began).count());
}

TEST(WorkMeter, WorkOnAFreeProcessorCountsAsItIs) {
  Machine machine;
  WorkMeter meter(machine, machine, machine.times());
  const double busy = BusyOf(machine, meter, [&] {
    machine.Work(meter, milliseconds(3), milliseconds(3));
    machine.Idle(milliseconds(7));
  });
  EXPECT_NEAR(busy, 0.3, 0.02);
  EXPECT_DOUBLE_EQ(meter.availability(), 1);
}

TEST(WorkMeter, AProcessStoppedBetweenItsWorkIsAsSlowAsOneStoppedDuringIt) {
  Machine machine;
  WorkMeter meter(machine, machine, machine.times());
  // A quarter of the time, of which it works half.
  const double busy = BusyOf(machine, meter, [&] {
    machine.Stop(milliseconds(75));
    machine.Work(meter, milliseconds(12), milliseconds(12));
    machine.Idle(milliseconds(13));
  });
  EXPECT_NEAR(busy, 0.5, 0.08);
  EXPECT_NEAR(meter.availability(), 0.25, 0.04);
}

TEST(WorkMeter, AThreadThatWaitsForAProcessorIsSlow) {
  Machine machine;
  WorkMeter meter(machine, machine, machine.times());
  const double busy = BusyOf(machine, meter, [&] {
    machine.Work(meter, milliseconds(1), milliseconds(1));
    machine.Wait(milliseconds(3));
  });
  EXPECT_NEAR(busy, 1.0, 0.05);
  EXPECT_NEAR(meter.availability(), 0.25, 0.02);
  EXPECT_NEAR(static_cast<double>(meter.processor_us()) / static_cast<double>(meter.busy_us()),
              meter.availability(), 0.01);
}

TEST(WorkMeter, WithoutProcessorTimesTheClockCounts) {
  Machine machine;
  WorkMeter meter(machine, machine, {});
  machine.Work(meter, milliseconds(1), milliseconds(4));
  EXPECT_EQ(meter.busy_us(), 4000u);
}

}  // namespace
}  // namespace freshet::ps
