// SPDX-License-Identifier: Apache-2.0
#include "transport/signal_watcher.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "transport/event_loop.h"

namespace freshet::transport {

SignalWatcher::SignalWatcher(EventLoop& loop, std::initializer_list<int> signals,
                             std::function<void(int signal)> on_signal)
    : loop_(loop), on_signal_(std::move(on_signal)) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) CHECK(sigaddset(&set, signal) == 0);
  CHECK(pthread_sigmask(SIG_BLOCK, &set, &original_mask_) == 0);
  fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  CHECK(fd_ >= 0);
  loop_.WatchFd(fd_, [this] { Drain(); });
}

SignalWatcher::~SignalWatcher() {
  loop_.UnwatchFd(fd_);
  close(fd_);
  pthread_sigmask(SIG_SETMASK, &original_mask_, nullptr);
}

void SignalWatcher::Drain() {
  signalfd_siginfo info;
  while (read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    on_signal_(static_cast<int>(info.ssi_signo));
  }
}

}  // namespace freshet::transport
