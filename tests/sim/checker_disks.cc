// SPDX-License-Identifier: Apache-2.0
// Checker: what it says about disks.
#include <cstring>

#include "tests/sim/checker.h"

namespace freshet::sim {

using protocol::AppliedSets;
using protocol::PartitionId;
using protocol::Span;
using protocol::SpanSet;

namespace {

// Reads images as a PS does.
struct ImageReader {
  ImageReader(uint64_t seed, const std::vector<protocol::Table>& known) {
    tables.set_seed(seed);
    for (const protocol::Table& table : known) (void)tables.Add(table);
  }
  ps::TableSet tables;
  ps::RowArena arena{{.limit_bytes = 8u << 20}};
};

}  // namespace

// G1, I3: whatever is on a disk is whole, and its rows are the effect of the set beside them.
Violation Checker::CheckDisks() const {
  if (tables_.empty()) return std::nullopt;
  ImageReader reader(cluster_.scenario().seed, tables_);
  for (const auto& [name, disk] : cluster_.disks()) {
    for (const auto& [id, chain] : disk.images) {
      ps::Partition partition(id, reader.tables, reader.arena);
      if (auto restored = partition.Restore(chain); !restored) {
        return fmt::format("I3: {} cannot restore partition {}: {}", name, id.value(),
                           restored.error().message);
      }
      if (auto bad = CheckPartition(partition, name + "'s disk")) return bad;
    }
  }
  return std::nullopt;
}

// G19, I3: what a restore of every partition gives now is the whole log, exactly once.
Violation Checker::CheckDurable(const master::MasterNode& master) {
  const protocol::View& view = master.view();
  ImageReader reader(cluster_.scenario().seed, view.tables);
  for (size_t p = 0; p < view.places.size(); ++p) {
    const PartitionId id(static_cast<uint16_t>(p));
    const std::string& owner = view.nodes[view.places[p].node].name;
    const SimDisk& disk = cluster_.disk(owner);
    const auto images = disk.images.find(id);
    if (images == disk.images.end()) return fmt::format("I3: {} has no image of {}", owner, p);
    ps::Partition partition(id, reader.tables, reader.arena);
    if (auto restored = partition.Restore(images->second); !restored) {
      return fmt::format("I3: {} cannot restore partition {}: {}", owner, p,
                         restored.error().message);
    }
    if (auto bad = CheckPartition(partition, owner + "'s disk")) return bad;
    const ps::PsNode* server =
        cluster_.FindServer(owner, view.nodes[view.places[p].node].incarnation);
    if (auto bad = CheckSameRows(reader.tables, *server->slots()[p].partition, partition))
      return bad;
    for (const SimLog* log : training_) {
      const SpanSet whole = {{0, log->end}};
      if (partition.applied().Of(log->spec.log) == whole) continue;
      return fmt::format("G19: partition {} on {}'s disk has {} of log {}, not all of {}", p, owner,
                         partition.applied().Of(log->spec.log).ToString(), log->spec.name,
                         log->end);
    }
  }
  return std::nullopt;
}

// A row that only one side has was never learnt: it must be as it began.
Violation Checker::CheckSameRows(const ps::TableSet& tables, const ps::Partition& live,
                                 const ps::Partition& restored) const {
  for (const protocol::Table& table : tables_) {
    std::map<protocol::Key, std::vector<float>> rows[2];
    const ps::Partition* sides[2] = {&live, &restored};
    for (size_t side = 0; side < 2; ++side) {
      sides[side]->ForEachRow(table.id, [&](protocol::Key key, std::span<const float> weights) {
        rows[side][key].assign(weights.begin(), weights.end());
        rows[1 - side].try_emplace(key);
      });
    }
    for (auto& [key, weights] : rows[0]) {
      for (auto* row : {&weights, &rows[1].at(key)}) {
        if (!row->empty()) continue;
        row->resize(table.schema.dim);
        tables.Find(table.id)->init.Fill(key, row->data());
      }
      if (std::memcmp(weights.data(), rows[1].at(key).data(), weights.size() * sizeof(float)) ==
          0) {
        continue;
      }
      return fmt::format("I3: partition {} table {} row {:#x} is another one on disk",
                         live.id().value(), table.schema.name, key);
    }
  }
  return std::nullopt;
}

// I6: at the moment of a commit the old owner, frozen, and the image at the new one are the same.
Violation Checker::CheckMove(const protocol::View& before, const protocol::View& after,
                             size_t p) const {
  const protocol::ViewNode& from = before.nodes[before.places[p].node];
  const protocol::ViewNode& to = after.nodes[after.places[p].node];
  const ps::PsNode* source = cluster_.FindServer(from.name, from.incarnation);
  if (source == nullptr || source->slots().size() <= p) return std::nullopt;
  const ps::Slot& slot = source->slots()[p];
  if (!slot.serving() || slot.tenure != before.places[p].tenure) return std::nullopt;
  const PartitionId id(static_cast<uint16_t>(p));
  const auto chain = cluster_.disk(to.name).images.find(id);
  if (chain == cluster_.disk(to.name).images.end()) {
    return fmt::format("I6: partition {} becomes {}'s, which has no image of it", p, to.name);
  }
  ImageReader reader(cluster_.scenario().seed, after.tables);
  ps::Partition arrived(id, reader.tables, reader.arena);
  if (auto restored = arrived.Restore(chain->second); !restored) {
    return fmt::format("I6: {} cannot restore partition {}: {}", to.name, p,
                       restored.error().message);
  }
  if (arrived.applied() != slot.partition->applied()) {
    return fmt::format("I6: partition {} goes from {} to {} with another applied set", p, from.name,
                       to.name);
  }
  auto other = CheckSameRows(reader.tables, *slot.partition, arrived);
  if (other) return "I6: moved: " + *other;
  return std::nullopt;
}

void Checker::OnViewWritten(const protocol::View& before, const protocol::View& after) {
  for (size_t p = 0; p < before.places.size() && !late_; ++p) {
    const uint16_t from = before.places[p].node;
    if (from == protocol::kNoNode || from == after.places[p].node) continue;
    ++moves_;
    late_ = CheckMove(before, after, p);
  }
}

// A server that left as it was asked to has everything on its disk: nothing of it is learnt again.
void Checker::OnDrained(const std::string& name, const ps::PsNode& server) {
  for (const ps::Slot& slot : server.slots()) {
    if (!slot.serving() || late_) continue;
    const PartitionId id = slot.partition->id();
    const auto* newest = cluster_.disk(name).Newest(id);
    const AppliedSets& applied = slot.partition->applied();
    if (newest == nullptr ? applied.logs().empty() : newest->applied == applied) continue;
    late_ = fmt::format("drain: {} left with changes of partition {} that are not on its disk",
                        name, id.value());
  }
}

void Checker::OnCheckpointed(const std::map<uint16_t, AppliedSets>& before) {
  ++checkpoints_answered_;
  const protocol::View& view = cluster_.master()->view();
  for (const auto& [p, applied] : before) {
    const std::string& owner = view.nodes[view.places[p].node].name;
    const auto* newest = cluster_.disk(owner).Newest(PartitionId(p));
    for (const auto& entry : applied.logs()) {
      if (newest != nullptr && Contains(newest->applied.Of(entry.log), entry.set)) continue;
      late_ = fmt::format("checkpoint: partition {} had {} before, but {} has on disk {}", p,
                          entry.set.ToString(), owner,
                          newest == nullptr ? "nothing" : newest->applied.Of(entry.log).ToString());
      return;
    }
  }
}

}  // namespace freshet::sim
