// SPDX-License-Identifier: Apache-2.0
#include "transport/daemon.h"

#include <unistd.h>

#include <csignal>

#include "base/log.h"
#include "transport/entropy.h"
#include "transport/malloc_tuning.h"

namespace freshet::transport {
namespace {

// A spinning loop takes its core from others: only where there are cores to spare.
EventLoopOptions LoopOptions() {
  TuneMallocForFrames();
  EventLoopOptions options;
  if (sysconf(_SC_NPROCESSORS_ONLN) <= 4) options.spin = base::Duration(0);
  return options;
}

}  // namespace

Daemon::Daemon()
    : loop_(LoopOptions()),
      signals_(loop_, {SIGTERM, SIGINT, SIGCHLD}, [this](int signal) { OnSignal(signal); }),
      executor_(loop_),
      endpoint_(loop_),
      random_(DrawSeed()) {}

Daemon::~Daemon() = default;

void Daemon::OnSignal(int signal) {
  if (signal == SIGCHLD) {
    if (on_child) on_child();
    return;
  }
  if (draining_) _exit(128 + signal);
  draining_ = true;
  FRESHET_LOG_INFO("signal {}: draining; a second one ends at once", signal);
  if (on_drain) {
    on_drain();
  } else {
    Exit(128 + signal);
  }
}

void Daemon::Exit(int code) {
  if (exiting_) return;
  exiting_ = true;
  code_ = code;
  loop_.Stop();
}

int Daemon::Run() {
  loop_.Run();
  executor_.Shutdown(ThreadExecutor::Queued::kDrop);
  return code_;
}

}  // namespace freshet::transport
