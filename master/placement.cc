// SPDX-License-Identifier: Apache-2.0
#include "master/placement.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>

namespace freshet::master {

using protocol::PartitionId;
using protocol::Place;

namespace {

PartitionId Id(size_t p) { return PartitionId(static_cast<uint16_t>(p)); }

struct Share {
  uint16_t node = protocol::kNoNode;
  size_t has = 0;
  size_t wanted = 0;
};

// Those that have most keep the larger shares, which saves moves.
std::vector<Share> EqualShares(const std::vector<Place>& places,
                               const std::vector<uint16_t>& servers) {
  std::map<uint16_t, size_t> has;
  size_t placed = 0;
  for (const Place& place : places) {
    if (place.node == protocol::kNoNode) continue;
    ++placed;
    ++has[place.node];
  }
  std::vector<Share> shares;
  for (const uint16_t node : servers) shares.push_back({node, has[node], 0});
  std::stable_sort(shares.begin(), shares.end(),
                   [](const Share& a, const Share& b) { return a.has > b.has; });
  for (size_t i = 0; i < shares.size(); ++i) {
    shares[i].wanted = placed / shares.size() + (i < placed % shares.size() ? 1 : 0);
  }
  return shares;
}

}  // namespace

std::vector<PlannedMove> PlanEqualShares(const std::vector<Place>& places,
                                         const std::vector<uint16_t>& servers) {
  std::vector<PlannedMove> moves;
  if (servers.empty()) return moves;
  const std::vector<Share> shares = EqualShares(places, servers);
  std::map<uint16_t, size_t> surplus;  // of servers; who is none of them keeps nothing
  std::deque<std::pair<uint16_t, size_t>> wanting;
  for (const Share& share : shares) {
    surplus[share.node] = share.has > share.wanted ? share.has - share.wanted : 0;
    if (share.has < share.wanted) wanting.emplace_back(share.node, share.wanted - share.has);
  }
  for (size_t p = places.size(); p-- > 0 && !wanting.empty();) {
    const uint16_t from = places[p].node;
    if (from == protocol::kNoNode) continue;
    const auto server = surplus.find(from);
    if (server != surplus.end()) {
      if (server->second == 0) continue;
      --server->second;
    }
    moves.push_back({Id(p), from, wanting.front().first});
    // In turns, so that several targets work at once.
    auto target = wanting.front();
    wanting.pop_front();
    if (--target.second > 0) wanting.push_back(target);
  }
  return moves;
}

std::vector<PlannedMove> PlanEvenLoad(const std::vector<Place>& places,
                                      const std::vector<ServerLoad>& servers,
                                      const std::vector<PartitionLoad>& partitions,
                                      const LoadPlanOptions& options) {
  std::vector<PlannedMove> moves;
  std::vector<double> load(servers.size(), 0);
  std::vector<uint64_t> room(servers.size());
  std::vector<std::vector<size_t>> owned(servers.size());
  double capacity = 0;
  double total = 0;
  for (size_t s = 0; s < servers.size(); ++s) {
    capacity += servers[s].capacity;
    room[s] = servers[s].free_bytes;
    for (size_t p = 0; p < places.size(); ++p) {
      if (places[p].node != servers[s].node) continue;
      owned[s].push_back(p);
      load[s] += partitions[p].load;
    }
    total += load[s];
  }
  if (servers.size() < 2 || capacity <= 0 || total <= 0) return moves;
  const double mean = total / capacity;
  const auto use = [&](size_t s) { return load[s] / servers[s].capacity; };
  std::vector<bool> moved(places.size(), false);
  while (moves.size() < options.max_moves) {
    size_t high = 0;
    size_t low = 0;
    for (size_t s = 1; s < servers.size(); ++s) {
      if (use(s) > use(high)) high = s;
      if (use(s) < use(low)) low = s;
    }
    if (use(high) <= mean * options.tolerance) break;
    if (owned[high].size() <= options.keep) break;
    // The one after which the fuller of the two is least full.
    size_t best = SIZE_MAX;
    double best_use = use(high);
    for (const size_t p : owned[high]) {
      if (moved[p] || partitions[p].bytes > room[low]) continue;
      const double after = std::max((load[high] - partitions[p].load) / servers[high].capacity,
                                    (load[low] + partitions[p].load) / servers[low].capacity);
      if (after >= best_use) continue;
      best = p;
      best_use = after;
    }
    if (best == SIZE_MAX) break;
    moved[best] = true;
    moves.push_back({Id(best), servers[high].node, servers[low].node});
    load[high] -= partitions[best].load;
    load[low] += partitions[best].load;
    room[low] -= std::min(room[low], partitions[best].bytes);
    std::erase(owned[high], best);
    owned[low].push_back(best);
  }
  return moves;
}

std::vector<PlannedMove> PlanMemoryRelief(const std::vector<Place>& places,
                                          std::vector<ServerLoad> servers,
                                          const std::vector<PartitionLoad>& partitions,
                                          const MemoryRelief& relief) {
  std::vector<PlannedMove> moves;
  std::vector<size_t> owned;
  for (size_t p = 0; p < places.size(); ++p) {
    if (places[p].node == relief.from) owned.push_back(p);
  }
  std::stable_sort(owned.begin(), owned.end(),
                   [&](size_t a, size_t b) { return partitions[a].bytes > partitions[b].bytes; });
  std::erase_if(servers, [&](const ServerLoad& server) { return server.node == relief.from; });
  uint64_t freed = 0;
  for (const size_t p : owned) {
    if (freed >= relief.bytes_to_free || servers.empty()) break;
    const auto to = std::max_element(
        servers.begin(), servers.end(),
        [](const ServerLoad& a, const ServerLoad& b) { return a.free_bytes < b.free_bytes; });
    if (to->free_bytes < partitions[p].bytes) continue;
    to->free_bytes -= partitions[p].bytes;
    freed += partitions[p].bytes;
    moves.push_back({Id(p), relief.from, to->node});
  }
  return moves;
}

}  // namespace freshet::master
