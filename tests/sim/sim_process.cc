// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_process.h"

#include <algorithm>
#include <utility>

namespace freshet::sim {

using base::Duration;

SimProcess::SimProcess(Scheduler& scheduler, Options options)
    : scheduler_(scheduler),
      options_(std::move(options)),
      life_(std::make_shared<Life>()),
      random_(base::Mix64(options_.seed)),
      chance_(base::Mix64(options_.seed ^ 0x5EED)),
      clock_(scheduler, Duration(static_cast<int64_t>(chance_.Below(uint64_t{1} << 40))),
             options_.glance) {}

SimProcess::~SimProcess() { Doom(); }

void SimProcess::Doom() {
  life_->alive = false;
  life_->waiting.clear();
}

void SimProcess::Post(Duration delay, Scheduler::Task task) {
  scheduler_.After(delay, [life = life_, task = std::move(task)]() mutable {
    RunOrWait(*life, std::move(task));
  });
}

void SimProcess::RunOrWait(Life& life, Scheduler::Task task) {
  if (!life.alive) return;
  if (life.paused || !life.waiting.empty()) {
    life.waiting.push_back(std::move(task));
  } else {
    task();
  }
}

void SimProcess::Resume() {
  if (!life_->paused) return;
  life_->paused = false;
  RunWaiting();
}

// What waited runs in its order, one task an event, before anything newer.
void SimProcess::RunWaiting() {
  if (life_->waiting.empty()) return;
  scheduler_.After(Duration(0), [this, life = life_] {
    if (!life->alive || life->paused || life->waiting.empty()) return;
    const Scheduler::Task task = std::move(life->waiting.front());
    life->waiting.pop_front();
    task();
    RunWaiting();
  });
}

base::TimerId SimProcess::Timers::After(Duration delay, std::function<void()> callback) {
  last_ = last_.Next();
  callbacks_.emplace(last_, std::move(callback));
  // A loop is a little late for its timers.
  const Duration late(static_cast<int64_t>(process_.chance_.Below(100)));
  process_.Post(std::max(delay, Duration(0)) + late, [this, id = last_] {
    auto node = callbacks_.extract(id);
    if (!node.empty()) node.mapped()();
  });
  return last_;
}

void SimProcess::Executor::Run(std::function<void()> work, std::function<void()> done) {
  queue_.push_back({std::move(work), std::move(done)});
  if (!busy_) StartNext();
}

void SimProcess::Executor::StartNext() {
  busy_ = true;
  Job job = std::move(queue_.front());
  queue_.pop_front();
  process_.Post(DrawTime(), [this, job = std::move(job)] {
    job.work();
    Duration done_in(static_cast<int64_t>(process_.chance_.Below(1000)));
    if (process_.chance_.Chance(0.05)) done_in += DrawTime();
    const Duration now = process_.scheduler_.now();
    last_done_at_ = std::max(last_done_at_, now + done_in);
    process_.Post(last_done_at_ - now, job.done);
    busy_ = false;
    if (!queue_.empty()) StartNext();
  });
}

Duration SimProcess::Executor::DrawTime() {
  const WorkTimes& times = *process_.options_.work;
  const bool slow = process_.chance_.Chance(times.slow_chance);
  return DrawExponential(process_.chance_, slow ? times.slow : times.typical);
}

}  // namespace freshet::sim
