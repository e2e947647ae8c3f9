// SPDX-License-Identifier: Apache-2.0
#include "transport/system_clock.h"

#include <time.h>

namespace freshet::transport {

base::Instant SystemClock::Now() const {
  return base::Instant(std::chrono::duration_cast<base::Duration>(
      std::chrono::steady_clock::now().time_since_epoch()));
}

base::WallTime SystemClock::WallNow() const {
  return {std::chrono::duration_cast<std::chrono::milliseconds>(
              std::chrono::system_clock::now().time_since_epoch())
              .count()};
}

base::Duration ThreadProcessorTime() {
  timespec used{};
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) +
         std::chrono::duration_cast<base::Duration>(std::chrono::nanoseconds(used.tv_nsec));
}

}  // namespace freshet::transport
