// SPDX-License-Identifier: Apache-2.0
#include "master/load_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace freshet::master {

using protocol::Place;

namespace {

// Of the newest sample in what is smoothed.
constexpr double kNewest = 0.3;
constexpr double kNewestCost = 0.1;
constexpr double kJump = 1.7;
// Fewer rows say nothing about speed.
constexpr uint64_t kLeastRows = 1000;
// Beyond this, what a server was once found to do binds no more.
constexpr double kTrustedAgain = 4;

// 0 if there is none.
double Middle(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

double LoadWatch::Recent::Median() const {
  const size_t n = std::min(count_, values_.size());
  if (n == 0) return 0;
  std::array<double, 5> sorted = values_;
  std::sort(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(n));
  return sorted[n / 2];
}

bool LoadWatch::Recent::AwayFrom(double value, double factor) const {
  const auto count = [this](const auto& holds) {
    return static_cast<size_t>(std::count_if(values_.begin(), values_.end(), holds)) + 1 >=
           values_.size();
  };
  return full() && (count([&](double v) { return v > value * factor; }) ||
                    count([&](double v) { return v < value / factor; }));
}

void LoadWatch::OnPartition(const protocol::PartitionReport& report) {
  Partition& partition = partitions_[report.partition.value()];
  partition.touched = report.touched;
  partition.bytes = report.bytes;
}

void LoadWatch::OnServer(uint16_t node, protocol::Incarnation incarnation,
                         const protocol::PsStats& stats) {
  Server& server = servers_[node];
  if (server.incarnation != incarnation) {
    server = Server();
    server.incarnation = incarnation;
  }
  server.stats = stats;
}

double LoadWatch::BusyOf(uint16_t node) const {
  const auto it = servers_.find(node);
  return it == servers_.end() ? 0 : it->second.busy.Median();
}

double LoadWatch::CapacityOf(uint16_t node) const {
  const auto it = servers_.find(node);
  if (it == servers_.end() || it->second.cost <= 0) return 0;
  const double measured = 1e6 / it->second.cost;
  return it->second.trusted > 0 ? std::min(measured, it->second.trusted) : measured;
}

uint64_t LoadWatch::RoomOf(uint16_t node) const {
  const auto it = servers_.find(node);
  if (it == servers_.end() || it->second.stats.memory_limit_bytes == 0) return UINT64_MAX;
  const protocol::PsStats& stats = it->second.stats;
  const auto fill =
      static_cast<uint64_t>(static_cast<double>(stats.memory_limit_bytes) * options_.memory_fill);
  return fill > stats.memory_bytes ? fill - stats.memory_bytes : 0;
}

void LoadWatch::Sample(double seconds, const std::vector<Place>& places, bool busy) {
  std::map<uint16_t, uint64_t> rows;
  for (size_t p = 0; p < partitions_.size(); ++p) {
    Partition& partition = partitions_[p];
    // Who serves it now counts from the beginning.
    const bool anew = partition.touched < partition.before;
    const uint64_t more = partition.touched - (anew ? 0 : partition.before);
    partition.before = partition.touched;
    const double load = static_cast<double>(more) / seconds;
    partition.load = partition.load <= 0 ? load : kNewest * load + (1 - kNewest) * partition.load;
    rows[places[p].node] += more;
  }
  for (auto& [node, server] : servers_) {
    SampleServer(node, server, seconds, rows[node]);
    if (!busy) continue;
    server.busy.Clear();
    server.us_per_row.Clear();
    server.processor_us_per_row.Clear();
    server.stretch.Clear();
  }
}

void LoadWatch::SampleServer(uint16_t node, Server& server, double seconds, uint64_t rows) {
  const protocol::PsStats before = std::exchange(server.before, server.stats);
  if (!std::exchange(server.sampled, true)) return;
  const double growth =
      static_cast<double>(server.stats.memory_bytes) - static_cast<double>(before.memory_bytes);
  server.growth = kNewest * std::max(0.0, growth) + (1 - kNewest) * server.growth;
  if (server.trusted > 0 && ++server.trust_age >= server.trust_samples) {
    server.trust_age = 0;
    server.trusted *= options_.trust_growth;
  }
  const auto busy_us = static_cast<double>(server.stats.busy_us - before.busy_us);
  server.busy.Add(busy_us / 1e6 / seconds);
  if (rows >= kLeastRows) {
    server.us_per_row.Add(busy_us / static_cast<double>(rows));
    const auto processor_us = static_cast<double>(server.stats.processor_us - before.processor_us);
    server.processor_us_per_row.Add(processor_us / static_cast<double>(rows));
    if (processor_us > 0) server.stretch.Add(busy_us / processor_us);
    if (server.us_per_row.full()) NoteCost(&server);
  }
  if (server.trusted > kTrustedAgain * 1e6 / server.cost) server.trusted = 0;
  FRESHET_LOG_DEBUG(
      "load of server {}: {} rows in {:.1f} s, busy {:.1f} %, {:.3f} us a row, trusted {:.0f}",
      node, rows, seconds, busy_us / 1e4 / seconds, server.cost, server.trusted);
}

// What lasts is a jump; all else is noise, which takes long to have its way.
void LoadWatch::NoteCost(Server* server) {
  const double median = server->us_per_row.Median();
  const bool jumps = server->cost <= 0 || server->us_per_row.AwayFrom(server->cost, kJump);
  server->cost = jumps ? median : kNewestCost * median + (1 - kNewestCost) * server->cost;
}

std::optional<LoadWatch::Advice> LoadWatch::Look(base::Instant now,
                                                 const std::vector<Place>& places,
                                                 const std::vector<std::string>& names, bool busy) {
  if (busy) {
    resting_ = options_.rest_samples;
    uneven_ = underused_ = 0;
  }
  if (sampled_ && now - *sampled_ < options_.sample_interval) return std::nullopt;
  if (sampled_) Sample(static_cast<double>((now - *sampled_).count()) / 1e6, places, busy);
  const bool first = !sampled_;
  sampled_ = now;
  if (first || busy) return std::nullopt;
  // Memory does not wait.
  if (auto advice = LookAtMemory(places, names)) return advice;
  if (resting_ > 0) {
    --resting_;
    return std::nullopt;
  }
  return LookAtLoad(places, names);
}

double LoadWatch::RowWeight(uint16_t node) const {
  std::vector<double> known;
  std::vector<double> stretches;
  double own = 0;
  for (const auto& [other, server] : servers_) {
    const double cost = server.processor_us_per_row.Median();
    if (cost > 0) known.push_back(cost);
    if (other == node) own = cost;
    stretches.push_back(std::max(1.0, server.stretch.Median()));
  }
  const auto [least, most] = std::minmax_element(stretches.begin(), stretches.end());
  if (stretches.empty() || *most > *least * options_.alike_stretch) return 1;
  const double usual = Middle(known);
  const bool alike = own < usual * options_.alike && own > usual / options_.alike;
  return own <= 0 || alike ? 1 : own / usual;
}

double LoadWatch::UsualCapacity() const {
  std::vector<double> known;
  for (const auto& [node, server] : servers_) {
    if (CapacityOf(node) > 0) known.push_back(CapacityOf(node) * RowWeight(node));
  }
  return Middle(known);
}

// Who has too little to do to be known is taken for one like the others.
std::vector<ServerLoad> LoadWatch::Loads() const {
  const double usual = UsualCapacity();
  std::vector<ServerLoad> loads;
  for (const auto& [node, server] : servers_) {
    double capacity = CapacityOf(node) * RowWeight(node);
    const bool alike = capacity < usual * options_.alike && capacity > usual / options_.alike;
    if (capacity <= 0 || alike) capacity = usual;
    loads.push_back({node, capacity, RoomOf(node)});
  }
  return loads;
}

std::vector<PartitionLoad> LoadWatch::PartitionLoads(const std::vector<Place>& places) const {
  std::map<uint16_t, double> weights;
  for (const auto& [node, server] : servers_) weights[node] = RowWeight(node);
  std::vector<PartitionLoad> loads;
  for (size_t p = 0; p < partitions_.size(); ++p) {
    const auto weight = weights.find(places[p].node);
    loads.push_back({partitions_[p].load * (weight == weights.end() ? 1 : weight->second),
                     partitions_[p].bytes});
  }
  return loads;
}

bool LoadWatch::NeedsMemory(const Server& server) const {
  const auto limit = static_cast<double>(server.stats.memory_limit_bytes);
  const auto used = static_cast<double>(server.stats.memory_bytes);
  if (limit <= 0) return false;
  if (used >= limit * options_.memory_act) return true;
  const double soon = used + server.growth * options_.memory_ahead_samples;
  return used >= limit * options_.memory_ahead_from && soon >= limit;
}

// Whoever can be relieved is; only if nobody can, one more server is asked for.
std::optional<LoadWatch::Advice> LoadWatch::LookAtMemory(
    const std::vector<Place>& places, const std::vector<std::string>& names) const {
  std::optional<Advice> stuck;
  for (const auto& [node, server] : servers_) {
    if (!NeedsMemory(server)) continue;
    const auto limit = static_cast<double>(server.stats.memory_limit_bytes);
    const auto used = static_cast<double>(server.stats.memory_bytes);
    Advice advice;
    // Of one that fills up fast, a good part.
    const double aim = std::min(limit, used / options_.memory_act) * options_.memory_aim;
    const auto free_bytes = static_cast<uint64_t>(used - aim);
    advice.moves = PlanMemoryRelief(places, Loads(), PartitionLoads(places), {node, free_bytes});
    advice.request.kind = PlanKind::kRelieve;
    advice.request.node = names[node];
    advice.why =
        fmt::format("{} uses {:.0f} of {:.0f} MiB", names[node], used / 1048576, limit / 1048576);
    uint64_t freed = 0;
    for (const PlannedMove& move : advice.moves) freed += partitions_[move.partition.value()].bytes;
    // Some room elsewhere is little help to somebody who is nearly full.
    advice.needs_server = freed < free_bytes / 2;
    if (!advice.needs_server) return advice;
    if (!stuck || stuck->moves.empty()) stuck = std::move(advice);
  }
  return stuck;
}

bool LoadWatch::Known() const {
  return std::all_of(servers_.begin(), servers_.end(),
                     [](const auto& entry) { return entry.second.busy.full(); });
}

LoadWatch::Uses LoadWatch::UsesOf(const std::vector<Place>& places,
                                  const std::vector<PartitionLoad>& loads) const {
  Uses uses;
  std::map<uint16_t, double> load;
  double capacity = 0;
  double total = 0;
  for (size_t p = 0; p < places.size(); ++p) {
    load[places[p].node] += loads[p].load;
    total += loads[p].load;
  }
  for (const ServerLoad& server : Loads()) {
    capacity += server.capacity;
    uses.of[server.node] = server.capacity > 0 ? load[server.node] / server.capacity : 0;
  }
  uses.even = capacity > 0 ? total / capacity : 0;
  uses.lowest = uses.even;
  for (const auto& [node, use] : uses.of) {
    uses.lowest = std::min(uses.lowest, use);
    if (use <= uses.highest) continue;
    uses.highest = use;
    uses.busiest = node;
  }
  return uses;
}

bool LoadWatch::IsUneven(const Uses& uses) {
  const bool matters =
      servers_.size() > 1 && uses.even > 0 && BusyOf(uses.busiest) >= options_.least_busy;
  uneven_ = matters && uses.highest > uses.even * options_.act_above ? uneven_ + 1 : 0;
  underused_ = matters && uses.lowest < uses.even * options_.underused ? underused_ + 1 : 0;
  if (uneven_ < options_.samples && underused_ < options_.samples_underused) return false;
  uneven_ = underused_ = 0;
  return true;
}

// What a server did when it was found to be too slow is all that it is trusted with for now.
void LoadWatch::Distrust(const std::vector<PlannedMove>& moves, const Uses& uses) {
  for (auto& [node, server] : servers_) {
    const bool sheds =
        std::any_of(moves.begin(), moves.end(),
                    [&, own = node](const PlannedMove& move) { return move.from == own; });
    if (!sheds || server.cost <= 0 || uses.of.at(node) < uses.even * options_.act_above) continue;
    // It failed only if it was tried: who sheds once more is still slow, not slow again.
    const uint32_t before = server.trusted > 0 ? server.trust_samples : 0;
    const uint32_t after = std::exchange(server.tried, false) ? before * 2 : before;
    server.trust_samples = std::clamp(after, options_.trust_samples, options_.trust_samples_most);
    server.trusted = 1e6 / server.cost;
    server.trust_age = 0;
  }
}

void LoadWatch::NoteGiven(const std::vector<PlannedMove>& moves) {
  for (const PlannedMove& move : moves) {
    const auto to = servers_.find(move.to);
    if (to != servers_.end()) to->second.tried = true;
  }
}

std::optional<LoadWatch::Advice> LoadWatch::LookAtLoad(const std::vector<Place>& places,
                                                       const std::vector<std::string>& names) {
  if (!Known()) return std::nullopt;
  const std::vector<PartitionLoad> loads = PartitionLoads(places);
  const Uses uses = UsesOf(places, loads);
  if (!IsUneven(uses)) return std::nullopt;
  Advice advice;
  advice.moves = PlanEvenLoad(places, Loads(), loads,
                              {.tolerance = options_.aim_at, .max_moves = partitions_.size()});
  std::vector<Place> after = places;
  for (const PlannedMove& move : advice.moves) after[move.partition.value()].node = move.to;
  const Uses then = UsesOf(after, loads);
  const bool relieves = then.highest <= uses.highest * options_.worth;
  const bool employs = then.lowest >= uses.lowest * options_.worth_underused;
  if (!relieves && !employs) return std::nullopt;
  Distrust(advice.moves, uses);
  NoteGiven(advice.moves);
  advice.request.kind = PlanKind::kEvenLoad;
  advice.request.node = names[uses.busiest];
  advice.why =
      fmt::format("{} is busy {:.0f} % of the time and has {:.1f} times the load of an even one",
                  names[uses.busiest], BusyOf(uses.busiest) * 100, uses.highest / uses.even);
  return advice;
}

}  // namespace freshet::master
