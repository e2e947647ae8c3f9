// SPDX-License-Identifier: Apache-2.0
#include "master/load_watch.h"

#include <fmt/format.h>

#include <algorithm>

namespace freshet::master {

using protocol::Place;

namespace {

// Of the newest sample in the smoothed cost of a row.
constexpr double kNewest = 0.5;
// Fewer rows say nothing about speed.
constexpr uint64_t kLeastRows = 1000;

}  // namespace

void LoadWatch::OnPartition(const protocol::PartitionReport& report) {
  Partition& partition = partitions_[report.partition.value()];
  partition.touched = report.touched;
  partition.bytes = report.bytes;
}

void LoadWatch::OnServer(uint16_t node, protocol::Incarnation incarnation,
                         const protocol::PsStats& stats) {
  Server& server = servers_[node];
  if (server.incarnation != incarnation) server = Server{incarnation, {}, {}, false, 0, 0};
  server.stats = stats;
}

double LoadWatch::CapacityOf(uint16_t node) const {
  const auto it = servers_.find(node);
  return it == servers_.end() || it->second.us_per_row <= 0 ? 0 : 1e6 / it->second.us_per_row;
}

void LoadWatch::Sample(double seconds, const std::vector<Place>& places) {
  std::map<uint16_t, uint64_t> rows;
  for (size_t p = 0; p < partitions_.size(); ++p) {
    Partition& partition = partitions_[p];
    // Who serves it now counts from the beginning.
    const bool anew = partition.touched < partition.before;
    const uint64_t more = partition.touched - (anew ? 0 : partition.before);
    partition.before = partition.touched;
    partition.load = static_cast<double>(more) / seconds;
    rows[places[p].node] += more;
  }
  for (auto& [node, server] : servers_) {
    const uint64_t busy_us = server.stats.busy_us - server.before.busy_us;
    const bool first = !std::exchange(server.sampled, true);
    server.before = server.stats;
    if (first) continue;
    server.busy = static_cast<double>(busy_us) / 1e6 / seconds;
    if (rows[node] < kLeastRows) continue;
    const double cost = static_cast<double>(busy_us) / static_cast<double>(rows[node]);
    server.us_per_row =
        server.us_per_row <= 0 ? cost : kNewest * cost + (1 - kNewest) * server.us_per_row;
  }
}

std::optional<LoadWatch::Advice> LoadWatch::Look(base::Instant now,
                                                 const std::vector<Place>& places,
                                                 const std::vector<std::string>& names, bool busy) {
  if (busy) {
    resting_until_ = now + options_.rest;
    uneven_ = 0;
  }
  if (sampled_ && now - *sampled_ < options_.sample_interval) return std::nullopt;
  if (sampled_) Sample(static_cast<double>((now - *sampled_).count()) / 1e6, places);
  const bool first = !sampled_;
  sampled_ = now;
  if (first || busy) return std::nullopt;
  // Memory does not wait.
  if (auto advice = LookAtMemory(places, names)) return advice;
  if (now < resting_until_) return std::nullopt;
  return LookAtLoad(places, names);
}

std::vector<ServerLoad> LoadWatch::Loads() const {
  std::vector<ServerLoad> loads;
  for (const auto& [node, server] : servers_) {
    const auto fill = static_cast<uint64_t>(static_cast<double>(server.stats.memory_limit_bytes) *
                                            options_.memory_fill);
    const uint64_t used = server.stats.memory_bytes;
    loads.push_back({node, CapacityOf(node), fill > used ? fill - used : 0});
  }
  return loads;
}

std::vector<PartitionLoad> LoadWatch::PartitionLoads() const {
  std::vector<PartitionLoad> loads;
  for (const Partition& partition : partitions_) {
    loads.push_back({partition.load, partition.bytes});
  }
  return loads;
}

std::optional<LoadWatch::Advice> LoadWatch::LookAtMemory(
    const std::vector<Place>& places, const std::vector<std::string>& names) const {
  for (const auto& [node, server] : servers_) {
    const auto limit = static_cast<double>(server.stats.memory_limit_bytes);
    const auto used = static_cast<double>(server.stats.memory_bytes);
    if (limit <= 0 || used < limit * options_.memory_act) continue;
    Advice advice;
    const auto free_bytes = static_cast<uint64_t>(used - limit * options_.memory_aim);
    advice.moves = PlanMemoryRelief(places, Loads(), PartitionLoads(), {node, free_bytes});
    advice.request.kind = PlanKind::kRelieve;
    advice.request.node = names[node];
    advice.why =
        fmt::format("{} uses {:.0f} of {:.0f} MiB", names[node], used / 1048576, limit / 1048576);
    uint64_t freed = 0;
    for (const PlannedMove& move : advice.moves) freed += partitions_[move.partition.value()].bytes;
    // Some room elsewhere is little help to somebody who is nearly full.
    if (freed < free_bytes / 2) advice.moves.clear();
    return advice;
  }
  return std::nullopt;
}

std::optional<LoadWatch::Advice> LoadWatch::LookAtLoad(const std::vector<Place>& places,
                                                       const std::vector<std::string>& names) {
  double highest = 0;
  double sum = 0;
  uint16_t busiest = protocol::kNoNode;
  for (const auto& [node, server] : servers_) {
    if (CapacityOf(node) <= 0) return std::nullopt;  // not everybody is known yet
    sum += server.busy;
    if (server.busy <= highest) continue;
    highest = server.busy;
    busiest = node;
  }
  const double mean = sum / static_cast<double>(std::max<size_t>(servers_.size(), 1));
  const bool uneven =
      servers_.size() > 1 && highest >= options_.least_busy && highest > mean * options_.act_above;
  uneven_ = uneven ? uneven_ + 1 : 0;
  if (uneven_ < options_.samples) return std::nullopt;
  uneven_ = 0;
  Advice advice;
  advice.moves = PlanEvenLoad(places, Loads(), PartitionLoads(),
                              {.tolerance = options_.aim_at, .max_moves = partitions_.size()});
  if (advice.moves.empty()) return std::nullopt;
  advice.request.kind = PlanKind::kEvenLoad;
  advice.request.node = names[busiest];
  advice.why = fmt::format("{} is busy {:.0f} % of the time, the mean is {:.0f} %", names[busiest],
                           highest * 100, mean * 100);
  return advice;
}

}  // namespace freshet::master
