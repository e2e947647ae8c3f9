// SPDX-License-Identifier: Apache-2.0
#include "transport/event_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
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

// Of a descriptor, or of a ZeroMQ socket by the descriptor that it signals through.
struct EventLoop::Watch {
  int fd = -1;
  const void* zmq_socket = nullptr;
  std::function<void()> on_readable;
  std::function<Drained()> on_ready;
  bool active = true;
  bool unchecked = false;
};

// What poll looks at; entry i belongs to watch i, the last entry is the wake-up.
struct EventLoop::PollSet {
  std::vector<pollfd> entries;
  std::vector<WatchPtr> watches;
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
  CHECK(!by_fd_.contains(fd));
  auto watch = std::make_shared<Watch>();
  watch->fd = fd;
  watch->on_readable = std::move(on_readable);
  by_fd_.emplace(fd, watch);
  AddWatch(std::move(watch));
}

void EventLoop::UnwatchFd(int fd) {
  const auto found = by_fd_.find(fd);
  if (found == by_fd_.end()) return;
  RemoveWatch(found->second.get());
  by_fd_.erase(found);
}

void EventLoop::WatchSocket(void* zmq_socket, std::function<Drained()> on_ready) {
  CHECK(!by_socket_.contains(zmq_socket));
  auto watch = std::make_shared<Watch>();
  size_t size = sizeof watch->fd;
  CHECK(zmq_getsockopt(zmq_socket, ZMQ_FD, &watch->fd, &size) == 0);
  watch->zmq_socket = zmq_socket;
  watch->on_ready = std::move(on_ready);
  by_socket_.emplace(zmq_socket, watch);
  AddWatch(watch);
  MarkUnchecked(watch);
}

void EventLoop::UnwatchSocket(const void* zmq_socket) {
  const auto found = by_socket_.find(zmq_socket);
  if (found == by_socket_.end()) return;
  RemoveWatch(found->second.get());
  by_socket_.erase(found);
}

void EventLoop::SocketUsed(const void* zmq_socket) {
  const auto found = by_socket_.find(zmq_socket);
  if (found != by_socket_.end()) MarkUnchecked(found->second);
}

void EventLoop::MarkUnchecked(const WatchPtr& watch) {
  if (watch->unchecked) return;
  watch->unchecked = true;
  unchecked_.push_back(watch);
}

void EventLoop::AddWatch(WatchPtr watch) {
  CheckThread();
  watches_.push_back(std::move(watch));
  poll_set_stale_ = true;
}

void EventLoop::RemoveWatch(const Watch* watch) {
  CheckThread();
  const auto found = std::find_if(watches_.begin(), watches_.end(),
                                  [&](const WatchPtr& other) { return other.get() == watch; });
  CHECK(found != watches_.end());
  (*found)->active = false;
  watches_.erase(found);
  poll_set_stale_ = true;
}

void EventLoop::RebuildPollSet() {
  poll_set_->watches = watches_;
  poll_set_->entries.clear();
  for (const WatchPtr& watch : watches_) poll_set_->entries.push_back({watch->fd, POLLIN, 0});
  poll_set_->entries.push_back({wake_fd_, POLLIN, 0});
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
  // Post wakes the loop only when it finds the queue empty, so what is left needs a wake-up of
  // ours.
  if (left) Wake(wake_fd_);
}

std::optional<base::Duration> EventLoop::PollTimeout(std::optional<base::Instant> deadline) const {
  constexpr base::Duration kNow(0);
  if (!unchecked_.empty() || stop_.load(std::memory_order_relaxed)) return kNow;
  std::optional<base::Instant> wake = timers_->NextDue();
  if (deadline && (!wake || *deadline < *wake)) wake = deadline;
  if (!wake && options_.spin == kNow) return std::nullopt;
  const base::Instant now = clock_.Now();
  if (now - last_event_ < options_.spin) return kNow;
  if (!wake) return std::nullopt;
  return std::max(kNow, *wake - now);
}

void EventLoop::Pass(std::optional<base::Instant> deadline) {
  ++stats_.passes;
  if (poll_set_stale_) RebuildPollSet();
  const std::optional<base::Duration> timeout = PollTimeout(deadline);
  timespec wait{};
  if (timeout) {
    wait.tv_sec = timeout->count() / 1'000'000;
    wait.tv_nsec = timeout->count() % 1'000'000 * 1000;
  }
  if (!timeout || timeout->count() > 0) ++stats_.sleeps;
  const int ready = ppoll(poll_set_->entries.data(), poll_set_->entries.size(),
                          timeout ? &wait : nullptr, nullptr);
  CHECK(ready >= 0 || errno == EINTR);
  if (ready > 0) Dispatch();
  stats_.timers_run += timers_->RunDue(clock_.Now());
  DrainUnchecked();
}

void EventLoop::Dispatch() {
  if (poll_set_->entries.back().revents != 0) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(wake_fd_, &count, sizeof count);
    RunPosted();
  }
  // By index over this pass's own set: callbacks may add and remove watches meanwhile.
  for (size_t i = 0; i < poll_set_->watches.size(); ++i) {
    // Keeps the callback alive while it runs, even if it removes its own watch.
    const WatchPtr watch = poll_set_->watches[i];
    if (poll_set_->entries[i].revents == 0 || !watch->active) continue;
    if (watch->zmq_socket != nullptr) {
      DrainSocket(watch);
    } else {
      watch->on_readable();
    }
  }
  last_event_ = clock_.Now();
}

void EventLoop::DrainSocket(const WatchPtr& watch) {
  if (watch->on_ready() == Drained::kAll) {
    watch->unchecked = false;
  } else {
    MarkUnchecked(watch);
  }
}

void EventLoop::DrainUnchecked() {
  if (unchecked_.empty()) return;
  std::vector<WatchPtr> turn;
  turn.swap(unchecked_);
  for (const WatchPtr& watch : turn) {
    if (!watch->unchecked || !watch->active) continue;
    watch->unchecked = false;
    DrainSocket(watch);
  }
  last_event_ = clock_.Now();
}

}  // namespace freshet::transport
