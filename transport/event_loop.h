// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/runtime.h"
#include "transport/system_clock.h"

namespace freshet::transport {

class TimerQueue;

struct EventLoopOptions {
  // How long the loop looks again and again after its last event before it sleeps. A sleeping core
  // wakes slowly, so 50 us shorten round trips where every loop and every ZeroMQ thread has a core
  // of its own; with fewer cores spinning takes them from those who have the work, and costs
  // threefold.
  base::Duration spin = base::Duration(0);
  // Callbacks posted and not yet run; Post fails beyond it.
  size_t max_posted = 65536;
};

// How often the loop did what; read on the loop thread.
struct EventLoopStats {
  uint64_t passes = 0;
  uint64_t sleeps = 0;
  uint64_t timers_run = 0;
  uint64_t posted_run = 0;
  uint64_t posts_refused = 0;
};

// One thread's events: timers, ZeroMQ sockets, file descriptors and callbacks from other threads.
// Everything but Post and Stop belongs to the thread in Run (before Run: to the one that builds).
// All callbacks run on that thread, one at a time; they must not block. Each pass gives every
// source a bounded turn, so none starves another. Whoever watches something unwatches it before it
// goes.
class EventLoop final : public base::Timers {
 public:
  explicit EventLoop(EventLoopOptions options = {});
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  const base::Clock& clock() const { return clock_; }

  base::TimerId After(base::Duration delay, std::function<void()> callback) override;
  void Cancel(base::TimerId id) override;

  // Runs `callback` on the loop soon, in the order of the calls. Any thread, never blocks.
  // kResourceExhausted: too many are waiting; the callback was not taken.
  [[nodiscard]] base::Result<> Post(std::function<void()> callback);

  // Until Stop. A Stop before Run makes the next Run return at once.
  void Run();
  // Any thread; the pass under way ends first.
  void Stop();
  // Until `condition`, looked at once per pass, holds; false when `limit` passed or Stop came
  // first.
  bool RunUntil(const std::function<bool()>& condition, base::Duration limit);

  // Calls `on_readable` whenever `fd` can be read or has an error; it must read it or unwatch it.
  void WatchFd(int fd, std::function<void()> on_readable);
  // After this returns the callback will not run. Unknown fds are ignored.
  void UnwatchFd(int fd);

  enum class Drained { kAll, kMore };
  // Calls `on_ready` when the ZeroMQ socket may have messages. It takes a bounded burst: kAll only
  // after the socket said that there is nothing left.
  void WatchSocket(void* zmq_socket, std::function<Drained()> on_ready);
  void UnwatchSocket(const void* zmq_socket);
  // To be called after every send on a watched socket: sending may swallow the sign that a message
  // came in, so the loop must ask the socket itself before it sleeps.
  void SocketUsed(const void* zmq_socket);

  const EventLoopStats& stats() const { return stats_; }

 private:
  struct Watch;
  struct PollSet;
  using WatchPtr = std::shared_ptr<Watch>;

  void AddWatch(WatchPtr watch);
  void RemoveWatch(const Watch* watch);
  void RebuildPollSet();
  void RunPosted();
  // One turn of everything, waiting at most until `deadline` if nothing is ready.
  void Pass(std::optional<base::Instant> deadline);
  // Nothing: for ever.
  std::optional<base::Duration> PollTimeout(std::optional<base::Instant> deadline) const;
  void Dispatch();
  void DrainSocket(const WatchPtr& watch);
  void DrainUnchecked();
  void MarkUnchecked(const WatchPtr& watch);
  bool TakeStop();
  void CheckThread() const;

  const EventLoopOptions options_;
  SystemClock clock_;
  std::unique_ptr<TimerQueue> timers_;
  std::vector<WatchPtr> watches_;
  std::unordered_map<int, WatchPtr> by_fd_;
  std::unordered_map<const void*, WatchPtr> by_socket_;
  // Sockets that may have messages although their descriptor does not say so.
  std::vector<WatchPtr> unchecked_;
  std::unique_ptr<PollSet> poll_set_;
  bool poll_set_stale_ = true;
  base::Instant last_event_{};
  EventLoopStats stats_;
  std::atomic<std::thread::id> running_on_{};

  int wake_fd_ = -1;
  std::atomic<bool> stop_{false};
  std::mutex posted_mutex_;
  std::deque<std::function<void()>> posted_;  // guarded by posted_mutex_
  std::atomic<uint64_t> posts_refused_{0};
};

}  // namespace freshet::transport
