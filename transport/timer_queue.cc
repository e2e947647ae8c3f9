// SPDX-License-Identifier: Apache-2.0
#include "transport/timer_queue.h"

namespace freshet::transport {

base::TimerId TimerQueue::Add(base::Instant due, std::function<void()> callback) {
  const base::TimerId id = next_id_;
  next_id_ = next_id_.Next();
  timers_.emplace(Key{due, id}, std::move(callback));
  due_by_id_.emplace(id, due);
  return id;
}

void TimerQueue::Cancel(base::TimerId id) {
  const auto found = due_by_id_.find(id);
  if (found == due_by_id_.end()) return;
  timers_.erase(Key{found->second, id});
  due_by_id_.erase(found);
}

std::optional<base::Instant> TimerQueue::NextDue() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->first.first;
}

size_t TimerQueue::RunDue(base::Instant now) {
  // Timers set by the callbacks below wait for the next call, so a chain of zero delays cannot
  // keep the loop from its sockets.
  const base::TimerId first_new = next_id_;
  size_t ran = 0;
  auto it = timers_.begin();
  while (it != timers_.end() && it->first.first <= now) {
    if (it->first.second >= first_new) {
      ++it;
      continue;
    }
    const Key key = it->first;
    const std::function<void()> callback = std::move(it->second);
    due_by_id_.erase(key.second);
    timers_.erase(it);
    callback();
    ++ran;
    // The callback may have removed any timer, so the place is looked up again.
    it = timers_.upper_bound(key);
  }
  return ran;
}

}  // namespace freshet::transport
