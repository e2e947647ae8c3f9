// SPDX-License-Identifier: Apache-2.0
// Placement: which partitions should move, as pure functions of what is known. No partition is named
// twice in an answer; planning again after its moves gives none.
#pragma once

#include <cstdint>
#include <vector>

#include "protocol/view.h"

namespace freshet::master {

struct PlannedMove {
  protocol::PartitionId partition;
  uint16_t from = protocol::kNoNode;
  uint16_t to = protocol::kNoNode;
  bool operator==(const PlannedMove&) const = default;
};

// Equal numbers of partitions for all of `servers` (indices into View::nodes) with as few moves as that
// takes: those of other nodes go, those of a server above its share go. Numbers differ by one at most.
// Empty when there is no server.
std::vector<PlannedMove> PlanEqualShares(const std::vector<protocol::Place>& places,
                                         const std::vector<uint16_t>& servers);

struct ServerLoad {
  uint16_t node = protocol::kNoNode;
  // Work a second that it could do, in the unit of the partitions' loads.
  double capacity = 1;
  uint64_t free_bytes = UINT64_MAX;  // of memory; a partition goes only where it has room
};

struct PartitionLoad {
  double load = 0;  // work a second
  uint64_t bytes = 0;
};

struct LoadPlanOptions {
  // Servers whose utilisation (load / capacity) is within this factor of the mean are left alone.
  double tolerance = 1.15;
  size_t max_moves = 64;
  // A server keeps as many: without work nobody would see that it is fast again.
  size_t keep = 1;
};

// Moves that even out utilisation, each the one that lowers the highest most, from the fullest server to
// the emptiest; stops when none helps. A partition hotter than all others moves like any other.
std::vector<PlannedMove> PlanEvenLoad(const std::vector<protocol::Place>& places,
                                      const std::vector<ServerLoad>& servers,
                                      const std::vector<PartitionLoad>& partitions,
                                      const LoadPlanOptions& options);

// Moves that bring `from` below `bytes_to_free` less memory, largest partitions first, each to the
// server with the most room; fewer if nobody has room.
struct MemoryRelief {
  uint16_t from = protocol::kNoNode;
  uint64_t bytes_to_free = 0;
};
std::vector<PlannedMove> PlanMemoryRelief(const std::vector<protocol::Place>& places,
                                          std::vector<ServerLoad> servers,
                                          const std::vector<PartitionLoad>& partitions,
                                          const MemoryRelief& relief);

}  // namespace freshet::master
