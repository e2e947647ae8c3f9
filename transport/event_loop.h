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
#include <vector>

#include "base/result.h"
#include "base/runtime.h"
#include "transport/system_clock.h"

namespace freshet::transport {

class TimerQueue;

struct EventLoopOptions {
  // How long the loop looks again and again after its last event before it sleeps. A sleeping core
  // wakes slowly, a spinning one takes the core from others: 0 where loops outnumber cores.
  base::Duration spin = base::Duration(50);
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
// All callbacks run on that thread, one at a time; they must not block. Each pass gives every source
// a bounded turn, so none starves another. Whoever watches something unwatches it before it goes.
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
  // Until `condition`, looked at once per pass, holds; false when `limit` passed or Stop came first.
  bool RunUntil(const std::function<bool()>& condition, base::Duration limit);

  // Calls `on_readable` whenever `fd` can be read or has an error; it must read it or unwatch it.
  void WatchFd(int fd, std::function<void()> on_readable);
  // After this returns the callback will not run. Unknown fds are ignored.
  void UnwatchFd(int fd);

  enum class Drained { kAll, kMore };
  // Calls `on_ready` when the ZeroMQ socket has a message; it reads a bounded burst and says whether
  // there may be more.
  void WatchSocket(void* zmq_socket, std::function<Drained()> on_ready);
  void UnwatchSocket(void* zmq_socket);

  const EventLoopStats& stats() const { return stats_; }

 private:
  struct Watch;
  struct PollSet;

  void AddWatch(Watch watch);
  void RemoveWatch(const void* zmq_socket, int fd);
  void RebuildPollSet();
  void RunPosted();
  // One turn of everything, waiting at most until `deadline` if nothing is ready.
  void Pass(std::optional<base::Instant> deadline);
  int64_t PollTimeoutMs(base::Instant now, std::optional<base::Instant> deadline) const;
  void Dispatch();
  bool TakeStop();
  void CheckThread() const;

  const EventLoopOptions options_;
  SystemClock clock_;
  std::unique_ptr<TimerQueue> timers_;
  std::vector<std::shared_ptr<Watch>> watches_;
  std::unique_ptr<PollSet> poll_set_;
  bool poll_set_stale_ = true;
  bool more_to_drain_ = false;
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
