// SPDX-License-Identifier: Apache-2.0
// What is said while a partition moves from one PS to another: between the two, and to the master.
#pragma once

#include <string>
#include <vector>

#include "protocol/messages.h"

namespace freshet::protocol {

// How the target of a migration asks its source for rows (rule G10). The source keeps nothing between
// two requests, so a repeated or late one does no harm.
enum class CopyMode : uint8_t {
  // Rows of a few blocks, as they are now: while it is served other rows change. What changed since the
  // first slice is in the next round or difference.
  kSlice = 1,
  kDifference = 2,  // everything that changed, at one instant
  kFreeze = 3       // the same, and no push is taken any more (rule G12)
};
template <>
struct EnumRange<CopyMode> {
  static constexpr auto first = CopyMode::kSlice, last = CopyMode::kFreeze;
};

// Where a round of slices is: all blocks of all tables, in order.
struct CopyPosition {
  uint16_t table = 0;
  uint32_t block = 0;
  static auto Fields(auto& self, auto&& f) { return f(self.table, self.block); }
  bool operator==(const CopyPosition&) const = default;
};

struct CopyRequest {
  static constexpr MessageType kType = MessageType::kCopyRequest;
  PartitionId partition;
  MigrationId migration;
  Tenure tenure;
  CopyMode mode = CopyMode::kSlice;
  // Rows changed after this cut of the source; 0 = all rows (kSlice only).
  uint32_t since_cut = 0;
  CopyPosition at;  // kSlice
  static auto Fields(auto& self, auto&& f) {
    return f(self.partition, self.migration, self.tenure, self.mode, self.since_cut, self.at);
  }
};

// The frames are blocks (image.h).
struct CopyReply {
  static constexpr MessageType kType = MessageType::kCopyReply;
  // Of a round's first slice and of a difference: the cut before which everything that changed is in it.
  uint32_t cut = 0;
  CopyPosition next;  // kSlice
  uint8_t more = 0;   // kSlice: 1 = the round goes on at `next`
  // Of a difference: what the rows are together with it.
  uint64_t version = 0;
  AppliedSets applied;
  // Of the first slice of all rows: how many there are, so that the target makes room once.
  std::vector<TableRows> tables;
  uint64_t turn_us = 0;   // of the source's loop, as processor time
  uint64_t quiet_us = 0;  // since the source served a worker
  static auto Fields(auto& self, auto&& f) {
    return f(self.cut, self.next, self.more, self.version, self.applied, self.tables, self.turn_us,
             self.quiet_us);
  }
};

enum class MoveState : uint8_t {
  kPrepared = 1,  // rule G11: the frozen image is durable at the target
  kFailed = 2,    // the target cannot do it, and why
  kServing = 3    // after the commit: pushes are taken again
};
template <>
struct EnumRange<MoveState> {
  static constexpr auto first = MoveState::kPrepared, last = MoveState::kServing;
};

// What the target of a migration tells the master.
struct MoveReport {
  static constexpr MessageType kType = MessageType::kMoveReport;
  PartitionId partition;
  MigrationId migration;
  Tenure tenure;  // of the source
  MoveState state = MoveState::kPrepared;
  AppliedSets applied;  // kPrepared: a first report under the next tenure (rule G21)
  uint64_t rows = 0;    // kPrepared
  uint64_t bytes = 0;   // kPrepared: that came over the wire
  // kServing: since the freeze was asked for, and of that until the difference was here and until it
  // was durable; the longest that the source's loop was busy with one request.
  uint64_t pause_us = 0;
  uint64_t copied_us = 0;
  uint64_t durable_us = 0;
  uint64_t longest_turn_us = 0;
  base::ErrorCode code = base::ErrorCode::kFailed;  // kFailed
  std::string message;
  static auto Fields(auto& self, auto&& f) {
    return f(self.partition, self.migration, self.tenure, self.state, self.applied, self.rows,
             self.bytes, self.pause_us, self.copied_us, self.durable_us, self.longest_turn_us,
             self.code, self.message);
  }
};

struct MoveReportReply {
  static constexpr MessageType kType = MessageType::kMoveReportReply;
  static auto Fields(auto&, auto&& f) { return f(); }
};

}  // namespace freshet::protocol
