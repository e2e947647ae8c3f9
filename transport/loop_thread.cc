// SPDX-License-Identifier: Apache-2.0
#include "transport/loop_thread.h"

#include <signal.h>

#include <string>
#include <system_error>

#include "base/check.h"
#include "transport/entropy.h"
#include "transport/malloc_tuning.h"

namespace freshet::transport {
namespace {

// Threads inherit the mask of the one that starts them.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before_) == 0);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_;
};

EventLoopOptions LoopOptions() {
  TuneMallocForFrames();
  return {};
}

}  // namespace

LoopThread::LoopThread() : loop_(LoopOptions()), endpoint_(loop_), random_(DrawSeed()) {
  const NoSignals masked;
  executor_.emplace(loop_);
}

LoopThread::~LoopThread() { Stop(); }

base::Result<> LoopThread::Start() {
  CHECK(!thread_.joinable());
  const NoSignals masked;
  try {
    thread_ = std::thread([this] { loop_.Run(); });
  } catch (const std::system_error& error) {
    return base::Fail(base::ErrorCode::kResourceExhausted,
                      std::string("cannot start the loop's thread: ") + error.what());
  }
  return {};
}

void LoopThread::Stop() {
  if (!thread_.joinable()) return;
  loop_.Stop();
  thread_.join();
  executor_->Shutdown(ThreadExecutor::Queued::kDrop);
}

}  // namespace freshet::transport
