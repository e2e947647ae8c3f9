// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/runtime.h"

namespace freshet::transport {

// Where a thread waits for a value that a loop will give. Shared by both sides (shared_ptr), so
// that a value which comes after the waiting has ended finds a place. Thread safe.
template <class T>
class Answer {
 public:
  // The first value counts.
  void Set(T value) {
    const std::lock_guard lock(mutex_);
    if (!value_) value_ = std::move(value);
    set_.notify_all();
  }

  // Takes the value; nothing if none came within `limit`. Never on the loop's own thread.
  std::optional<T> Wait(base::Duration limit) {
    std::unique_lock lock(mutex_);
    set_.wait_for(lock, limit, [this] { return value_.has_value(); });
    return std::exchange(value_, std::nullopt);
  }

 private:
  std::mutex mutex_;
  std::condition_variable set_;
  std::optional<T> value_;  // guarded by mutex_
};

}  // namespace freshet::transport
