// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/checker.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "protocol/audit.h"

namespace freshet::sim {

using protocol::AppliedSets;
using protocol::LogPurpose;
using protocol::PartitionId;
using protocol::Span;
using protocol::SpanSet;

bool Contains(const SpanSet& set, const SpanSet& part) {
  for (const Span& span : part.spans()) {
    if (set.Compare(span) != protocol::Overlap::kContained) return false;
  }
  return true;
}

Checker::Checker(SimCluster& cluster)
    : cluster_(cluster), audit_keys_(cluster.scenario().partitions) {
  cluster.on_drained = [this](const std::string& name, const ps::PsNode& server) {
    OnDrained(name, server);
  };
  cluster.on_view_written = [this](const protocol::View& before, const protocol::View& after) {
    OnViewWritten(before, after);
  };
  for (const SimLog& log : cluster.scenario().logs) {
    if (log.spec.purpose != LogPurpose::kTrain) continue;
    training_.push_back(&log);
    auto& dead_before = dead_before_[log.spec.log];
    dead_before.push_back(0);
    for (protocol::Offset o = 0; o < log.end; ++o) {
      dead_before.push_back(dead_before.back() + (log.IsDead(o) ? 1 : 0));
    }
    for (protocol::Offset o = 0; o < log.end; o += protocol::kAuditRun) {
      const protocol::Key key = protocol::AuditKey(log.spec.log, o);
      const auto p =
          protocol::PartitionOf(protocol::kAuditTable, key, cluster.scenario().partitions);
      audit_keys_[p.value()].push_back(
          {&log, key, {o, std::min(o + protocol::kAuditRun, log.end)}});
    }
  }
}

Violation Checker::CheckProgress() {
  if (late_) return late_;
  if (cluster_.unexplained_exit())
    return "I9 others are untouched: " + *cluster_.unexplained_exit();
  if (auto bad = CheckOwners()) return bad;
  const master::MasterNode* master = cluster_.master();
  // A master that has not loaded its state yet has nothing to say.
  if (master == nullptr || master->logs().empty()) return std::nullopt;
  if (master->phase() == master::Phase::kFailed) return "job: failed with " + master->error();
  if (tables_ != master->view().tables) tables_ = master->view().tables;
  if (auto bad = CheckDone(*master)) return bad;
  return CheckFloor(*master);
}

// I4: nothing is done that the current owner of any partition lacks.
Violation Checker::CheckDone(const master::MasterNode& master) const {
  const protocol::View& view = master.view();
  for (const SimLog* log : training_) {
    const SpanSet& done = master.progress().Done(log->spec.log);
    if (done.empty()) continue;
    for (size_t p = 0; p < view.places.size(); ++p) {
      const protocol::Place& place = view.places[p];
      const protocol::ViewNode& node = view.nodes[place.node];
      const ps::PsNode* owner = cluster_.FindServer(node.name, node.incarnation);
      if (owner == nullptr || owner->slots().size() <= p) continue;
      const ps::Slot& slot = owner->slots()[p];
      const bool serves = slot.serving() && slot.tenure == place.tenure;
      // G21: a partition that has just moved is reported by its image before it is served.
      const auto* stored = cluster_.disk(node.name).Newest(PartitionId(static_cast<uint16_t>(p)));
      const bool waits = !serves && slot.tenure <= place.tenure && stored != nullptr;
      if (waits && Contains(stored->applied.Of(log->spec.log), done)) continue;
      if (serves && Contains(slot.partition->applied().Of(log->spec.log), done)) continue;
      return fmt::format("I4 done is true: log {} done {}, but partition {} at {} has {}",
                         log->spec.name, done.ToString(), p, node.name,
                         serves ? slot.partition->applied().Of(log->spec.log).ToString()
                                : "no report under this tenure");
    }
  }
  return std::nullopt;
}

// I5, G18: whatever the master once held for durable everywhere must be in what a restore would give.
Violation Checker::CheckFloor(const master::MasterNode& master) {
  // A damaged image takes durability back; the partition has a new tenure since.
  if (const uint64_t repairs = Repairs(); repairs != repairs_) {
    repairs_ = repairs;
    floor_.clear();
  }
  const protocol::View& view = master.view();
  for (const SimLog* log : training_) {
    protocol::Offset& floor = floor_[log->spec.log];
    floor = std::max(floor, master.progress().DurableFloor(log->spec.log));
    if (floor == 0) continue;
    for (size_t p = 0; p < view.places.size(); ++p) {
      const std::string& owner = view.nodes[view.places[p].node].name;
      const auto* newest = cluster_.disk(owner).Newest(PartitionId(static_cast<uint16_t>(p)));
      const protocol::Offset has =
          newest == nullptr ? 0 : newest->applied.Of(log->spec.log).Watermark();
      if (has >= floor) continue;
      return fmt::format(
          "I5 replayable: log {} was durable below {}, but {} would restore "
          "partition {} with watermark {}",
          log->spec.name, floor, owner, p, has);
    }
  }
  return std::nullopt;
}

uint64_t Checker::Repairs() const {
  uint64_t repairs = 0;
  for (const auto& [name, disk] : cluster_.disks()) repairs += disk.repairs;
  return repairs;
}

// I2: one instance serves a partition under one tenure.
Violation Checker::CheckOwners() const {
  std::map<std::pair<size_t, protocol::Tenure>, std::string> serving;
  for (const auto& server : cluster_.Servers()) {
    const ps::Slots& slots = server.brain->slots();
    for (size_t p = 0; p < slots.size(); ++p) {
      if (!slots[p].serving()) continue;
      const protocol::View& view = server.brain->view();
      const protocol::Place& place = view.places[p];
      if (view.nodes[place.node].name != server.name || place.tenure != slots[p].tenure) {
        return fmt::format("I2 one owner: {} serves partition {}, by its own view it is another's",
                           server.name, p);
      }
      const auto [other, first] = serving.emplace(std::pair(p, slots[p].tenure), server.name);
      if (!first) {
        return fmt::format("I2 one owner: partition {} is served by {} and {} under one tenure", p,
                           other->second, server.name);
      }
    }
  }
  return std::nullopt;
}

Violation Checker::CheckRows() const {
  for (const auto& server : cluster_.Servers()) {
    for (const ps::Slot& slot : server.brain->slots()) {
      if (!slot.serving()) continue;
      if (auto bad = CheckPartition(*slot.partition, server.name)) return bad;
    }
  }
  return std::nullopt;
}

// Counts anew what every audit row must hold, from the log itself.
Violation Checker::CheckPartition(const ps::Partition& partition, const std::string& where) const {
  using Counters = std::array<uint64_t, protocol::kAuditCounters>;
  std::map<protocol::Key, Counters> rows;
  partition.ForEachRow(protocol::kAuditTable,
                       [&rows](protocol::Key key, std::span<const float> weights) {
                         std::memcpy(rows[key].data(), weights.data(), sizeof(Counters));
                       });
  for (const AuditKey& expected : audit_keys_[partition.id().value()]) {
    Counters want = {};
    const auto& dead_before = dead_before_.at(expected.log->spec.log);
    for (const Span& span : partition.applied().Of(expected.log->spec.log).spans()) {
      const Span part{std::max(span.begin, expected.run.begin),
                      std::min(span.end, expected.run.end)};
      if (part.empty()) continue;
      want[0] += part.size();
      for (protocol::Offset o = part.begin; o < part.end; ++o) want[1] += o;
      want[2] += dead_before[part.end] - dead_before[part.begin];
    }
    const auto found = rows.find(expected.key);
    const Counters have = found == rows.end() ? Counters{} : found->second;
    if (have != want) {
      return fmt::format(
          "I1 rows = applied set: {} partition {} row {:#x}: {} records, sum {}, {} dead; by its "
          "applied set {}, {}, {}",
          where, partition.id().value(), expected.key, have[0], have[1], have[2], want[0], want[1],
          want[2]);
    }
    if (found != rows.end()) rows.erase(found);
  }
  if (rows.empty()) return std::nullopt;
  return fmt::format("I1: {} partition {} has audit rows of nobody", where, partition.id().value());
}

// Logs that grow have no end; once they do not grow any more, all of them is durable in the end.
bool Checker::IsOver(const master::MasterNode& master) const {
  if (!cluster_.scenario().Follows()) return master.phase() == master::Phase::kCompleted;
  if (!master.WaitsForRecords()) return false;
  return std::all_of(training_.begin(), training_.end(), [&](const SimLog* log) {
    return master.progress().DurableFloor(log->spec.log) == log->end;
  });
}

bool Checker::IsSettled() const {
  const master::MasterNode* master = cluster_.master();
  if (master == nullptr || !IsOver(*master)) return false;
  for (const master::PlanRecord& plan : master->plans()) {
    if (plan.state < master::PlanState::kDone) return false;
  }
  const protocol::View& view = master->view();
  for (size_t p = 0; p < view.places.size(); ++p) {
    const protocol::ViewNode& node = view.nodes[view.places[p].node];
    const ps::PsNode* owner = cluster_.FindServer(node.name, node.incarnation);
    if (owner == nullptr || owner->slots().size() <= p) return false;
    const ps::Slot& slot = owner->slots()[p];
    if (!slot.serving() || slot.tenure != view.places[p].tenure) return false;
  }
  return true;
}

Violation Checker::CheckEnd() {
  const master::MasterNode& master = *cluster_.master();
  if (auto bad = CheckProgress()) return bad;
  if (auto bad = CheckRows()) return bad;
  if (!cluster_.scenario().Follows()) {
    if (auto bad = CheckAudit(master)) return bad;
  }
  if (auto bad = CheckValidation(master)) return bad;
  return CheckDurable(master);
}

Violation Checker::CheckAudit(const master::MasterNode& master) const {
  const auto& audit = master.final_audit();
  if (!audit || !audit->ok || audit->actual != audit->expected) {
    return "I1 audit: the master's own audit failed" +
           (audit && !audit->problems.empty() ? ": " + audit->problems.front() : "");
  }
  uint64_t records = 0;
  uint64_t dead = 0;
  for (const SimLog* log : training_) {
    records += log->end;
    dead += log->DeadIn({0, log->end});
    if (master.progress().DurableFloor(log->spec.log) > log->end) return "I5: beyond the log's end";
  }
  if (audit->actual != records || audit->dead_lettered != dead) {
    return fmt::format("I1, I8: the audit found {} records and {} dead ones, the logs have {}, {}",
                       audit->actual, audit->dead_lettered, records, dead);
  }
  return std::nullopt;
}

// A prediction is counted at most once; those of an evaluated log exactly once.
Violation Checker::CheckValidation(const master::MasterNode& master) const {
  uint64_t trained = 0;
  uint64_t evaluated = 0;
  for (const SimLog& log : cluster_.scenario().logs) {
    const uint64_t rows = log.end - log.DeadIn({0, log.end});
    (log.spec.purpose == LogPurpose::kTrain ? trained : evaluated) += rows;
  }
  if (master.training_validation().records() > trained) {
    return fmt::format("validation: {} predictions counted of {} records",
                       master.training_validation().records(), trained);
  }
  if (master.evaluation().records() != evaluated) {
    return fmt::format("evaluation: {} predictions counted of {} records",
                       master.evaluation().records(), evaluated);
  }
  return std::nullopt;
}

void Checker::AskForCheckpoint() {
  SimNode* node = cluster_.master_node();
  if (node == nullptr) return;
  node->process.Post(base::Duration(0), [this, master = cluster_.master()] {
    std::map<uint16_t, AppliedSets> before;
    const protocol::View& view = master->view();
    for (const auto& server : cluster_.Servers()) {
      const ps::Slots& slots = server.brain->slots();
      for (size_t p = 0; p < slots.size(); ++p) {
        const bool current = view.places[p].tenure == slots[p].tenure;
        if (slots[p].serving() && current) {
          before[static_cast<uint16_t>(p)] = slots[p].partition->applied();
        }
      }
    }
    master->Checkpoint(
        [this, before = std::move(before), repairs = Repairs()](const base::Result<>& outcome) {
          if (outcome && repairs == Repairs()) OnCheckpointed(before);
        });
  });
}

}  // namespace freshet::sim
