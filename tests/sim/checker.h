// SPDX-License-Identifier: Apache-2.0
// Checker: looks into the brains and the disks of a simulated cluster and judges: are the invariants
// kept? It trusts nobody's word: rows are compared with the applied sets beside them and with the log.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/sim_cluster.h"

namespace freshet::sim {

// The first violation ends a run: the invariant, and what was seen.
using Violation = std::optional<std::string>;

// True if all of `part` is in `set`.
bool Contains(const protocol::SpanSet& set, const protocol::SpanSet& part);

class Checker {
 public:
  explicit Checker(SimCluster& cluster);

  // Cheap; between any two events.
  Violation CheckProgress();
  // Rows of everything that is served, against its applied sets (G1, I1).
  Violation CheckRows() const;
  // The same of every image on every disk.
  Violation CheckDisks() const;
  // What the cluster must be when the job is over and everything is served again.
  Violation CheckEnd();
  // True once the job is over and every partition is served by its owner.
  bool IsSettled() const;

  // Asks the master for a checkpoint, as a user would; what was applied before it must be durable when
  // it is answered.
  void AskForCheckpoint();
  uint64_t checkpoints_answered() const { return checkpoints_answered_; }
  // Commits of migrations.
  uint64_t moves() const { return moves_; }

 private:
  struct AuditKey {
    const SimLog* log = nullptr;
    protocol::Key key = 0;
    protocol::Span run;  // the offsets that share the row
  };

  bool IsOver(const master::MasterNode& master) const;
  Violation CheckAudit(const master::MasterNode& master) const;
  Violation CheckDone(const master::MasterNode& master) const;
  Violation CheckFloor(const master::MasterNode& master);
  Violation CheckOwners() const;
  Violation CheckPartition(const ps::Partition& partition, const std::string& where) const;
  Violation CheckDurable(const master::MasterNode& master);
  Violation CheckSameRows(const ps::TableSet& tables, const ps::Partition& live,
                          const ps::Partition& restored) const;
  Violation CheckValidation(const master::MasterNode& master) const;
  void OnDrained(const std::string& name, const ps::PsNode& server);
  uint64_t Repairs() const;
  void OnViewWritten(const protocol::View& before, const protocol::View& after);
  Violation CheckMove(const protocol::View& before, const protocol::View& after, size_t p) const;
  void OnCheckpointed(const std::map<uint16_t, protocol::AppliedSets>& before);

  SimCluster& cluster_;
  std::vector<const SimLog*> training_;
  std::vector<std::vector<AuditKey>> audit_keys_;  // by partition
  std::map<protocol::LogId, std::vector<uint64_t>> dead_before_;
  std::map<protocol::LogId, protocol::Offset> floor_;  // the highest the master ever told
  std::vector<protocol::Table> tables_;                // as last seen
  uint64_t repairs_ = 0;
  Violation late_;  // found by a callback
  uint64_t checkpoints_answered_ = 0;
  uint64_t moves_ = 0;
};

}  // namespace freshet::sim
