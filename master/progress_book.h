// SPDX-License-Identifier: Apache-2.0
// ProgressBook: what the partitions' current owners have reported, and what follows from it: done (G14),
// the durable floor (G18) and where leases must be cut (G16). Pure; belongs to the master's loop.
#pragma once

#include <map>
#include <vector>

#include "base/mutant.h"
#include "protocol/messages.h"
#include "protocol/span.h"

namespace freshet::master {

class ProgressBook {
 public:
  explicit ProgressBook(uint32_t partitions) : reports_(partitions) {}

  // Rule G6: a new tenure; what was reported before says nothing about it.
  void Forget(protocol::PartitionId partition);
  // A report under the partition's current tenure (the caller has checked, rule G9). Sets only grow
  // within a tenure, so reports may come in any order.
  void Report(protocol::PartitionId partition, const protocol::AppliedSets& applied,
              const std::vector<protocol::LogWatermark>& durable);

  // Rule G15: unknown is not empty.
  bool AllReported() const {
    return reported_ == reports_.size() || (MUTANT(kSkipUnreported) && reported_ > 0);
  }
  bool Reported(protocol::PartitionId partition) const {
    return reports_[partition.value()].reported;
  }
  // Offsets in the applied set of every partition; empty while any report is missing.
  const protocol::SpanSet& Done(protocol::LogId log) const;
  // Lowest durable watermark of any partition; 0 while any report is missing.
  protocol::Offset DurableFloor(protocol::LogId log) const;
  // What the partition's owner has claimed to be durable under the current tenure.
  std::vector<protocol::LogWatermark> DurableOf(protocol::PartitionId partition) const;
  // First offset that no partition reported has, nor any after it.
  protocol::Offset Highest(protocol::LogId log) const;
  // Edges of all reported sets strictly inside `within`, ascending, each once.
  std::vector<protocol::Offset> Edges(protocol::LogId log, protocol::Span within) const;

  uint32_t partitions() const { return static_cast<uint32_t>(reports_.size()); }

 private:
  struct PartitionReport {
    bool reported = false;
    protocol::AppliedSets applied;
    std::map<protocol::LogId, protocol::Offset> durable;
  };
  std::vector<PartitionReport> reports_;
  size_t reported_ = 0;
  // Computed when asked for after a change.
  mutable std::map<protocol::LogId, protocol::SpanSet> done_;
};

}  // namespace freshet::master
