// SPDX-License-Identifier: Apache-2.0
#include "ps/checkpointer.h"

#include <gtest/gtest.h>

#include "tests/base/fake_runtime.h"
#include "tests/ps/memory_image_store.h"
#include "tests/ps/push_rows.h"
#include "tests/ps/store_fixture.h"

namespace freshet::ps {
namespace {

using base::ErrorCode;
using protocol::LogId;
using protocol::PartitionId;
using protocol::Span;
using protocol::TableId;
using protocol::Tenure;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr LogId kLog{0};
constexpr TableId kRows{1};
constexpr auto kInterval = seconds(10);

class CheckpointerTest : public ::testing::Test {
 protected:
  CheckpointerTest() {
    EXPECT_TRUE(tables_.Add(MakeTable(1, 8, protocol::OptimizerKind::kAdagrad)));
    options_.interval = kInterval;
    options_.max_differences = 3;
  }

  void Serve(size_t count, uint64_t tenure = 1) {
    slots_.clear();
    slots_.resize(count);
    for (uint16_t p = 0; p < count; ++p) {
      slots_[p].state = SlotState::kServing;
      slots_[p].tenure = Tenure(tenure);
      slots_[p].partition = std::make_unique<Partition>(PartitionId(p), tables_, arena_);
    }
  }
  Checkpointer& Start() {
    checkpointer_ = std::make_unique<Checkpointer>(slots_, store_, runtime_.runtime(), options_);
    checkpointer_->on_failure = [this](const std::string&) { ++failures_; };
    checkpointer_->on_saved = [this] { ++saves_; };
    checkpointer_->Start();
    return *checkpointer_;
  }
  // `rows` rows of the partition learn from one span.
  void Learn(uint16_t p, Span span, uint64_t rows = 1) {
    Partition& partition = *slots_[p].partition;
    std::vector<protocol::Key> keys(rows);
    for (uint64_t i = 0; i < rows; ++i) keys[i] = i;
    const std::vector<float> gradients(rows * 8, 1.0f);
    const RowRun run{partition.Shard(kRows), 0, static_cast<uint32_t>(rows)};
    ASSERT_TRUE(ReserveAndPush({&run, 1}, keys, gradients.data()));
    partition.RecordApplied(kLog, span);
  }
  // A spread checkpoint of four partitions that has just begun: the first is cut.
  Checkpointer& StartSpread() {
    options_.spread = seconds(4);
    Serve(4);
    Checkpointer& checkpointer = Start();
    for (uint16_t p = 0; p < 4; ++p) Learn(p, {0, 1});
    runtime_.Advance(kInterval);
    return checkpointer;
  }
  void ExpectAllClaimed() {
    for (uint16_t p = 0; p < 4; ++p) EXPECT_GT(Claimed(p), 0u) << "partition " << p;
  }
  protocol::Offset Claimed(uint16_t p) const {
    return slots_[p].durable.empty() ? 0 : slots_[p].durable.front().watermark;
  }
  void Interval() {
    runtime_.Advance(kInterval);
    runtime_.Settle();
  }

  base::FakeRuntime runtime_;
  RowArena arena_;
  TableSet tables_;
  Slots slots_;
  MemoryImageStore store_;
  CheckpointerOptions options_;
  std::unique_ptr<Checkpointer> checkpointer_;
  int failures_ = 0;
  int saves_ = 0;
};

TEST_F(CheckpointerTest, WritesWholeThenDifferencesThenWholeAgain) {
  Serve(1);
  Start();
  std::vector<bool> whole;
  Learn(0, {0, 1}, 2000);
  Interval();
  for (protocol::Offset at = 1; at < 6; ++at) {
    Learn(0, {at, at + 1});
    Interval();
  }
  for (const auto& write : store_.writes) whole.push_back(write.front().whole());
  EXPECT_EQ(whole, (std::vector<bool>{true, false, false, false, true, false}));
  EXPECT_EQ(store_.writes[1].front().rows, 1u);
  EXPECT_EQ(store_.writes[1].front().base, store_.writes[0].front().stamp);
  EXPECT_EQ(Claimed(0), 6u);
}

TEST_F(CheckpointerTest, WritesWholeWhenTheDifferencesWouldOutgrowIt) {
  options_.max_differences = 100;
  Serve(1);
  Start();
  std::vector<bool> whole;
  for (protocol::Offset at = 0; at < 4; ++at) {
    Learn(0, {at, at + 1}, 2000);  // every row, every time
    Interval();
    whole.push_back(store_.writes.back().front().whole());
  }
  EXPECT_EQ(whole, (std::vector<bool>{true, false, true, false}));
}

TEST_F(CheckpointerTest, WritesOnlyWhatChanged) {
  Serve(3);
  Start();
  for (uint16_t p = 0; p < 3; ++p) Learn(p, {0, 4});
  Interval();
  ASSERT_EQ(store_.writes.size(), 1u);
  EXPECT_EQ(store_.writes[0].size(), 3u);
  Interval();
  EXPECT_EQ(store_.writes.size(), 1u);
  Learn(1, {4, 8});
  Interval();
  ASSERT_EQ(store_.writes.size(), 2u);
  ASSERT_EQ(store_.writes[1].size(), 1u);
  EXPECT_EQ(store_.writes[1][0].partition, PartitionId(1));
}

TEST_F(CheckpointerTest, ANewTenureIsStampedAlthoughNothingChanged) {
  Serve(1);
  Learn(0, {0, 4}, 100);
  // As loaded: the image of the tenure before is in the store, and claims nothing (rule G18).
  store_.chains[PartitionId(0)] = {slots_[0].partition->CutWhole(Tenure(6))};
  slots_[0].tenure = Tenure(7);
  slots_[0].saved = store_.chains[PartitionId(0)].front().header.stamp;
  slots_[0].saved_cut = slots_[0].partition->current_cut() - 1;
  slots_[0].saved_bytes = store_.chains[PartitionId(0)].front().Bytes();
  EXPECT_EQ(Claimed(0), 0u);
  Start().Soon();
  runtime_.Advance(milliseconds(60));
  runtime_.Settle();
  ASSERT_EQ(store_.writes.size(), 1u);
  EXPECT_EQ(store_.writes[0][0].stamp.tenure, Tenure(7));
  EXPECT_EQ(store_.writes[0][0].rows, 0u);
  EXPECT_EQ(Claimed(0), 4u);
}

TEST_F(CheckpointerTest, AFullDiskKeepsTheClaimAndTriesAgain) {
  Serve(2);
  Start();
  Learn(0, {0, 10});
  Interval();
  ASSERT_EQ(Claimed(0), 10u);
  Learn(0, {10, 20});
  store_.next_write_fails = ErrorCode::kResourceExhausted;
  Interval();
  EXPECT_EQ(Claimed(0), 10u);
  EXPECT_EQ(failures_, 0);
  // What was in the image that failed is in the next one.
  Learn(0, {20, 30});
  Interval();
  EXPECT_EQ(Claimed(0), 30u);
  Partition restored(PartitionId(0), tables_, arena_);
  ASSERT_TRUE(restored.Restore(store_.chains[PartitionId(0)]));
  EXPECT_EQ(restored.applied(), slots_[0].partition->applied());
}

TEST_F(CheckpointerTest, AnyOtherFailureEndsDurableWritesAndIsReportedOnce) {
  Serve(1);
  Start();
  Learn(0, {0, 10});
  store_.next_write_fails = ErrorCode::kIo;
  Interval();
  EXPECT_EQ(failures_, 1);
  EXPECT_EQ(Claimed(0), 0u);
  Interval();
  EXPECT_EQ(failures_, 1);
  EXPECT_EQ(store_.writes.size(), 1u);
}

TEST_F(CheckpointerTest, FlushWaitsForWhatWasAppliedBeforeItAlsoDuringAWrite) {
  Serve(2);
  Checkpointer& checkpointer = Start();
  Learn(0, {0, 10});
  Learn(1, {0, 10});
  runtime_.Advance(kInterval);
  ASSERT_EQ(runtime_.queued(), 1u);  // the images are cut and on their way
  Learn(0, {10, 20});
  bool done = false;
  checkpointer.Flush([&] {
    done = true;
    EXPECT_EQ(Claimed(0), 20u);
    EXPECT_EQ(Claimed(1), 10u);
  });
  runtime_.WorkOne();
  EXPECT_FALSE(done);  // what was cut before does not hold it
  EXPECT_EQ(Claimed(0), 10u);
  runtime_.Settle();
  EXPECT_TRUE(done);
}

TEST_F(CheckpointerTest, FlushDoesNotWaitForWhatIsAppliedAfterIt) {
  Serve(1);
  Checkpointer& checkpointer = Start();
  Learn(0, {0, 10});
  bool done = false;
  checkpointer.Flush([&] { done = true; });
  Learn(0, {10, 20});
  runtime_.Settle();
  EXPECT_TRUE(done);
  EXPECT_EQ(store_.writes.size(), 1u);
  EXPECT_EQ(Claimed(0), 10u);
}

TEST_F(CheckpointerTest, FlushOnAFullDiskEndsWhenThereIsRoomAgain) {
  Serve(1);
  Checkpointer& checkpointer = Start();
  Learn(0, {0, 10});
  store_.next_write_fails = ErrorCode::kResourceExhausted;
  bool done = false;
  checkpointer.Flush([&] { done = true; });
  runtime_.Settle();
  EXPECT_FALSE(done);
  Interval();
  EXPECT_TRUE(done);
}

TEST_F(CheckpointerTest, FlushDoesNotWaitForAPartitionThatLeft) {
  Serve(1);
  Checkpointer& checkpointer = Start();
  Learn(0, {0, 1});
  store_.next_write_fails = ErrorCode::kResourceExhausted;
  bool done = false;
  checkpointer.Flush([&] { done = true; });
  runtime_.Settle();
  EXPECT_FALSE(done);
  slots_[0] = Slot();
  Interval();
  EXPECT_TRUE(done);
}

TEST_F(CheckpointerTest, FlushWithNothingToWriteEndsAtOnce) {
  Serve(0);
  bool done = false;
  Start().Flush([&] { done = true; });
  EXPECT_TRUE(done);
}

TEST_F(CheckpointerTest, AnImageOfAFormerTenureClaimsNothing) {
  Serve(1);
  Start();
  Learn(0, {0, 10});
  runtime_.Advance(kInterval);
  ASSERT_EQ(runtime_.queued(), 1u);
  Serve(1, 2);  // it moved away and came back while the image was written
  runtime_.Settle();
  EXPECT_EQ(Claimed(0), 0u);
  EXPECT_EQ(slots_[0].saved.tenure, Tenure(0));
}

TEST_F(CheckpointerTest, ADifferenceThatDoesNotFitIsFollowedByAWholeImage) {
  Serve(1);
  Checkpointer& checkpointer = Start();
  Learn(0, {0, 10}, 2000);
  Interval();
  store_.chains.clear();  // what the difference would go onto is gone
  Learn(0, {10, 20});
  bool done = false;
  checkpointer.Flush([&] { done = true; });
  runtime_.Settle();
  EXPECT_FALSE(done);
  EXPECT_EQ(Claimed(0), 10u);
  EXPECT_EQ(store_.writes.size(), 2u);  // and not again and again
  Interval();
  EXPECT_TRUE(done);
  EXPECT_EQ(Claimed(0), 20u);
  EXPECT_TRUE(store_.writes.back().front().whole());
}

TEST_F(CheckpointerTest, OneWriteHoldsABoundedAmount) {
  options_.group_bytes = 100'000;
  Serve(6);
  Start();
  for (uint16_t p = 0; p < 6; ++p) Learn(p, {0, 1}, 1000);  // 76,000 bytes each
  Interval();
  std::vector<size_t> groups;
  for (const auto& write : store_.writes) groups.push_back(write.size());
  EXPECT_EQ(groups, (std::vector<size_t>{2, 2, 2}));
  EXPECT_EQ(saves_, 3);
}

TEST_F(CheckpointerTest, PausesThatInterruptItAgainAndAgainKeepNoPartitionFromTheDisk) {
  Serve(4);
  options_.group_bytes = 1;
  Checkpointer& checkpointer = Start();
  runtime_.Advance(kInterval);
  for (uint64_t round = 0; round < 6; ++round) {
    for (uint16_t p = 0; p < 4; ++p) Learn(p, {round, round + 1});
    runtime_.Advance(milliseconds(1));
    if (runtime_.queued() == 0) runtime_.Advance(kInterval);
    ASSERT_EQ(runtime_.queued(), 1u);
    bool idle = false;
    checkpointer.Pause([&idle] { idle = true; });
    runtime_.WorkOne();
    ASSERT_TRUE(idle);
    checkpointer.Resume();
  }
  ExpectAllClaimed();
}

TEST_F(CheckpointerTest, WritesAreSpreadOverAPartOfTheInterval) {
  options_.group_bytes = 1;
  StartSpread();
  std::vector<size_t> written;
  for (int second = 0; second < 4; ++second) {
    runtime_.Settle();
    runtime_.Advance(milliseconds(500));
    runtime_.Settle();
    written.push_back(store_.writes.size());
    runtime_.Advance(milliseconds(500));
  }
  EXPECT_EQ(written, (std::vector<size_t>{1, 2, 3, 4}));
}

TEST_F(CheckpointerTest, WhileTurnsAreWaitedForGroupsAreSmall) {
  options_.spread = seconds(6);
  options_.small_group_bytes = 100'000;
  Serve(6);
  Start();
  for (uint16_t p = 0; p < 6; ++p) Learn(p, {0, 1}, 1000);  // 76,000 bytes each
  runtime_.Advance(kInterval);
  for (int second = 0; second < 6; ++second) {
    runtime_.Settle();
    runtime_.Advance(seconds(1));
  }
  runtime_.Settle();
  std::vector<size_t> groups;
  for (const auto& write : store_.writes) groups.push_back(write.size());
  EXPECT_EQ(groups, (std::vector<size_t>{2, 2, 2}));
}

TEST_F(CheckpointerTest, AFlushWaitsForNoTurn) {
  Checkpointer& checkpointer = StartSpread();
  Learn(0, {1, 2});
  bool done = false;
  checkpointer.Flush([&] { done = true; });
  runtime_.Settle();
  EXPECT_TRUE(done);
  EXPECT_EQ(Claimed(0), 2u);
  EXPECT_EQ(Claimed(3), 1u);
}

TEST_F(CheckpointerTest, WhatBeganToServeWaitsForNoTurn) {
  Checkpointer& checkpointer = StartSpread();
  slots_.resize(5);
  slots_[4].state = SlotState::kServing;
  slots_[4].tenure = Tenure(1);
  slots_[4].partition = std::make_unique<Partition>(PartitionId(4), tables_, arena_);
  checkpointer.Soon();
  runtime_.Settle();
  EXPECT_EQ(slots_[4].saved.tenure, Tenure(1));
}

TEST_F(CheckpointerTest, WhatBeganToServeWaitsForNoTurnBehindAPauseEither) {
  options_.spread = seconds(4);
  options_.group_bytes = 1;
  Serve(4);
  Checkpointer& checkpointer = Start();
  for (uint16_t p = 0; p < 4; ++p) Learn(p, {0, 1});
  checkpointer.Soon();
  runtime_.Advance(milliseconds(60));
  ASSERT_EQ(runtime_.queued(), 1u);  // the first group
  bool idle = false;
  checkpointer.Pause([&idle] { idle = true; });
  runtime_.WorkOne();
  ASSERT_TRUE(idle);
  EXPECT_EQ(Claimed(3), 0u);
  checkpointer.Resume();
  runtime_.Settle();
  ExpectAllClaimed();
}

TEST_F(CheckpointerTest, APauseWaitsForNoTurn) {
  Checkpointer& checkpointer = StartSpread();
  bool idle = false;
  checkpointer.Pause([&idle] { idle = true; });
  runtime_.Settle();
  EXPECT_TRUE(idle);
  EXPECT_EQ(store_.writes.size(), 1u);  // what was cut
  checkpointer.Resume();
  runtime_.Advance(kInterval);
  runtime_.Settle();
  ExpectAllClaimed();
}

TEST_F(CheckpointerTest, APauseWritesOnlyWhatIsCutAlsoWithoutTurns) {
  Serve(4);
  Checkpointer& checkpointer = Start();
  for (uint16_t p = 0; p < 4; ++p) Learn(p, {0, 1});
  bool idle = false;
  runtime_.runtime().timers.After(kInterval, [&] {
    checkpointer.Pause([&idle] { idle = true; });  // behind the cut of the first
  });
  runtime_.Advance(kInterval);
  runtime_.Settle();
  EXPECT_TRUE(idle);
  ASSERT_EQ(store_.writes.size(), 1u);
  EXPECT_EQ(store_.writes[0].size(), 1u);
  checkpointer.Resume();
  runtime_.Settle();
  ExpectAllClaimed();
}

TEST_F(CheckpointerTest, APauseBetweenTwoGroupsWritesNothing) {
  options_.group_bytes = 1;
  Checkpointer& checkpointer = StartSpread();
  runtime_.Settle();
  ASSERT_EQ(store_.writes.size(), 1u);
  bool idle = false;
  checkpointer.Pause([&idle] { idle = true; });
  EXPECT_TRUE(idle);
  EXPECT_EQ(store_.writes.size(), 1u);
  checkpointer.Resume();
  runtime_.Advance(kInterval);
  runtime_.Settle();
  ExpectAllClaimed();
}

TEST_F(CheckpointerTest, RequestsAreServedBetweenTheCutsOfPartitions) {
  Serve(3);
  Start();
  for (uint16_t p = 0; p < 3; ++p) Learn(p, {0, 1});
  int turns = 0;
  runtime_.runtime().timers.After(kInterval, [&] {
    // The first partition was cut in the timer before this one; a push may come between the others.
    ++turns;
    Learn(2, {1, 2});
  });
  Interval();
  EXPECT_EQ(turns, 1);
  EXPECT_EQ(Claimed(0), 1u);
  EXPECT_EQ(Claimed(2), 2u);
}

}  // namespace
}  // namespace freshet::ps
