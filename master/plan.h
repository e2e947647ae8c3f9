// SPDX-License-Identifier: Apache-2.0
// Plan: a change of the cluster that was asked for, or that the master decided on, as it is kept with the
// cluster's state. A plan says what shall be in the end, not how: a restarted master goes on from what
// is there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/messages.h"

namespace freshet::master {

enum class PlanKind : uint8_t {
  kScale = 1,      // so many servers, so many workers
  kMigrate = 2,    // a new server takes everything of another one, which leaves
  kDrain = 3,      // a node leaves
  kRebalance = 4,  // equal shares
  kJoin = 5,       // a server that came by itself gets its share
  kEvenLoad = 6,   // partitions leave a server that is slow or has much to do
  kRelieve = 7     // partitions leave a server that is short of memory
};

enum class PlanState : uint8_t {
  kQueued = 1,
  kRunning = 2,
  kDone = 3,
  kFailed = 4,
  kCancelled = 5
};

// 0 = unchanged.
struct PlanRequest {
  PlanKind kind = PlanKind::kScale;
  uint32_t ps = 0;
  uint32_t workers = 0;
  std::string node;  // of kMigrate, kDrain, kJoin, kRelieve
  // Of kMigrate, for the new server; 0 = as the old one.
  uint32_t processors = 0;
  uint64_t memory_bytes = 0;
  static auto Fields(auto& self, auto&& f) {
    return f(self.kind, self.ps, self.workers, self.node, self.processors, self.memory_bytes);
  }
  bool operator==(const PlanRequest&) const = default;
};

struct PlanRecord {
  uint64_t id = 0;
  PlanRequest request;
  PlanState state = PlanState::kQueued;
  std::vector<std::string> joining;  // nodes started for it
  std::vector<std::string> leaving;  // nodes that end with it
  uint64_t moved = 0;                // partitions
  uint64_t failed_moves = 0;
  uint64_t rows = 0;
  uint64_t bytes = 0;  // that went over the wire
  int64_t began_unix_ms = 0;
  int64_t ended_unix_ms = 0;
  uint64_t pause_p50_us = 0;  // of the partitions moved since the master started
  uint64_t pause_p99_us = 0;
  uint64_t pause_max_us = 0;
  std::string text;  // how it ended, or what it waits for

  bool ended() const { return state >= PlanState::kDone; }
  static auto Fields(auto& self, auto&& f) {
    return f(self.id, self.request, self.state, self.joining, self.leaving, self.moved,
             self.failed_moves, self.rows, self.bytes, self.began_unix_ms, self.ended_unix_ms,
             self.pause_p50_us, self.pause_p99_us, self.pause_max_us, self.text);
  }
};

std::string PlanKindName(PlanKind kind);
std::string PlanStateName(PlanState state);
// "scale --ps 4", as a person would have asked for it.
std::string PlanText(const PlanRequest& request);

}  // namespace freshet::master

namespace freshet::protocol {

template <>
struct EnumRange<master::PlanKind> {
  static constexpr auto first = master::PlanKind::kScale, last = master::PlanKind::kRelieve;
};
template <>
struct EnumRange<master::PlanState> {
  static constexpr auto first = master::PlanState::kQueued, last = master::PlanState::kCancelled;
};

}  // namespace freshet::protocol
