// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/runtime.h"

namespace freshet::transport {

// Pending timers in the order they are due; equal times run in the order they were set. Knows no
// clock. One thread. A callback may set and cancel timers; those it sets run in a later RunDue at
// the earliest.
class TimerQueue {
 public:
  base::TimerId Add(base::Instant due, std::function<void()> callback);
  void Cancel(base::TimerId id);

  std::optional<base::Instant> NextDue() const;
  // Runs what is due at `now`; returns how many ran.
  size_t RunDue(base::Instant now);
  size_t size() const { return timers_.size(); }

 private:
  using Key = std::pair<base::Instant, base::TimerId>;

  base::TimerId next_id_{1};
  std::map<Key, std::function<void()>> timers_;
  std::unordered_map<base::TimerId, base::Instant> due_by_id_;
};

}  // namespace freshet::transport
