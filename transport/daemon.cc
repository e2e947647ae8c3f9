// SPDX-License-Identifier: Apache-2.0
#include "transport/daemon.h"

#include <unistd.h>

#include <csignal>

#include "base/log.h"
#include "transport/entropy.h"
#include "transport/malloc_tuning.h"

namespace freshet::transport {
namespace {

EventLoopOptions LoopOptions() {
  TuneMallocForFrames();
  return {};
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
