// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/runtime.h"

namespace freshet::transport {

class EventLoop;

struct ThreadExecutorOptions {
  // Work waiting or running; Run blocks the loop beyond it, so brains should keep far below.
  size_t max_queued = 1024;
};

struct ThreadExecutorStats {
  uint64_t finished = 0;
  size_t queued = 0;  // waiting or running now
  size_t highest_queued = 0;
  uint64_t blocked_runs = 0;  // how often Run had to wait for room
};

// Background work of one loop on one thread of its own, in order. Run and Shutdown belong to the
// loop thread; `work` runs on the executor's thread, `done` on the loop. The loop must outlive it.
// Signals that are blocked when it is made stay blocked in its thread.
class ThreadExecutor final : public base::Executor {
 public:
  explicit ThreadExecutor(EventLoop& loop, ThreadExecutorOptions options = {});
  // Drops what is queued.
  ~ThreadExecutor() override;
  ThreadExecutor(const ThreadExecutor&) = delete;
  ThreadExecutor& operator=(const ThreadExecutor&) = delete;

  void Run(std::function<void()> work, std::function<void()> done) override;

  enum class Queued { kFinish, kDrop };
  // Ends the thread; work under way is always finished. kFinish: all queued work and its `done` run
  // before this returns; kDrop: neither queued work nor any further `done` runs. No Run afterwards.
  void Shutdown(Queued queued);

  ThreadExecutorStats stats() const;

 private:
  struct Job {
    std::function<void()> work;
    std::function<void()> done;
  };

  void WorkLoop();
  void RunFinished();

  EventLoop& loop_;
  const ThreadExecutorOptions options_;
  const int finished_fd_;
  mutable std::mutex mutex_;
  std::condition_variable wake_worker_;
  std::condition_variable room_;
  // All guarded by mutex_.
  std::deque<Job> waiting_;
  std::deque<std::function<void()>> finished_;
  ThreadExecutorStats stats_;
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace freshet::transport
