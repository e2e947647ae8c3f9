// SPDX-License-Identifier: Apache-2.0
// Daemon: what every main() binds a brain to: loop, executor, endpoint, signals, chance. Make it first
// in main, before any other thread; it belongs to the main thread. The first SIGTERM or SIGINT drains,
// a second one ends the process at once.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/runtime.h"
#include "transport/event_loop.h"
#include "transport/signal_watcher.h"
#include "transport/thread_executor.h"
#include "transport/zmq_endpoint.h"

namespace freshet::transport {

class Daemon {
 public:
  Daemon();
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  EventLoop& loop() { return loop_; }
  ZmqEndpoint& endpoint() { return endpoint_; }
  base::Runtime runtime() { return {loop_.clock(), loop_, executor_, random_}; }

  // What to do on the first signal: finish, then call Exit.
  std::function<void()> on_drain;
  // A child process ended.
  std::function<void()> on_child;

  // Ends Run with `code` soon; the first call counts.
  void Exit(int code);
  // Runs the loop until Exit; the exit code. Background work under way is finished, queued work is
  // dropped: whoever drained has waited for what matters.
  int Run();

 private:
  void OnSignal(int signal);

  EventLoop loop_;
  SignalWatcher signals_;
  ThreadExecutor executor_;
  ZmqEndpoint endpoint_;
  base::Random random_;
  bool draining_ = false;
  bool exiting_ = false;
  int code_ = 0;
};

}  // namespace freshet::transport
