// SPDX-License-Identifier: Apache-2.0
#include "transport/thread_executor.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/event_loop.h"

namespace freshet::transport {

// Finished work reaches the loop through an eventfd of the executor rather than EventLoop::Post:
// a full Post queue could refuse a `done`, and every `done` must run.
ThreadExecutor::ThreadExecutor(EventLoop& loop, ThreadExecutorOptions options)
    : loop_(loop), options_(options), finished_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  CHECK(finished_fd_ >= 0);
  loop_.WatchFd(finished_fd_, [this] { RunFinished(); });
  thread_ = std::thread([this] { WorkLoop(); });
}

ThreadExecutor::~ThreadExecutor() {
  Shutdown(Queued::kDrop);
  close(finished_fd_);
}

void ThreadExecutor::Run(std::function<void()> work, std::function<void()> done) {
  std::unique_lock lock(mutex_);
  CHECK(!stopping_);
  if (stats_.queued >= options_.max_queued) {
    // The worker needs nothing from the loop to make room, so this wait ends with its current work.
    ++stats_.blocked_runs;
    room_.wait(lock, [this] { return stats_.queued < options_.max_queued; });
  }
  waiting_.push_back({std::move(work), std::move(done)});
  ++stats_.queued;
  stats_.highest_queued = std::max(stats_.highest_queued, stats_.queued);
  wake_worker_.notify_one();
}

void ThreadExecutor::WorkLoop() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_worker_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job.work();
    job.work = nullptr;  // What it captured dies here, not on the loop.
    lock.lock();
    finished_.push_back(std::move(job.done));
    --stats_.queued;
    ++stats_.finished;
    room_.notify_one();
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(finished_fd_, &one, sizeof one);
  }
}

void ThreadExecutor::RunFinished() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(finished_fd_, &count, sizeof count);
  std::deque<std::function<void()>> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(finished_);
  }
  for (const auto& done : batch) {
    if (done) done();
  }
}

void ThreadExecutor::Shutdown(Queued queued) {
  if (!thread_.joinable()) return;
  std::deque<Job> dropped;  // Destroyed after the lock is gone.
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (queued == Queued::kDrop) {
      dropped.swap(waiting_);
      stats_.queued -= dropped.size();
    }
    wake_worker_.notify_one();
  }
  thread_.join();
  loop_.UnwatchFd(finished_fd_);
  if (queued == Queued::kFinish) RunFinished();
}

ThreadExecutorStats ThreadExecutor::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace freshet::transport
