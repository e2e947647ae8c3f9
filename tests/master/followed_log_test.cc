// SPDX-License-Identifier: Apache-2.0
// MasterNode over a log that grows, and over one that cannot be replayed.
#include <gmock/gmock.h>

#include "tests/master/master_node_fixture.h"

namespace freshet::master {
namespace {

using ::testing::HasSubstr;

class FollowedLogTest : public MasterNodeTest {
 protected:
  FollowedLogTest() : MasterNodeTest(Following()) {}
  static MasterOptions Following() {
    MasterOptions options = Options();
    options.job.logs[0].follow = true;
    options.linger = seconds(1);
    return options;
  }
  // The log is that long from now on, and the master has looked.
  void Grow(protocol::Offset end) {
    probe_.end = end;
    Look();
  }
  void Look(base::Duration time = milliseconds(200)) {
    const base::Instant until = runtime_.now() + time;
    while (runtime_.now() < until) {
      runtime_.Advance(milliseconds(50));
      runtime_.Settle();
    }
  }
  Span Leased(uint64_t sequence) { return AskForLease(sequence).lease.span; }
  // All of it was learnt by the holder of the last lease.
  void Learn(protocol::Offset end) {
    Report({0, end}, end, CurrentTenure());
    Report({0, end}, end, CurrentTenure());
  }
};

TEST_F(FollowedLogTest, TheJobWaitsAtTheEndAndGoesOnWithWhatIsAppended) {
  StartTraining();
  EXPECT_FALSE(node_->WaitsForRecords());
  EXPECT_EQ(Leased(1).begin, 0u);
  Learn(kRecords);
  EXPECT_EQ(node_->phase(), Phase::kTraining);
  EXPECT_TRUE(node_->WaitsForRecords());
  EXPECT_TRUE(endpoint_.Take<protocol::CheckpointRequest>().empty());
  EXPECT_EQ(AskForLease(2).answer, LeaseAnswer::kWait);
  Learn(kRecords);
  Grow(kRecords + 40);
  EXPECT_FALSE(node_->WaitsForRecords());
  EXPECT_EQ(node_->RecordsTotal(), kRecords + 40);
  EXPECT_EQ(Leased(3), (Span{kRecords, kRecords + 30}));
  EXPECT_EQ(node_->phase(), Phase::kTraining);
}

TEST_F(FollowedLogTest, TheLogIsLookedAtAtABoundedRateAndNeverTwiceAtOnce) {
  StartTraining();
  const int before = probe_.asked;
  for (int i = 0; i < 100; ++i) {
    runtime_.Advance(milliseconds(100));
    EXPECT_LE(runtime_.queued(), 1u);
  }
  EXPECT_EQ(probe_.asked, before) << "the one before has not answered yet";
  Look(seconds(10));
  EXPECT_GE(probe_.asked, before + 35);
  EXPECT_LE(probe_.asked, before + 51);
}

TEST_F(FollowedLogTest, ARestThatFillsNoBatchWaitsForMoreButNotForEver) {
  StartTraining();
  Learn(kRecords);
  Grow(kRecords + 25);
  EXPECT_EQ(Leased(1), (Span{kRecords, kRecords + 20}));
  Learn(kRecords + 20);
  EXPECT_EQ(AskForLease(2).answer, LeaseAnswer::kWait);
  Learn(kRecords + 20);
  EXPECT_EQ(AskForLease(3).answer, LeaseAnswer::kWait);
  Look(seconds(1));
  EXPECT_EQ(Leased(4), (Span{kRecords + 20, kRecords + 25}));
  Learn(kRecords + 25);
  // The next rest waits from its own arrival on.
  Grow(kRecords + 27);
  EXPECT_EQ(AskForLease(5).answer, LeaseAnswer::kWait);
  Learn(kRecords + 25);
  Grow(kRecords + 31);
  EXPECT_EQ(Leased(6), (Span{kRecords + 25, kRecords + 30}));
}

TEST_F(FollowedLogTest, ALogThatCannotBeFollowedEndsTheJobWithTheReason) {
  StartTraining();
  probe_.end = base::Fail(ErrorCode::kIo, "data file 'clicks.tsv' shrank");
  Look();
  EXPECT_EQ(node_->phase(), Phase::kFailed);
  EXPECT_EQ(node_->error(), "log train: data file 'clicks.tsv' shrank");
  EXPECT_EQ(AskForLease(1).answer, LeaseAnswer::kWait);
  const int asked = probe_.asked;
  Look(seconds(2));
  EXPECT_EQ(probe_.asked, asked);
}

TEST_F(FollowedLogTest, AMasterThatComesBackDoesNotStartOnALogThatIsShorterThanWhatWasLearnt) {
  StartTraining();
  probe_.end = 60;
  StartMaster();
  ps_ = Register(kPs, Role::kPs, "ps-0", 1);
  Report({0, 70}, 70, CurrentTenure());
  EXPECT_EQ(node_->phase(), Phase::kFailed);
  EXPECT_THAT(node_->error(), HasSubstr("has 60 records, but 70 of it were learnt before"));
}

TEST_F(FollowedLogTest, AnEmptyLogIsOneToWaitFor) {
  probe_.end = 0;
  StartMaster();
  StartTraining();
  EXPECT_TRUE(node_->WaitsForRecords());
  EXPECT_EQ(AskForLease(1).answer, LeaseAnswer::kWait);
  Grow(10);
  EXPECT_EQ(Leased(2), (Span{0, 10}));
}

TEST(LogTailTest, WhatWasThereALingerAgoHasWaitedLongEnough) {
  const base::Instant start{seconds(100)};
  LogTail tail(seconds(1));
  tail.Note(50, start);
  EXPECT_EQ(tail.Settled(start), 50u);
  tail.Note(60, start + milliseconds(200));
  tail.Note(60, start + milliseconds(400));
  tail.Note(70, start + milliseconds(600));
  EXPECT_EQ(tail.Settled(start + milliseconds(1100)), 50u);
  EXPECT_EQ(tail.Settled(start + milliseconds(1200)), 60u);
  EXPECT_EQ(tail.Settled(start + milliseconds(1599)), 60u);
  EXPECT_EQ(tail.Settled(start + milliseconds(1600)), 70u);
}

}  // namespace
}  // namespace freshet::master
