// SPDX-License-Identifier: Apache-2.0
// LogTail: where a log that grows ended, and when: its newest records wait a while for more, so that
// batches do not get tiny (rule G20). Pure; belongs to the master's loop.
#pragma once

#include <deque>

#include "base/runtime.h"
#include "protocol/span.h"

namespace freshet::master {

class LogTail {
 public:
  explicit LogTail(base::Duration linger = {}) : linger_(linger) {}

  // The log ends there now. What it has the first time has waited long enough.
  void Note(protocol::Offset end, base::Instant now) {
    if (!known_) settled_ = end;
    const protocol::Offset last = marks_.empty() ? settled_ : marks_.back().end;
    known_ = true;
    Settled(now);
    if (end > last) marks_.push_back({end, now});
  }
  // The end of what has waited long enough.
  protocol::Offset Settled(base::Instant now) {
    while (!marks_.empty() && now - marks_.front().at >= linger_) {
      settled_ = marks_.front().end;
      marks_.pop_front();
    }
    return settled_;
  }

 private:
  struct Mark {
    protocol::Offset end = 0;
    base::Instant at;
  };

  base::Duration linger_;
  bool known_ = false;
  protocol::Offset settled_ = 0;
  std::deque<Mark> marks_;  // ascending; one for each time it grew within the linger
};

}  // namespace freshet::master
