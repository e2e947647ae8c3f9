// SPDX-License-Identifier: Apache-2.0
// How long the threads of this process ran, and how long they waited for a processor.
#pragma once

#include "base/runtime.h"

namespace freshet::transport {

struct ThreadTimes {
  base::Duration ran{0};
  base::Duration waited{0};  // able to run, and not let
};
// Of the main thread and of those that ZeroMQ sends and receives with, together: what a message goes
// through. Zero where the kernel does not tell.
ThreadTimes MessageThreadTimes();

}  // namespace freshet::transport
