// SPDX-License-Identifier: Apache-2.0
#include "master/load_watch.h"

#include <gtest/gtest.h>

namespace freshet::master {
namespace {

using protocol::Incarnation;
using protocol::PartitionId;
using protocol::Place;
using std::chrono::seconds;

constexpr uint16_t kPartitions = 20;
constexpr uint64_t kMiB = 1 << 20;

// Two servers with ten partitions each. In a second each partition has 1000 rows to do.
class LoadWatchTest : public ::testing::Test {
 protected:
  LoadWatchTest() {
    for (uint16_t p = 0; p < kPartitions; ++p) {
      places_.push_back({static_cast<uint16_t>(p < 10 ? 0 : 1), {}, {}, protocol::kNoNode});
    }
  }
  // `us_per_row` of each server.
  std::optional<LoadWatch::Advice> Second(double us_of_0, double us_of_1) {
    now_ += seconds(2);
    rows_ += 2000;
    for (uint16_t p = 0; p < kPartitions; ++p) {
      protocol::PartitionReport report;
      report.partition = PartitionId(p);
      report.bytes = 10 * kMiB;
      report.touched = rows_ * (p == hot_ ? 12 : 1);
      watch_.OnPartition(report);
    }
    const double us[] = {us_of_0, us_of_1};
    for (uint16_t n = 0; n < 2; ++n) {
      busy_us_[n] += us[n] * 10 * 2000;
      if (hot_ / 10 == n) busy_us_[n] += us[n] * 11 * 2000;
      stats_[n].busy_us = static_cast<uint64_t>(busy_us_[n]);
      stats_[n].memory_limit_bytes = 1000 * kMiB;
      watch_.OnServer(n, Incarnation(n + 1), stats_[n]);
    }
    return watch_.Look(now_, places_, {"ps-0", "ps-1"}, busy_plans_);
  }
  std::optional<LoadWatch::Advice> Within(int samples, double us_of_0, double us_of_1) {
    for (int i = 0; i < samples; ++i) {
      if (auto advice = Second(us_of_0, us_of_1)) return advice;
    }
    return std::nullopt;
  }

  LoadWatch watch_{kPartitions, {}};
  std::vector<Place> places_;
  base::Instant now_{seconds(100)};
  uint64_t rows_ = 0;
  uint16_t hot_ = 999;
  double busy_us_[2] = {};
  protocol::PsStats stats_[2];
  bool busy_plans_ = false;
};

TEST_F(LoadWatchTest, EqualServersAreLeftAlone) { EXPECT_FALSE(Within(30, 50, 50)); }

TEST_F(LoadWatchTest, ASlowServerShedsUntilBothAreEquallyBusy) {
  const auto advice = Within(10, 20, 80);
  ASSERT_TRUE(advice);
  EXPECT_EQ(advice->request.kind, PlanKind::kEvenLoad);
  EXPECT_EQ(advice->request.node, "ps-1");
  // 16 to 4 is even; it stops within five in a hundred.
  EXPECT_NEAR(static_cast<double>(advice->moves.size()), 6, 1);
  for (const PlannedMove& move : advice->moves) EXPECT_EQ(move.to, 0);
}

TEST_F(LoadWatchTest, AShortSlownessIsNoReason) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(Within(2, 20, 80));
    EXPECT_FALSE(Within(4, 20, 20));
  }
}

TEST_F(LoadWatchTest, AClusterWithLittleToDoIsLeftAlone) { EXPECT_FALSE(Within(30, 2, 8)); }

TEST_F(LoadWatchTest, ItRestsAfterAPlan) {
  busy_plans_ = true;
  EXPECT_FALSE(Within(5, 20, 80));
  busy_plans_ = false;
  EXPECT_FALSE(Within(6, 20, 80)) << "12 s after it";
  EXPECT_TRUE(Within(10, 20, 80));
}

TEST_F(LoadWatchTest, AHotPartitionMakesItsNeighboursMove) {
  hot_ = 3;
  const auto advice = Within(10, 30, 30);
  ASSERT_TRUE(advice);
  EXPECT_EQ(advice->request.node, "ps-0");
  EXPECT_FALSE(advice->moves.empty());
}

TEST_F(LoadWatchTest, AFullServerShedsAndAsksForAnotherOneWhenNobodyHasRoom) {
  stats_[0].memory_bytes = 850 * kMiB;
  stats_[1].memory_bytes = 100 * kMiB;
  const auto advice = Within(3, 50, 50);
  ASSERT_TRUE(advice);
  EXPECT_EQ(advice->request.kind, PlanKind::kRelieve);
  // From 850 to 650 MiB, ten at a time: all that it has.
  EXPECT_EQ(advice->moves.size(), 10u);
  stats_[1].memory_bytes = 745 * kMiB;
  const auto alone = Within(3, 50, 50);
  ASSERT_TRUE(alone);
  EXPECT_TRUE(alone->moves.empty());
}

}  // namespace
}  // namespace freshet::master
