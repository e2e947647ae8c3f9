// SPDX-License-Identifier: Apache-2.0
// LoopThread: an event loop with endpoint and executor on a thread of its own, for a program whose
// other threads compute. Until Start and after Stop everything belongs to the caller; between them
// to the loop's thread, which is reached by Post. Takes no signals: those stay with the program's
// threads.
#pragma once

#include <functional>
#include <optional>
#include <thread>

#include "base/result.h"
#include "base/runtime.h"
#include "transport/event_loop.h"
#include "transport/thread_executor.h"
#include "transport/zmq_endpoint.h"

namespace freshet::transport {

class LoopThread {
 public:
  // Also raises malloc's thresholds (malloc_tuning.h), for the whole process.
  LoopThread();
  // Stops.
  ~LoopThread();
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  ZmqEndpoint& endpoint() { return endpoint_; }
  base::Runtime runtime() { return {loop_.clock(), loop_, *executor_, random_}; }

  // Once. kResourceExhausted: the system gives no more threads.
  base::Result<> Start();
  // Runs `callback` on the loop soon; kResourceExhausted: too many are waiting. Any thread.
  base::Result<> Post(std::function<void()> callback) { return loop_.Post(std::move(callback)); }
  // Ends the loop and the executor; what is posted and did not run will not run. Not on the loop.
  void Stop();

 private:
  EventLoop loop_;
  std::optional<ThreadExecutor> executor_;
  ZmqEndpoint endpoint_;
  base::Random random_;
  std::thread thread_;
};

}  // namespace freshet::transport
