// SPDX-License-Identifier: Apache-2.0
#include "master/lease_book.h"

#include <gtest/gtest.h>

namespace freshet::master {
namespace {

using protocol::Incarnation;
using protocol::Lease;
using protocol::LogId;
using protocol::Offset;
using protocol::PartitionId;
using protocol::Span;
using protocol::SpanSet;

constexpr LogId kLog{1};
constexpr uint32_t kPartitions = 2;

base::Instant At(int64_t ms) { return base::Instant(std::chrono::milliseconds(ms)); }

class LeaseBookTest : public ::testing::Test {
 protected:
  std::optional<Span> Gap(uint64_t max_records = 100) {
    return book_.FindGap({kLog, end_, &done_, max_records});
  }
  Lease Grant(uint64_t worker, uint64_t sequence, Span span) {
    return book_.Grant({Incarnation(worker), sequence}, kLog, span, {});
  }
  void ReportAll() {
    for (uint32_t p = 0; p < kPartitions; ++p) {
      book_.OnReport(PartitionId(static_cast<uint16_t>(p)));
    }
  }

  LeaseBook book_{kPartitions, 3};
  SpanSet done_;
  Offset end_ = 100;
};

TEST_F(LeaseBookTest, GivesTheOldestSpanThatIsNeitherDoneNorLeased) {
  EXPECT_EQ(Gap(), (Span{0, 100}));
  EXPECT_EQ(Gap(30), (Span{0, 30}));
  done_ = {{0, 10}, {20, 30}};
  EXPECT_EQ(Gap(30), (Span{10, 20}));
  Grant(1, 1, {10, 20});
  EXPECT_EQ(Gap(30), (Span{30, 60}));
  Grant(2, 1, {30, 100});
  EXPECT_EQ(Gap(), std::nullopt);
}

TEST_F(LeaseBookTest, NothingBehindTheSyncedEndIsLeased) {
  end_ = 0;
  EXPECT_EQ(Gap(), std::nullopt);
  end_ = 5;
  EXPECT_EQ(Gap(), (Span{0, 5}));
}

TEST_F(LeaseBookTest, LeasesOfAnotherLogTakeNothing) {
  book_.Grant({Incarnation(1), 1}, LogId(2), {0, 100}, {});
  EXPECT_EQ(Gap(), (Span{0, 100}));
}

TEST_F(LeaseBookTest, ARepeatedRequestFindsItsLease) {
  const Lease lease = Grant(1, 4, {0, 10});
  ASSERT_NE(book_.Find({Incarnation(1), 4}), nullptr);
  EXPECT_EQ(*book_.Find({Incarnation(1), 4}), lease);
  EXPECT_EQ(book_.Find({Incarnation(1), 5}), nullptr);
  EXPECT_EQ(book_.Find({Incarnation(2), 4}), nullptr);
}

TEST_F(LeaseBookTest, IdsCarryTheMastersStart) {
  const Lease first = Grant(1, 1, {0, 10});
  const Lease second = Grant(2, 1, {10, 20});
  EXPECT_EQ(first.id.value() >> 32, 3u);
  EXPECT_LT(first.id, second.id);
  LeaseBook next(kPartitions, 4);
  EXPECT_LT(second.id, next.Grant({Incarnation(1), 1}, kLog, {0, 10}, {}).id);
}

// Rule G16: what an ended lease left is known when every partition was reported twice more.
TEST_F(LeaseBookTest, AnEndedLeaseIsHeldUntilEveryPartitionWasReportedTwice) {
  Grant(1, 1, {0, 100});
  EXPECT_TRUE(book_.Holds(Incarnation(1)));
  book_.EndAllOf(Incarnation(1), At(0));
  EXPECT_FALSE(book_.Holds(Incarnation(1)));
  EXPECT_EQ(book_.active(), 0u);
  EXPECT_EQ(book_.Find({Incarnation(1), 1}), nullptr);
  ReportAll();
  book_.OnReport(PartitionId(0));
  book_.OnReport(PartitionId(0));
  book_.ReleaseSettled(At(1));
  EXPECT_EQ(Gap(), std::nullopt);
  book_.OnReport(PartitionId(1));
  book_.ReleaseSettled(At(1));
  EXPECT_EQ(Gap(), (Span{0, 100}));
}

TEST_F(LeaseBookTest, ReportsBeforeTheEndDoNotCount) {
  Grant(1, 1, {0, 100});
  ReportAll();
  ReportAll();
  book_.EndAllOf(Incarnation(1), At(0));
  book_.ReleaseSettled(At(1));
  EXPECT_EQ(Gap(), std::nullopt);
}

TEST_F(LeaseBookTest, AnEndedLeaseIsHeldForItsTimeToo) {
  Grant(1, 1, {0, 100});
  book_.EndAllOf(Incarnation(1), At(50));
  ReportAll();
  ReportAll();
  book_.ReleaseSettled(At(49));
  EXPECT_EQ(Gap(), std::nullopt);
  book_.ReleaseSettled(At(50));
  EXPECT_EQ(Gap(), (Span{0, 100}));
}

TEST_F(LeaseBookTest, EndingTwiceDoesNotBeginToWaitAgain) {
  Grant(1, 1, {0, 100});
  book_.EndAllOf(Incarnation(1), At(0));
  ReportAll();
  book_.EndAllOf(Incarnation(1), At(1000));
  ReportAll();
  book_.ReleaseSettled(At(1));
  EXPECT_EQ(Gap(), (Span{0, 100}));
}

TEST_F(LeaseBookTest, EndsOnlyTheLeasesOfTheWorker) {
  Grant(1, 1, {0, 50});
  Grant(2, 1, {50, 100});
  book_.EndAllOf(Incarnation(1), At(0));
  EXPECT_TRUE(book_.Holds(Incarnation(2)));
  EXPECT_EQ(book_.active(), 1u);
}

TEST_F(LeaseBookTest, ALogWithoutReportsIsHeldByTimeAlone) {
  Grant(1, 1, {0, 100});
  book_.EndAllOf(Incarnation(1), At(50));
  book_.ReleaseWithoutReports(kLog);
  book_.ReleaseSettled(At(49));
  EXPECT_EQ(Gap(), std::nullopt);
  book_.ReleaseSettled(At(50));
  EXPECT_EQ(Gap(), (Span{0, 100}));
}

TEST_F(LeaseBookTest, ALeaseFromBeforeARestartIsTakenOverUnlessItOverlaps) {
  Lease old{protocol::LeaseId(uint64_t{2} << 32 | 7), kLog, {20, 40}, {}};
  EXPECT_TRUE(book_.Adopt({Incarnation(1), 0}, old));
  EXPECT_TRUE(book_.Holds(Incarnation(1)));
  EXPECT_EQ(Gap(), (Span{0, 20}));
  EXPECT_FALSE(book_.Adopt({Incarnation(2), 0}, {protocol::LeaseId(8), kLog, {39, 50}, {}}));
  EXPECT_TRUE(book_.Adopt({Incarnation(2), 0}, {protocol::LeaseId(8), kLog, {40, 50}, {}}));
  EXPECT_TRUE(book_.Adopt({Incarnation(3), 0}, {protocol::LeaseId(9), LogId(2), {20, 40}, {}}));
}

TEST_F(LeaseBookTest, TooManyCutsShortenTheLease) {
  std::vector<Offset> cuts;
  for (Offset o = 1; o < 1000; ++o) cuts.push_back(o);
  const Lease lease = book_.Grant({Incarnation(1), 1}, kLog, {0, 1000}, cuts);
  EXPECT_EQ(lease.cuts.size(), 256u);
  EXPECT_EQ(lease.span, (Span{0, 257}));
  EXPECT_LT(lease.cuts.back(), lease.span.end);
}

}  // namespace
}  // namespace freshet::master
