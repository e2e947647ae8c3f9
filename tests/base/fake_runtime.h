// SPDX-License-Identifier: Apache-2.0
// The seams of a brain, in a test's hands: a clock that stands still, timers that run when the test lets
// time pass, background work that is done when the test says so. Single-threaded.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <utility>

#include "base/runtime.h"

namespace freshet::base {

class FakeRuntime {
 public:
  Runtime runtime() { return {clock_, timers_, executor_, random_}; }

  Instant now() const { return clock_.now; }

  // Runs the timers that fall due on the way, each at its time.
  void Advance(Duration by) {
    const Instant until = clock_.now + by;
    while (!timers_.waiting.empty() && timers_.waiting.begin()->first.first <= until) {
      auto node = timers_.waiting.extract(timers_.waiting.begin());
      clock_.now = std::max(clock_.now, node.key().first);
      node.mapped()();
    }
    clock_.now = until;
  }

  // The process is stopped for so long: what fell due meanwhile runs late, all at the end.
  void Stop(Duration by) {
    clock_.now += by;
    Advance(Duration(0));
  }

  // Background work that has been asked for and not yet been done.
  size_t queued() const { return executor_.queue.size(); }
  // Does the oldest of it, and lets its `done` run.
  void WorkOne() {
    auto [work, done] = std::move(executor_.queue.front());
    executor_.queue.pop_front();
    work();
    done();
  }
  // Timers that are due now, and work, until neither is left.
  void Settle() {
    do {
      while (queued() > 0) WorkOne();
      Advance(Duration(0));
    } while (queued() > 0);
  }

 private:
  struct FakeClock final : Clock {
    Instant now{std::chrono::seconds(1000)};
    Instant Now() const override { return now; }
    WallTime WallNow() const override { return {now.time_since_epoch().count() / 1000}; }
  };
  struct FakeTimers final : Timers {
    explicit FakeTimers(const FakeClock& fake_clock) : clock(fake_clock) {}
    TimerId After(Duration delay, std::function<void()> callback) override {
      last = last.Next();
      waiting[{clock.now + delay, last}] = std::move(callback);
      return last;
    }
    void Cancel(TimerId id) override {
      std::erase_if(waiting, [id](const auto& entry) { return entry.first.second == id; });
    }
    const FakeClock& clock;
    TimerId last;
    std::map<std::pair<Instant, TimerId>, std::function<void()>> waiting;
  };
  struct FakeExecutor final : Executor {
    void Run(std::function<void()> work, std::function<void()> done) override {
      queue.emplace_back(std::move(work), std::move(done));
    }
    std::deque<std::pair<std::function<void()>, std::function<void()>>> queue;
  };

  FakeClock clock_;
  FakeTimers timers_{clock_};
  FakeExecutor executor_;
  Random random_{1};
};

}  // namespace freshet::base
