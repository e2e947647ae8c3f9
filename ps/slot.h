// SPDX-License-Identifier: Apache-2.0
// Slot: what a PS knows of one partition: whether it serves it, since which tenure, and how much of it
// is durable. Belongs to the PS loop.
#pragma once

#include <memory>
#include <vector>

#include "protocol/image.h"
#include "protocol/messages.h"
#include "ps/partition.h"

namespace freshet::ps {

enum class SlotState : uint8_t {
  kAbsent,   // not ours by the last view
  kLoading,  // ours; its image is being read
  kServing
};

struct Slot {
  SlotState state = SlotState::kAbsent;
  protocol::Tenure tenure;
  protocol::MigrationId migration;  // the view's intent: it is to leave
  bool frozen = false;              // until a view without that intent (rule G12)
  std::unique_ptr<Partition> partition;
  bool wanted = false;   // a request came while loading: load it earlier
  uint64_t touched = 0;  // rows of pulls, and twice those of pushes, since it is served here

  // The newest image of this partition that is known to be in the store, whoever wrote it.
  protocol::Stamp saved;
  uint32_t saved_cut = 0;  // rows with a later cut are not in it
  uint64_t saved_bytes = 0;
  uint64_t difference_bytes = 0;
  uint32_t differences = 0;
  // Claims under the current tenure, about images stamped with it (rule G18).
  std::vector<protocol::LogWatermark> durable;

  bool serving() const { return state == SlotState::kServing; }
  bool NeedsImage() const {
    return serving() && (saved.tenure != tenure || saved.version != partition->version());
  }
};

// One per partition of the cluster, by PartitionId.
using Slots = std::vector<Slot>;

}  // namespace freshet::ps
