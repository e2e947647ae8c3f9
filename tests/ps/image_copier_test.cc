// SPDX-License-Identifier: Apache-2.0
#include "ps/image_copier.h"

#include <gtest/gtest.h>

#include "tests/base/fake_runtime.h"
#include "tests/ps/memory_image_store.h"
#include "tests/ps/store_fixture.h"

namespace freshet::ps {
namespace {

using base::ErrorCode;
using protocol::BackupReply;
using protocol::BackupState;
using protocol::Incarnation;
using protocol::LogId;
using protocol::PartitionId;
using protocol::Tenure;

constexpr LogId kLog{0};
constexpr Incarnation kWriter{8};

class ImageCopierTest : public ::testing::Test {
 protected:
  ImageCopierTest()
      : checkpointer_(slots_, store_, runtime_.runtime(), {}),
        copier_(slots_, store_, runtime_.runtime(), checkpointer_) {
    EXPECT_TRUE(tables_.Add(MakeTable(1, 8, protocol::OptimizerKind::kAdagrad)));
    slots_.resize(4);
    for (uint16_t p = 0; p < 3; ++p) Serve(p);  // the last one is another server's
  }

  void Serve(uint16_t p) {
    slots_[p].state = SlotState::kServing;
    slots_[p].tenure = Tenure(2);
    slots_[p].partition = std::make_unique<Partition>(PartitionId(p), tables_, arena_);
  }
  void Learn(uint16_t p, protocol::Offset end) {
    slots_[p].partition->RecordApplied(kLog, {0, end});
  }
  BackupReply Ask(uint64_t round, std::vector<uint16_t> cover = {0, 1, 2}) {
    return copier_.Handle({round, "/backup", std::move(cover)}, kWriter);
  }
  BackupReply AskToTheEnd(uint64_t round, std::vector<uint16_t> cover = {0, 1, 2}) {
    Ask(round, cover);
    runtime_.Settle();
    return Ask(round, cover);
  }

  base::FakeRuntime runtime_;
  RowArena arena_;
  TableSet tables_;
  Slots slots_;
  MemoryImageStore store_;
  Checkpointer checkpointer_;
  ImageCopier copier_;
};

TEST_F(ImageCopierTest, CopiesWhatWasAppliedBeforeItWasAsked) {
  Learn(0, 10);
  Learn(1, 20);
  EXPECT_EQ(Ask(1).state, BackupState::kRunning);
  runtime_.Settle();
  const BackupReply ended = Ask(1);
  EXPECT_EQ(ended.state, BackupState::kEnded);
  EXPECT_EQ(ended.done, 3u);
  EXPECT_EQ(ended.bytes, 3000u);
  ASSERT_EQ(ended.files.size(), 3u);
  EXPECT_EQ(ended.files[1].partition, PartitionId(1));
  EXPECT_EQ(ended.files[1].name, "partition-00001.8.img");
  EXPECT_EQ(ended.files[1].tenure, Tenure(2));
  EXPECT_EQ(ended.files[1].version, slots_[1].partition->version());
  EXPECT_EQ(ended.files[1].watermarks, (std::vector<protocol::LogWatermark>{{kLog, 20}}));
  EXPECT_TRUE(store_.exported.contains("/backup/partition-00001.8.img"));
}

TEST_F(ImageCopierTest, ARepeatedRequestBeginsNothingAgain) {
  AskToTheEnd(1);
  store_.exported.clear();
  Learn(0, 10);
  const BackupReply again = AskToTheEnd(1);
  EXPECT_EQ(again.state, BackupState::kEnded);
  EXPECT_EQ(again.files.size(), 3u);
  EXPECT_TRUE(store_.exported.empty());
  EXPECT_EQ(AskToTheEnd(2).files.size(), 3u);
  EXPECT_EQ(store_.exported.size(), 3u);
}

TEST_F(ImageCopierTest, TellsHowFarItIs) {
  Ask(1);
  while (store_.exported.empty()) {
    runtime_.Advance(base::Duration(0));
    if (runtime_.queued() > 0) runtime_.WorkOne();
  }
  const BackupReply reply = Ask(1);
  EXPECT_EQ(reply.state, BackupState::kRunning);
  EXPECT_EQ(reply.done, 1u);
  EXPECT_EQ(reply.bytes, 1000u);
}

TEST_F(ImageCopierTest, WaitsForAPartitionThatIsBeingLoaded) {
  slots_[1].state = SlotState::kLoading;
  EXPECT_EQ(AskToTheEnd(1).state, BackupState::kRunning);
  EXPECT_TRUE(store_.exported.empty());
  Serve(1);
  EXPECT_EQ(AskToTheEnd(1).state, BackupState::kEnded);
  EXPECT_EQ(store_.exported.size(), 3u);
}

TEST_F(ImageCopierTest, LeavesOutWhatIsNotHereOrLeftMeanwhile) {
  Ask(1, {0, 1, 2, 3});
  while (store_.exported.empty()) {
    runtime_.Advance(base::Duration(0));
    if (runtime_.queued() > 0) runtime_.WorkOne();
  }
  // Partition 1 is about to be copied, 2 waits for its turn.
  for (const uint16_t p : {1, 2}) slots_[p] = {};
  store_.chains.erase(PartitionId(1));
  runtime_.Settle();
  const BackupReply ended = Ask(1, {0, 1, 2, 3});
  EXPECT_EQ(ended.state, BackupState::kEnded) << ended.message;
  EXPECT_EQ(ended.done, 4u);
  ASSERT_EQ(ended.files.size(), 1u);
  EXPECT_EQ(ended.files[0].partition, PartitionId(0));
}

TEST_F(ImageCopierTest, AFailedCopyEndsTheRoundWithItsReason) {
  Ask(1);
  while (store_.exported.empty()) {
    runtime_.Advance(base::Duration(0));
    if (runtime_.queued() > 0) runtime_.WorkOne();
  }
  store_.next_write_fails = ErrorCode::kResourceExhausted;
  runtime_.Settle();
  const BackupReply failed = Ask(1);
  EXPECT_EQ(failed.state, BackupState::kFailed);
  EXPECT_EQ(failed.code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(failed.message, "as the test says");
  EXPECT_EQ(store_.exported.size(), 1u);
  EXPECT_EQ(AskToTheEnd(2).state, BackupState::kEnded);
}

TEST_F(ImageCopierTest, ANewRoundEndsTheOneBefore) {
  Ask(1);
  EXPECT_EQ(Ask(2, {0}).state, BackupState::kRunning);
  runtime_.Settle();
  EXPECT_EQ(store_.exported.size(), 1u);
  EXPECT_EQ(Ask(2, {0}).files.size(), 1u);
}

TEST_F(ImageCopierTest, RoundsThatAFullDiskHoldsUpAreNotFlushedOneByOne) {
  Learn(0, 10);
  for (uint64_t round = 1; round <= 100; ++round) {
    store_.next_write_fails = ErrorCode::kResourceExhausted;
    EXPECT_EQ(AskToTheEnd(round).state, BackupState::kRunning);
  }
  EXPECT_EQ(checkpointer_.waiting(), 1u);
  store_.next_write_fails.reset();
  Learn(1, 20);
  checkpointer_.Start();
  runtime_.Advance(std::chrono::seconds(11));
  runtime_.Settle();
  const BackupReply last = Ask(100);
  EXPECT_EQ(last.state, BackupState::kEnded);
  ASSERT_EQ(last.files.size(), 3u);
  EXPECT_EQ(last.files[1].version, slots_[1].partition->version()) << "flushed for itself";
  EXPECT_EQ(checkpointer_.waiting(), 0u);
}

TEST_F(ImageCopierTest, APartitionThatThereIsNotIsRefused) {
  const BackupReply reply = Ask(1, {0, 4});
  EXPECT_EQ(reply.state, BackupState::kFailed);
  EXPECT_EQ(reply.code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace freshet::ps
