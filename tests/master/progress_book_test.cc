// SPDX-License-Identifier: Apache-2.0
#include "master/progress_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace freshet::master {
namespace {

using protocol::AppliedSets;
using protocol::LogId;
using protocol::LogWatermark;
using protocol::Offset;
using protocol::PartitionId;
using protocol::SpanSet;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr LogId kLog{1};
constexpr PartitionId kFirst{0};
constexpr PartitionId kSecond{1};

AppliedSets Applied(SpanSet set) {
  AppliedSets sets;
  sets.Mutable(kLog) = std::move(set);
  return sets;
}

std::vector<LogWatermark> Durable(Offset watermark) { return {{kLog, watermark}}; }

TEST(ProgressBook, NothingIsDoneBeforeEveryPartitionWasReported) {
  ProgressBook book(2);
  book.Report(kFirst, Applied({{0, 10}}), Durable(10));
  EXPECT_FALSE(book.AllReported());
  EXPECT_THAT(book.Done(kLog).spans(), IsEmpty());
  EXPECT_EQ(book.DurableFloor(kLog), 0u);
  book.Report(kSecond, Applied({{0, 10}}), Durable(10));
  EXPECT_TRUE(book.AllReported());
  EXPECT_EQ(book.Done(kLog), (SpanSet{{0, 10}}));
  EXPECT_EQ(book.DurableFloor(kLog), 10u);
}

TEST(ProgressBook, DoneIsWhatEveryPartitionHas) {
  ProgressBook book(2);
  book.Report(kFirst, Applied({{0, 10}, {20, 30}}), {});
  book.Report(kSecond, Applied({{5, 25}}), {});
  EXPECT_EQ(book.Done(kLog), (SpanSet{{5, 10}, {20, 25}}));
  EXPECT_THAT(book.Done(LogId(7)).spans(), IsEmpty());
}

TEST(ProgressBook, ReportsOfOneTenureMayComeInAnyOrder) {
  ProgressBook book(1);
  book.Report(kFirst, Applied({{0, 30}}), Durable(30));
  book.Report(kFirst, Applied({{0, 10}}), Durable(10));  // late
  EXPECT_EQ(book.Done(kLog), (SpanSet{{0, 30}}));
  EXPECT_EQ(book.DurableFloor(kLog), 30u);
}

TEST(ProgressBook, ANewTenureForgetsWhatTheOldOneReported) {
  ProgressBook book(2);
  book.Report(kFirst, Applied({{0, 30}}), Durable(30));
  book.Report(kSecond, Applied({{0, 30}}), Durable(30));
  book.Forget(kFirst);
  EXPECT_FALSE(book.AllReported());
  EXPECT_THAT(book.Done(kLog).spans(), IsEmpty());
  EXPECT_EQ(book.DurableFloor(kLog), 0u);
  EXPECT_THAT(book.Edges(kLog, {0, 100}), ElementsAre(30));
  // The restored image is older, and nothing of it is claimed under the new tenure yet.
  book.Report(kFirst, Applied({{0, 20}}), {});
  EXPECT_EQ(book.Done(kLog), (SpanSet{{0, 20}}));
  EXPECT_EQ(book.DurableFloor(kLog), 0u);
  book.Forget(kFirst);
  book.Forget(kFirst);  // twice is once
  book.Report(kFirst, Applied({{0, 20}}), Durable(20));
  EXPECT_TRUE(book.AllReported());
  EXPECT_EQ(book.DurableFloor(kLog), 20u);
}

TEST(ProgressBook, TheFloorIsTheLowestWatermarkOfAnyPartition) {
  ProgressBook book(2);
  book.Report(kFirst, Applied({{0, 30}}), Durable(30));
  book.Report(kSecond, Applied({{0, 30}}), Durable(12));
  EXPECT_EQ(book.DurableFloor(kLog), 12u);
}

TEST(ProgressBook, EdgesAreThoseOfEverySetInsideTheSpanOnce) {
  ProgressBook book(3);
  book.Report(PartitionId(0), Applied({{0, 10}, {20, 30}}), {});
  book.Report(PartitionId(1), Applied({{0, 10}, {25, 30}}), {});
  book.Report(PartitionId(2), Applied({{0, 40}}), {});
  EXPECT_THAT(book.Edges(kLog, {0, 100}), ElementsAre(10, 20, 25, 30, 40));
  EXPECT_THAT(book.Edges(kLog, {10, 30}), ElementsAre(20, 25));
  EXPECT_THAT(book.Edges(kLog, {31, 39}), IsEmpty());
}

// Done and the edges are computed when asked for; they must not be those of an older report.
TEST(ProgressBook, AgreesWithACountAfterEveryReport) {
  base::Random random(11);
  constexpr uint32_t kPartitions = 4;
  ProgressBook book(kPartitions);
  std::vector<SpanSet> applied(kPartitions);
  std::vector<char> reported(kPartitions);
  for (int step = 0; step < 3000; ++step) {
    const auto p = static_cast<uint16_t>(random.Below(kPartitions));
    if (random.Chance(0.05)) {
      book.Forget(PartitionId(p));
      applied[p] = SpanSet();
      reported[p] = 0;
    } else {
      const Offset begin = random.Below(60);
      applied[p].Add({begin, begin + random.Below(8)});
      reported[p] = 1;
      book.Report(PartitionId(p), Applied(applied[p]), {});
    }
    const bool all = std::count(reported.begin(), reported.end(), 1) == kPartitions;
    ASSERT_EQ(book.AllReported(), all);
    for (Offset o = 0; o < 70; ++o) {
      const bool everywhere = std::all_of(applied.begin(), applied.end(),
                                          [o](const SpanSet& set) { return set.Contains(o); });
      ASSERT_EQ(book.Done(kLog).Contains(o), all && everywhere) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace freshet::master
