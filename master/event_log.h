// SPDX-License-Identifier: Apache-2.0
// EventLog: what happened in the cluster, for people: the newest entries in memory, each also handed to
// a sink (the events file). Belongs to the master's loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/runtime.h"

namespace freshet::master {

struct Event {
  uint64_t sequence = 0;
  int64_t unix_ms = 0;
  std::string kind;  // "node_registered", "node_exited", "checkpoint", ..
  std::string node;  // empty: the cluster
  std::string text;
};

class EventLog {
 public:
  static constexpr size_t kKept = 10'000;

  explicit EventLog(const base::Clock& clock) : clock_(clock) {}
  std::function<void(const Event&)> sink;

  // Numbers grow over restarts of the master, so that who follows misses nothing.
  void ContinueAt(uint64_t sequence) { sequence_ = sequence; }
  void Add(const std::string& kind, const std::string& node, const std::string& text) {
    Event event{++sequence_, clock_.WallNow().unix_ms, kind, node, text};
    if (sink) sink(event);
    events_.push_back(std::move(event));
    if (events_.size() > kKept) events_.pop_front();
  }
  // Kept events with a sequence above `sequence`, oldest first, at most `limit`.
  std::vector<Event> Since(uint64_t sequence, size_t limit) const {
    std::vector<Event> out;
    for (const Event& event : events_) {
      if (event.sequence > sequence && out.size() < limit) out.push_back(event);
    }
    return out;
  }

 private:
  const base::Clock& clock_;
  uint64_t sequence_ = 0;
  std::deque<Event> events_;
};

}  // namespace freshet::master
