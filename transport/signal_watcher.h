// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

#include <functional>
#include <initializer_list>

namespace freshet::transport {

class EventLoop;

// Turns signals into callbacks on the loop. It blocks them in the calling thread, so make it first
// in main, before any other thread starts: threads inherit the mask. So do child processes through
// fork and exec: a launcher has to restore original_mask() in the child. Several arrivals of one
// signal may be delivered once (SIGCHLD: reap in a loop). Restores the mask when it goes.
class SignalWatcher {
 public:
  SignalWatcher(EventLoop& loop, std::initializer_list<int> signals,
                std::function<void(int signal)> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

  const sigset_t& original_mask() const { return original_mask_; }

 private:
  void Drain();

  EventLoop& loop_;
  std::function<void(int)> on_signal_;
  sigset_t original_mask_;
  int fd_ = -1;
};

}  // namespace freshet::transport
