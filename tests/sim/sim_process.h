// SPDX-License-Identifier: Apache-2.0
// SimProcess: one life of a simulated process, with the seams its brain runs on. When it is destroyed
// (killed), whatever was posted for it vanishes; while it is paused, it waits. Owned by the cluster;
// must outlive its brain.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "base/runtime.h"
#include "tests/sim/scheduler.h"

namespace freshet::sim {

// How long background work takes; shared by all processes and changed when the faults stop.
struct WorkTimes {
  base::Duration typical = std::chrono::milliseconds(5);
  double slow_chance = 0;
  base::Duration slow = std::chrono::seconds(1);
};

class SimProcess {
 public:
  struct Options {
    std::string name;
    int64_t pid = 0;
    uint64_t seed = 0;
    const WorkTimes* work = nullptr;
    // How much later it is whenever the brain looks at its clock once more: all the time that it can
    // see itself take, since an event takes none.
    base::Duration glance{};
  };
  SimProcess(Scheduler& scheduler, Options options);
  ~SimProcess();
  SimProcess(const SimProcess&) = delete;
  SimProcess& operator=(const SimProcess&) = delete;

  base::Runtime runtime() { return {clock_, timers_, executor_, random_}; }
  // Runs the task on the process's loop.
  void Post(base::Duration delay, Scheduler::Task task);
  // The same within this event, unless the process is paused.
  void RunOrWait(Scheduler::Task task) { RunOrWait(*life_, std::move(task)); }

  void Pause() { life_->paused = true; }
  void Resume();
  bool paused() const { return life_->paused; }
  // It ends within this event: nothing that it still does has an effect.
  void Doom();
  bool alive() const { return life_->alive; }
  const std::string& name() const { return options_.name; }
  int64_t pid() const { return options_.pid; }

 private:
  struct Life {
    bool alive = true;
    bool paused = false;
    std::deque<Scheduler::Task> waiting;
  };
  static void RunOrWait(Life& life, Scheduler::Task task);
  void RunWaiting();

  // Every process's clock has its own origin.
  class Clock final : public base::Clock {
   public:
    Clock(const Scheduler& scheduler, base::Duration origin, base::Duration glance)
        : scheduler_(scheduler), origin_(origin), glance_(glance) {}
    base::Instant Now() const override {
      if (glance_ == base::Duration(0)) return base::Instant(origin_ + scheduler_.now());
      last_ = std::max(last_ + glance_, origin_ + scheduler_.now());
      return base::Instant(last_);
    }
    base::WallTime WallNow() const override { return {scheduler_.now().count() / 1000}; }

   private:
    const Scheduler& scheduler_;
    base::Duration origin_;
    base::Duration glance_;
    mutable base::Duration last_{};
  };

  class Timers final : public base::Timers {
   public:
    explicit Timers(SimProcess& process) : process_(process) {}
    base::TimerId After(base::Duration delay, std::function<void()> callback) override;
    void Cancel(base::TimerId id) override { callbacks_.erase(id); }

   private:
    SimProcess& process_;
    base::TimerId last_;
    std::map<base::TimerId, std::function<void()>> callbacks_;
  };

  // Work is done at one moment of its time, and `done` follows later, so that a kill can come between.
  class Executor final : public base::Executor {
   public:
    explicit Executor(SimProcess& process) : process_(process) {}
    void Run(std::function<void()> work, std::function<void()> done) override;

   private:
    struct Job {
      std::function<void()> work;
      std::function<void()> done;
    };
    void StartNext();
    base::Duration DrawTime();

    SimProcess& process_;
    std::deque<Job> queue_;
    bool busy_ = false;
    base::Duration last_done_at_{0};
  };

  Scheduler& scheduler_;
  Options options_;
  std::shared_ptr<Life> life_;
  base::Random random_;  // the brain's
  base::Random chance_;  // the simulator's
  Clock clock_;
  Timers timers_{*this};
  Executor executor_{*this};
};

}  // namespace freshet::sim
