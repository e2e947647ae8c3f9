// SPDX-License-Identifier: Apache-2.0
#include "master/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/random.h"

namespace freshet::master {
namespace {

using protocol::Place;

std::vector<Place> DrawPlaces(base::Random& random, size_t partitions, uint16_t nodes) {
  std::vector<Place> places(partitions);
  for (Place& place : places) place.node = static_cast<uint16_t>(random.Below(nodes));
  return places;
}

std::map<uint16_t, size_t> Counts(const std::vector<Place>& places) {
  std::map<uint16_t, size_t> counts;
  for (const Place& place : places) ++counts[place.node];
  return counts;
}

// Checks that every move is from where the partition is and that none moves twice.
void Apply(const std::vector<PlannedMove>& moves, std::vector<Place>* places) {
  std::set<uint16_t> seen;
  for (const PlannedMove& move : moves) {
    EXPECT_TRUE(seen.insert(move.partition.value()).second);
    EXPECT_EQ((*places)[move.partition.value()].node, move.from);
    EXPECT_NE(move.from, move.to);
    (*places)[move.partition.value()].node = move.to;
  }
}

TEST(PlanEqualShares, SharesDifferByOneAtMostWithAsFewMovesAsThatTakes) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    base::Random random(seed);
    auto places =
        DrawPlaces(random, 1 + random.Below(300), static_cast<uint16_t>(1 + random.Below(8)));
    std::vector<uint16_t> servers;
    for (uint16_t n = 0; n < 10; ++n) {
      if (random.Chance(0.6)) servers.push_back(n);
    }
    if (servers.empty()) servers.push_back(3);
    const auto before = Counts(places);
    const auto moves = PlanEqualShares(places, servers);
    Apply(moves, &places);
    auto after = Counts(places);
    size_t low = SIZE_MAX;
    size_t high = 0;
    size_t placed = 0;
    for (const uint16_t server : servers) {
      low = std::min(low, after[server]);
      high = std::max(high, after[server]);
      placed += after[server];
    }
    EXPECT_EQ(placed, places.size()) << "seed " << seed;
    EXPECT_LE(high - low, 1u) << "seed " << seed;
    // The least: what other nodes have, and what servers have above the share, the larger shares going
    // to those that have most.
    std::vector<size_t> had;
    for (const uint16_t server : servers) {
      had.push_back(before.contains(server) ? before.at(server) : 0);
    }
    std::sort(had.rbegin(), had.rend());
    const size_t kept_before = std::accumulate(had.begin(), had.end(), size_t{0});
    size_t least = places.size() - kept_before;
    for (size_t i = 0; i < had.size(); ++i) {
      const size_t share = places.size() / had.size() + (i < places.size() % had.size() ? 1 : 0);
      least += had[i] > share ? had[i] - share : 0;
    }
    EXPECT_EQ(moves.size(), least) << "seed " << seed;
    EXPECT_TRUE(PlanEqualShares(places, servers).empty()) << "seed " << seed;
  }
}

TEST(PlanEqualShares, NobodyIsServedByNobody) {
  base::Random random(1);
  EXPECT_TRUE(PlanEqualShares(DrawPlaces(random, 8, 2), {}).empty());
  EXPECT_TRUE(PlanEqualShares({}, {0, 1}).empty());
  // What was never placed is not moved.
  EXPECT_TRUE(PlanEqualShares(std::vector<Place>(8), {0, 1}).empty());
}

double HighestUse(const std::vector<Place>& places, const std::vector<ServerLoad>& servers,
                  const std::vector<PartitionLoad>& partitions) {
  double highest = 0;
  for (const ServerLoad& server : servers) {
    double load = 0;
    for (size_t p = 0; p < places.size(); ++p) {
      if (places[p].node == server.node) load += partitions[p].load;
    }
    highest = std::max(highest, load / server.capacity);
  }
  return highest;
}

TEST(PlanEvenLoad, NeverMakesTheFullestFullerAndSettles) {
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    base::Random random(seed);
    const auto nodes = static_cast<uint16_t>(2 + random.Below(5));
    auto places = DrawPlaces(random, 64, nodes);
    std::vector<ServerLoad> servers;
    for (uint16_t n = 0; n < nodes; ++n) servers.push_back({n, 0.2 + random.Uniform(), UINT64_MAX});
    std::vector<PartitionLoad> partitions(places.size());
    for (auto& partition : partitions) partition.load = random.Uniform();
    const double before = HighestUse(places, servers, partitions);
    const LoadPlanOptions options{.tolerance = 1.1, .max_moves = 1000};
    const auto moves = PlanEvenLoad(places, servers, partitions, options);
    Apply(moves, &places);
    const double after = HighestUse(places, servers, partitions);
    EXPECT_LE(after, before + 1e-9) << "seed " << seed;
    if (moves.empty()) continue;
    EXPECT_LT(after, before) << "seed " << seed;
  }
}

TEST(PlanEvenLoad, ASlowServerKeepsWhatItCanDo) {
  std::vector<Place> places(100);
  for (size_t p = 0; p < 100; ++p) places[p].node = p % 2 == 0 ? 0 : 1;
  const std::vector<ServerLoad> servers = {{0, 1.0, UINT64_MAX}, {1, 0.25, UINT64_MAX}};
  const std::vector<PartitionLoad> partitions(100, {1.0, 0});
  Apply(PlanEvenLoad(places, servers, partitions, {.tolerance = 1.02, .max_moves = 100}), &places);
  EXPECT_NEAR(static_cast<double>(Counts(places)[0]), 80, 2);
}

TEST(PlanEvenLoad, SmallDifferencesAreLeftAlone) {
  std::vector<Place> places(20);
  for (size_t p = 0; p < 20; ++p) places[p].node = p < 11 ? 0 : 1;
  const std::vector<ServerLoad> servers = {{0, 1, UINT64_MAX}, {1, 1, UINT64_MAX}};
  EXPECT_TRUE(PlanEvenLoad(places, servers, std::vector<PartitionLoad>(20, {1.0, 0}), {}).empty());
}

TEST(PlanEvenLoad, AHotPartitionMovesOnItsOwn) {
  // Server 0 has the hot one and nine others, server 1 has ten cold ones.
  std::vector<Place> places(20);
  std::vector<PartitionLoad> partitions(20, {1.0, 0});
  for (size_t p = 0; p < 20; ++p) places[p].node = p < 10 ? 0 : 1;
  partitions[0].load = 11;
  const std::vector<ServerLoad> servers = {{0, 1, UINT64_MAX}, {1, 1, UINT64_MAX}};
  const LoadPlanOptions options{.tolerance = 1.02, .max_moves = 20};
  Apply(PlanEvenLoad(places, servers, partitions, options), &places);
  EXPECT_LE(HighestUse(places, servers, partitions), 16);
}

TEST(PlanEvenLoad, NothingGoesWhereThereIsNoRoom) {
  const std::vector<Place> places = {{0, {}, {}, protocol::kNoNode},
                                     {0, {}, {}, protocol::kNoNode}};
  const std::vector<PartitionLoad> partitions(2, {1.0, 100});
  EXPECT_TRUE(PlanEvenLoad(places, {{0, 1, 0}, {1, 1, 99}}, partitions, {}).empty());
  EXPECT_EQ(PlanEvenLoad(places, {{0, 1, 0}, {1, 1, 100}}, partitions, {}).size(), 1u);
}

TEST(PlanMemoryRelief, TheLargestGoWhereThereIsMostRoom) {
  const auto at = [](uint16_t node) { return Place{node, {}, {}, protocol::kNoNode}; };
  const std::vector<Place> places = {at(0), at(0), at(0), at(1)};
  const std::vector<PartitionLoad> partitions = {{0, 10}, {0, 50}, {0, 30}, {0, 99}};
  const std::vector<ServerLoad> servers = {{0, 1, 0}, {1, 1, 60}, {2, 1, 70}};
  const auto moves = PlanMemoryRelief(places, servers, partitions, {0, 60});
  ASSERT_EQ(moves.size(), 2u);
  EXPECT_EQ(moves[0], (PlannedMove{protocol::PartitionId(1), 0, 2}));
  EXPECT_EQ(moves[1], (PlannedMove{protocol::PartitionId(2), 0, 1}));
  EXPECT_TRUE(PlanMemoryRelief(places, {{0, 1, 0}, {1, 1, 5}}, partitions, {0, 60}).empty());
}

}  // namespace
}  // namespace freshet::master
