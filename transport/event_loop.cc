// SPDX-License-Identifier: Apache-2.0
#include "transport/event_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "transport/timer_queue.h"

namespace freshet::transport {
namespace {

// Posted callbacks run per pass; the rest waits for the next one.
constexpr size_t kPostedBurst = 256;

void Wake(int fd) {
  const uint64_t one = 1;
  // EAGAIN means the counter is full, so the loop is awake already.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

}  // namespace

struct EventLoop::Watch {
  void* zmq_socket = nullptr;
  int fd = -1;
  std::function<Drained()> on_ready;
  bool active = true;
};

// What zmq_poll looks at; item i belongs to watch i, the last item is the wake-up.
struct EventLoop::PollSet {
  std::vector<zmq_pollitem_t> items;
  std::vector<std::shared_ptr<Watch>> watches;
};

EventLoop::EventLoop(EventLoopOptions options)
    : options_(options),
      timers_(std::make_unique<TimerQueue>()),
      poll_set_(std::make_unique<PollSet>()),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  CHECK(wake_fd_ >= 0);
}

EventLoop::~EventLoop() { close(wake_fd_); }

void EventLoop::CheckThread() const {
  const std::thread::id owner = running_on_.load(std::memory_order_relaxed);
  CHECK(owner == std::thread::id() || owner == std::this_thread::get_id());
}

base::TimerId EventLoop::After(base::Duration delay, std::function<void()> callback) {
  CheckThread();
  return timers_->Add(clock_.Now() + std::max(delay, base::Duration(0)), std::move(callback));
}

void EventLoop::Cancel(base::TimerId id) {
  CheckThread();
  timers_->Cancel(id);
}

base::Result<> EventLoop::Post(std::function<void()> callback) {
  bool was_empty = false;
  {
    const std::lock_guard lock(posted_mutex_);
    if (posted_.size() >= options_.max_posted) {
      posts_refused_.fetch_add(1, std::memory_order_relaxed);
      return base::Fail(base::ErrorCode::kResourceExhausted,
                        "the event loop has too many callbacks waiting; try again later");
    }
    was_empty = posted_.empty();
    posted_.push_back(std::move(callback));
  }
  if (was_empty) Wake(wake_fd_);
  return {};
}

void EventLoop::Stop() {
  stop_.store(true, std::memory_order_release);
  Wake(wake_fd_);
}

bool EventLoop::TakeStop() { return stop_.exchange(false, std::memory_order_acquire); }

void EventLoop::Run() {
  running_on_.store(std::this_thread::get_id());
  while (!TakeStop()) Pass(std::nullopt);
  running_on_.store(std::thread::id());
}

bool EventLoop::RunUntil(const std::function<bool()>& condition, base::Duration limit) {
  running_on_.store(std::this_thread::get_id());
  const base::Instant deadline = clock_.Now() + limit;
  bool met = condition();
  while (!met && !TakeStop() && clock_.Now() < deadline) {
    Pass(deadline);
    met = condition();
  }
  running_on_.store(std::thread::id());
  return met;
}

void EventLoop::WatchFd(int fd, std::function<void()> on_readable) {
  AddWatch({nullptr, fd, [run = std::move(on_readable)] {
              run();
              return Drained::kAll;
            }});
}

void EventLoop::UnwatchFd(int fd) { RemoveWatch(nullptr, fd); }

void EventLoop::WatchSocket(void* zmq_socket, std::function<Drained()> on_ready) {
  CHECK(zmq_socket != nullptr);
  AddWatch({zmq_socket, -1, std::move(on_ready)});
}

void EventLoop::UnwatchSocket(void* zmq_socket) { RemoveWatch(zmq_socket, -1); }

void EventLoop::AddWatch(Watch watch) {
  CheckThread();
  watches_.push_back(std::make_shared<Watch>(std::move(watch)));
  poll_set_stale_ = true;
}

void EventLoop::RemoveWatch(const void* zmq_socket, int fd) {
  CheckThread();
  std::erase_if(watches_, [&](const std::shared_ptr<Watch>& watch) {
    if (watch->zmq_socket != zmq_socket || watch->fd != fd) return false;
    watch->active = false;
    return true;
  });
  poll_set_stale_ = true;
}

void EventLoop::RebuildPollSet() {
  poll_set_->watches = watches_;
  poll_set_->items.clear();
  for (const auto& watch : watches_) {
    poll_set_->items.push_back({watch->zmq_socket, watch->fd, ZMQ_POLLIN, 0});
  }
  poll_set_->items.push_back({nullptr, wake_fd_, ZMQ_POLLIN, 0});
  poll_set_stale_ = false;
}

void EventLoop::RunPosted() {
  std::deque<std::function<void()>> batch;
  bool left = false;
  {
    const std::lock_guard lock(posted_mutex_);
    stats_.posts_refused = posts_refused_.load(std::memory_order_relaxed);
    if (posted_.size() <= kPostedBurst) {
      batch.swap(posted_);
    } else {
      const auto end = posted_.begin() + kPostedBurst;
      std::move(posted_.begin(), end, std::back_inserter(batch));
      posted_.erase(posted_.begin(), end);
      left = true;
    }
  }
  for (const auto& callback : batch) callback();
  stats_.posted_run += batch.size();
  // Post wakes the loop only when it finds the queue empty, so what is left needs a wake-up of ours.
  if (left) Wake(wake_fd_);
}

int64_t EventLoop::PollTimeoutMs(base::Instant now, std::optional<base::Instant> deadline) const {
  if (more_to_drain_ || stop_.load(std::memory_order_relaxed)) return 0;
  if (now - last_event_ < options_.spin) return 0;
  std::optional<base::Instant> wake = timers_->NextDue();
  if (deadline && (!wake || *deadline < *wake)) wake = deadline;
  if (!wake) return -1;
  // Rounded up: a timer must not fire early, and rounding down would spin through the last part.
  return std::max<int64_t>(
      0, std::chrono::ceil<std::chrono::milliseconds>(*wake - now).count());
}

void EventLoop::Pass(std::optional<base::Instant> deadline) {
  ++stats_.passes;
  if (poll_set_stale_) RebuildPollSet();
  const int64_t timeout_ms = PollTimeoutMs(clock_.Now(), deadline);
  if (timeout_ms != 0) ++stats_.sleeps;
  const int ready =
      zmq_poll(poll_set_->items.data(), static_cast<int>(poll_set_->items.size()), timeout_ms);
  CHECK(ready >= 0 || errno == EINTR);

  more_to_drain_ = false;
  if (ready > 0) {
    Dispatch();
    last_event_ = clock_.Now();
  }
  stats_.timers_run += timers_->RunDue(clock_.Now());
}

void EventLoop::Dispatch() {
  if (poll_set_->items.back().revents != 0) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(wake_fd_, &count, sizeof count);
    RunPosted();
  }
  // By index over this pass's own set: callbacks may add and remove watches meanwhile.
  for (size_t i = 0; i < poll_set_->watches.size(); ++i) {
    if (poll_set_->items[i].revents == 0 || !poll_set_->watches[i]->active) continue;
    // Keeps the callback alive while it runs, even if it removes its own watch.
    const std::shared_ptr<Watch> watch = poll_set_->watches[i];
    if (watch->on_ready() == Drained::kMore) more_to_drain_ = true;
  }
}

}  // namespace freshet::transport
