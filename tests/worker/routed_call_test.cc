// SPDX-License-Identifier: Apache-2.0
#include "worker/client/routed_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace freshet::worker {
namespace {

using base::ErrorCode;
using base::Fail;
using protocol::Buffer;
using protocol::Key;
using protocol::LogId;
using protocol::Packet;
using protocol::PartitionStatus;
using protocol::RequestId;
using protocol::Span;
using protocol::TableId;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint32_t kPartitions = 6;
constexpr uint32_t kDim = 2;
constexpr TableId kTable{1};

std::vector<uint8_t> Codes(const std::vector<PartitionStatus>& statuses) {
  std::vector<uint8_t> codes;
  for (const PartitionStatus status : statuses) codes.push_back(static_cast<uint8_t>(status));
  return codes;
}

Packet PushReplied(const std::vector<PartitionStatus>& statuses) {
  return protocol::EncodePacket({}, RequestId(1), protocol::PushReply{{}, Codes(statuses)});
}

class RoutedCallTest : public ::testing::Test {
 protected:
  RoutedCallTest() : keys_(20), out_(keys_.size() * kDim), gradients_(keys_.size() * kDim) {
    std::iota(keys_.begin(), keys_.end(), Key{100});
    std::iota(gradients_.begin(), gradients_.end(), 0.5f);
    routing_.Build(kTable, keys_, kPartitions);
  }

  RoutedCall Pull() {
    return RoutedCall::Pull({{&routing_, kDim, out_.data(), nullptr}}, kPartitions);
  }
  RoutedCall Push() {
    return RoutedCall::Push(LogId(3), {10, 20}, {{&routing_, kDim, nullptr, gradients_.data()}},
                            kPartitions);
  }
  size_t Rows(uint16_t partition) const {
    return routing_.begin(partition + 1u) - routing_.begin(partition);
  }
  // What a server sends back: the value of key k is {k, -k}; zero without kOk.
  Packet PullReplied(const std::vector<uint16_t>& cover,
                     const std::vector<PartitionStatus>& statuses) const {
    std::vector<float> values;
    for (size_t c = 0; c < cover.size(); ++c) {
      for (uint32_t i = routing_.begin(cover[c]); i < routing_.begin(cover[c] + 1u); ++i) {
        const bool ok = statuses[c] == PartitionStatus::kOk;
        const auto value = ok ? static_cast<float>(routing_.keys()[i]) : 0.0f;
        values.insert(values.end(), {value, -value});
      }
    }
    const auto bytes = std::as_bytes(std::span(values));
    return protocol::EncodePacket({}, RequestId(1), protocol::PullReply{{}, Codes(statuses)},
                                  {Buffer::Copy(bytes)});
  }
  void ExpectAllPulled() const {
    for (size_t i = 0; i < keys_.size(); ++i) {
      EXPECT_EQ(out_[i * kDim], static_cast<float>(keys_[i]));
      EXPECT_EQ(out_[i * kDim + 1], -static_cast<float>(keys_[i]));
    }
  }

  protocol::BufferPool pool_;
  std::vector<Key> keys_;
  std::vector<float> out_;
  std::vector<float> gradients_;
  KeyRouting routing_;
};

TEST_F(RoutedCallTest, APullAsksOnlyPartitionsThatHaveKeys) {
  const std::vector<Key> one = {7};
  KeyRouting routing;
  routing.Build(kTable, one, kPartitions);
  const auto home = protocol::PartitionOf(kTable, 7, kPartitions).value();
  EXPECT_THAT(RoutedCall::Pull({{&routing, kDim, out_.data(), nullptr}}, kPartitions).Waiting(),
              ElementsAre(home));
  EXPECT_TRUE(RoutedCall::Pull({}, kPartitions).finished());
}

// Rule G4: a partition without rows must learn that the span is over, too.
TEST_F(RoutedCallTest, APushCoversEveryPartitionEvenWithoutRows) {
  EXPECT_THAT(RoutedCall::Push(LogId(1), {0, 1}, {}, kPartitions).Waiting(),
              ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(RoutedCallTest, ARequestHoldsTheRowsOfItsPartitionsInOrder) {
  RoutedCall call = Push();
  const auto request = call.Prepare({1, 4}, pool_);
  EXPECT_THAT(request.cover, ElementsAre(1, 4));
  EXPECT_THAT(call.Waiting(), ElementsAre(0, 2, 3, 5));
  EXPECT_FALSE(call.finished());
  ASSERT_EQ(request.arrays.size(), 3u);
  const auto counts = request.arrays[0].As<uint32_t>();
  EXPECT_THAT(counts, ElementsAre(Rows(1), Rows(4)));
  const auto keys = request.arrays[1].As<Key>();
  const auto gradients = request.arrays[2].As<float>();
  ASSERT_EQ(keys.size(), Rows(1) + Rows(4));
  ASSERT_EQ(gradients.size(), keys.size() * kDim);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto p = protocol::PartitionOf(kTable, keys[i], kPartitions).value();
    EXPECT_EQ(p, i < Rows(1) ? 1 : 4);
    const size_t at = keys[i] - 100;
    EXPECT_EQ(gradients[i * kDim], gradients_[at * kDim]);
    EXPECT_EQ(gradients[i * kDim + 1], gradients_[at * kDim + 1]);
  }
  const auto body = call.PushBody(request);
  EXPECT_EQ(body.log, LogId(3));
  EXPECT_EQ(body.span, (Span{10, 20}));
  EXPECT_THAT(body.cover, ElementsAre(1, 4));
  ASSERT_EQ(body.tables.size(), 1u);
  EXPECT_EQ(body.tables[0].table, kTable);
  EXPECT_EQ(body.tables[0].rows, keys.size());
}

TEST_F(RoutedCallTest, PulledRowsGoWhereTheirKeysStood) {
  RoutedCall call = Pull();
  const std::vector<uint16_t> first = {0, 2, 4};
  const std::vector<uint16_t> second = {1, 3, 5};
  call.Prepare(first, pool_);
  call.Prepare(second, pool_);
  const std::vector<PartitionStatus> ok(3, PartitionStatus::kOk);
  EXPECT_TRUE(call.OnReply(second, PullReplied(second, ok)).progress);
  EXPECT_FALSE(call.finished());
  call.OnReply(first, PullReplied(first, ok));
  EXPECT_TRUE(call.finished());
  ExpectAllPulled();
}

TEST_F(RoutedCallTest, PartitionsThatCouldNotAnswerAreAskedAgain) {
  RoutedCall call = Pull();
  const std::vector<uint16_t> all = {0, 1, 2, 3, 4, 5};
  call.Prepare(all, pool_);
  const auto verdict = call.OnReply(
      all,
      PullReplied(all, {PartitionStatus::kOk, PartitionStatus::kRetry, PartitionStatus::kOk,
                        PartitionStatus::kNotOwner, PartitionStatus::kOk, PartitionStatus::kOk}));
  EXPECT_TRUE(verdict.progress);
  EXPECT_TRUE(verdict.wrong_owner);
  EXPECT_THAT(call.Waiting(), ElementsAre(1, 3));
  call.Prepare({1, 3}, pool_);
  const std::vector<uint16_t> rest = {1, 3};
  call.OnReply(rest, PullReplied(rest, {PartitionStatus::kOk, PartitionStatus::kOk}));
  EXPECT_TRUE(call.finished());
  ExpectAllPulled();
}

// A server that has not heard of the tables yet answers without values.
TEST_F(RoutedCallTest, AReplyWithoutValuesIsNotReadForThem) {
  RoutedCall call = Pull();
  const std::vector<uint16_t> all = {0, 1, 2, 3, 4, 5};
  call.Prepare(all, pool_);
  const std::vector<PartitionStatus> unknown(6, PartitionStatus::kUnknownTable);
  const Packet reply =
      protocol::EncodePacket({}, RequestId(1), protocol::PullReply{{}, Codes(unknown)});
  EXPECT_FALSE(call.OnReply(all, reply).progress);
  EXPECT_EQ(call.Waiting(), all);
}

TEST_F(RoutedCallTest, RepliesThatDoNotFitChangeNothing) {
  const std::vector<uint16_t> all = {0, 1, 2, 3, 4, 5};
  const std::vector<PartitionStatus> ok(6, PartitionStatus::kOk);
  Packet no_values = protocol::EncodePacket({}, RequestId(1), protocol::PullReply{{}, Codes(ok)});
  Packet short_values = PullReplied(all, ok);
  short_values.frames[2] = Buffer::Copy(short_values.frames[2].bytes().first(8));
  Packet too_few = protocol::EncodePacket({}, RequestId(1),
                                          protocol::PullReply{{}, Codes({PartitionStatus::kOk})},
                                          {PullReplied(all, ok).frames[2]});
  Packet another_type = PushReplied(ok);
  Packet damaged = PullReplied(all, ok);
  damaged.frames[1] = Buffer::Copy("x");
  for (const Packet& packet : {no_values, short_values, too_few, another_type, damaged}) {
    RoutedCall call = Pull();
    call.Prepare(all, pool_);
    std::fill(out_.begin(), out_.end(), 77.0f);
    EXPECT_FALSE(call.OnReply(all, packet).progress);
    EXPECT_EQ(call.Waiting(), all);
    EXPECT_THAT(out_, ::testing::Each(77.0f));
  }
}

TEST_F(RoutedCallTest, AnErrorPutsEverythingBackInOrder) {
  RoutedCall call = Push();
  call.Prepare({0, 3, 5}, pool_);
  call.Prepare({2, 4}, pool_);
  const auto verdict = call.OnReply({0, 3, 5}, Fail(ErrorCode::kTimeout, "no answer"));
  EXPECT_FALSE(verdict.progress);
  EXPECT_FALSE(verdict.wrong_owner);
  EXPECT_THAT(call.Waiting(), ElementsAre(0, 1, 3, 5));
  EXPECT_FALSE(call.finished());
}

TEST_F(RoutedCallTest, APushIsAppliedWhenAnyPartitionAppliedItNow) {
  const std::vector<uint16_t> all = {0, 1, 2, 3, 4, 5};
  RoutedCall call = Push();
  call.Prepare(all, pool_);
  std::vector<PartitionStatus> statuses(6, PartitionStatus::kAlreadyApplied);
  call.OnReply(all, PushReplied(statuses));
  EXPECT_TRUE(call.finished());
  EXPECT_EQ(call.push_result(), PushResult::kAlreadyApplied);

  RoutedCall other = Push();
  other.Prepare(all, pool_);
  statuses[3] = PartitionStatus::kOk;
  other.OnReply(all, PushReplied(statuses));
  EXPECT_EQ(other.push_result(), PushResult::kApplied);
}

TEST_F(RoutedCallTest, OneConflictIsAConflict) {
  const std::vector<uint16_t> all = {0, 1, 2, 3, 4, 5};
  RoutedCall call = Push();
  call.Prepare(all, pool_);
  std::vector<PartitionStatus> statuses(6, PartitionStatus::kOk);
  statuses[2] = PartitionStatus::kSpanConflict;
  call.OnReply(all, PushReplied(statuses));
  EXPECT_TRUE(call.conflict());
  EXPECT_EQ(call.push_result(), PushResult::kConflict);
}

TEST_F(RoutedCallTest, MemoryAndLoadingAreAskedAgainLater) {
  const std::vector<uint16_t> all = {0, 1, 2, 3, 4, 5};
  RoutedCall call = Push();
  call.Prepare(all, pool_);
  const auto verdict = call.OnReply(
      all, PushReplied({PartitionStatus::kOutOfMemory, PartitionStatus::kRetry,
                        PartitionStatus::kUnknownTable, static_cast<PartitionStatus>(99),
                        PartitionStatus::kOutOfMemory, PartitionStatus::kRetry}));
  EXPECT_FALSE(verdict.progress);
  EXPECT_FALSE(verdict.wrong_owner);
  EXPECT_EQ(call.Waiting(), all);
}

}  // namespace
}  // namespace freshet::worker
