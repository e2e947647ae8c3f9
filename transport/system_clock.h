// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/runtime.h"

namespace freshet::transport {

// The only place of the program that reads the machine's clocks. Thread safe.
class SystemClock final : public base::Clock {
 public:
  base::Instant Now() const override;
  base::WallTime WallNow() const override;
};

// Processor time that the calling thread has used.
base::Duration ThreadProcessorTime();

}  // namespace freshet::transport
