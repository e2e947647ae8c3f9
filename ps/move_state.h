// SPDX-License-Identifier: Apache-2.0
// What a MoveTarget knows of one migration, for its own source files.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "ps/move_target.h"

namespace freshet::ps {

inline constexpr transport::CallOptions kReportCall{.deadline = std::chrono::seconds(30),
                                                    .attempt = std::chrono::milliseconds(50),
                                                    .max_attempt = std::chrono::seconds(1)};

struct MoveTarget::Move {
  protocol::PartitionId partition;
  protocol::MigrationId id;
  protocol::Tenure tenure;  // of the source
  transport::PeerId source;
  protocol::Incarnation source_incarnation;
  std::unique_ptr<Partition> rows;
  bool ended = false;
  bool slice_asked = false;
  bool freezing = false;
  bool prepared = false;
  base::TimerId timer;
  base::TimerId commit_timer;
  std::optional<protocol::RequestId> call;
  uint32_t failures = 0;

  protocol::CopyPosition at;  // of the round under way
  uint32_t since_cut = 0;     // of the source; 0 = all rows
  uint32_t next_cut = 0;      // what `since_cut` is for the round or difference after this one
  uint64_t round_bytes = 0;
  uint32_t rounds = 0;
  uint32_t differences = 0;
  uint64_t bytes = 0;

  protocol::Image whole;  // as far as it is cut
  protocol::CopyPosition whole_at;
  protocol::Stamp stored;  // tenure 0: nothing yet
  uint64_t stored_bytes = 0;
  uint64_t stored_difference_bytes = 0;
  uint32_t stored_differences = 0;
  base::Instant asked;
  base::Instant cut_at;
  base::Instant freeze_asked;
  base::Instant copied;
  base::Instant durable;
  uint64_t longest_turn_us = 0;
};

struct MoveTarget::StoreJob {
  std::vector<MovePtr> moves;
  std::vector<protocol::Image> images;
  base::Result<std::vector<char>> saved;
};

}  // namespace freshet::ps
