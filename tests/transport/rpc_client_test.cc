// SPDX-License-Identifier: Apache-2.0
#include "transport/rpc_client.h"

#include <gtest/gtest.h>

#include "protocol/messages.h"
#include "tests/base/fake_runtime.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::transport {
namespace {

using base::ErrorCode;
using base::Result;
using protocol::Packet;
using protocol::RequestId;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr PeerId kPeer{1};
const protocol::Sender kSelf{protocol::ClusterId(7), protocol::Incarnation(3)};
constexpr CallOptions kOptions{
    .deadline = seconds(5), .attempt = milliseconds(100), .max_attempt = seconds(1)};

class RpcClientTest : public ::testing::Test {
 protected:
  RequestId Ask(const CallOptions& options = kOptions) {
    return rpc_.Call(kPeer, kSelf, protocol::ViewRequest(), {}, options,
                     [this](Result<Packet> result) { results_.push_back(std::move(result)); });
  }
  std::vector<FakeEndpoint::Sent> Sent() { return endpoint_.Take<protocol::ViewRequest>(); }
  bool Answer(RequestId request, const auto& message, PeerId from = kPeer) {
    Packet packet = protocol::EncodePacket(kSelf, request, message);
    const auto envelope = protocol::DecodeEnvelope(packet);
    return rpc_.OnReply(from, *envelope, packet);
  }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  RpcClient rpc_{endpoint_, runtime_.runtime(), 3};
  std::vector<Result<Packet>> results_;
};

TEST_F(RpcClientTest, TheReplyEndsTheCallOnce) {
  const RequestId request = Ask();
  EXPECT_TRUE(results_.empty());
  EXPECT_TRUE(Answer(request, protocol::ViewReply()));
  EXPECT_FALSE(Answer(request, protocol::ViewReply()));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_TRUE(results_[0].has_value());
  runtime_.Advance(seconds(10));
  EXPECT_EQ(Sent().size(), 1u);
}

TEST_F(RpcClientTest, OnlyThePeerThatWasAskedLastAnswers) {
  constexpr PeerId kOther{2};
  const RequestId request = Ask();
  EXPECT_FALSE(Answer(request, protocol::ViewReply(), kOther));
  EXPECT_FALSE(Answer(request, protocol::ErrorReply{ErrorCode::kFailed, "says who"}, kOther));
  EXPECT_TRUE(results_.empty());
  rpc_.Redirect(kPeer, kOther);
  EXPECT_FALSE(Answer(request, protocol::ViewReply(), kPeer));
  EXPECT_TRUE(Answer(request, protocol::ViewReply(), kOther));
  EXPECT_EQ(results_.size(), 1u);
}

TEST_F(RpcClientTest, RepeatsUnderTheSameIdWithGrowingWaitsUntilTheDeadline) {
  const RequestId request = Ask();
  std::vector<int64_t> at_ms;
  for (int64_t ms = 0; ms <= 6000; ms += 10) {
    for (const auto& sent : Sent()) {
      EXPECT_EQ(sent.envelope.request, request);
      at_ms.push_back(ms);
    }
    if (!results_.empty()) break;
    runtime_.Advance(milliseconds(10));
  }
  EXPECT_EQ(at_ms, (std::vector<int64_t>{0, 100, 300, 700, 1500, 2500, 3500, 4500}));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].error().code, ErrorCode::kTimeout);
  EXPECT_FALSE(Answer(request, protocol::ViewReply()));
}

TEST_F(RpcClientTest, AFullPipeIsTriedAgainSoonerThanALostPacket) {
  endpoint_.refuse = ErrorCode::kUnavailable;
  Ask();
  runtime_.Advance(milliseconds(50));
  endpoint_.refuse.reset();
  runtime_.Advance(milliseconds(10));
  EXPECT_EQ(Sent().size(), 1u);
  EXPECT_TRUE(results_.empty());
}

TEST_F(RpcClientTest, AnErrorReplyIsTheCallsError) {
  const RequestId request = Ask();
  EXPECT_TRUE(Answer(request, protocol::ErrorReply{ErrorCode::kConflict, "taken"}));
  EXPECT_EQ(results_.at(0).error().code, ErrorCode::kConflict);
  EXPECT_EQ(results_.at(0).error().message, "taken");
}

TEST_F(RpcClientTest, APacketThatNoEndpointWouldSendEndsTheCallButNotInsideIt) {
  endpoint_.refuse = ErrorCode::kInvalidArgument;
  Ask();
  EXPECT_TRUE(results_.empty());
  runtime_.Advance(milliseconds(0));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(rpc_.in_flight(), 0u);
}

TEST_F(RpcClientTest, TooManyAtOnceAreRefusedAndTheOthersGoOn) {
  const RequestId first = Ask();
  for (int i = 0; i < 3; ++i) Ask();
  runtime_.Advance(milliseconds(0));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(Sent().size(), 3u);
  EXPECT_TRUE(Answer(first, protocol::ViewReply()));
}

TEST_F(RpcClientTest, ACancelledCallSaysNothingMore) {
  const RequestId request = Ask();
  rpc_.Cancel(request);
  rpc_.Cancel(request);
  EXPECT_FALSE(Answer(request, protocol::ViewReply()));
  runtime_.Advance(seconds(10));
  EXPECT_TRUE(results_.empty());
  EXPECT_EQ(Sent().size(), 1u);
}

TEST_F(RpcClientTest, ADestroyedClientSaysNothingMore) {
  int results = 0;
  {
    RpcClient rpc(endpoint_, runtime_.runtime(), 3);
    rpc.Call(kPeer, kSelf, protocol::ViewRequest(), {}, kOptions,
             [&](const Result<Packet>&) { ++results; });
  }
  runtime_.Advance(seconds(10));
  EXPECT_EQ(results, 0);
}

TEST_F(RpcClientTest, WhatWaitsForAPeerIsAskedAtOnceWhereItIsNow) {
  const RequestId request = Ask();
  runtime_.Advance(milliseconds(350));
  Sent();
  rpc_.Redirect(kPeer, PeerId(9));
  runtime_.Advance(milliseconds(0));
  const auto sent = Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].to, PeerId(9));
  EXPECT_EQ(sent[0].envelope.request, request);
  EXPECT_TRUE(Answer(request, protocol::ViewReply(), PeerId(9)));
}

TEST_F(RpcClientTest, WhatWaitsForAPeerThatIsGoneEndsButNotInsideTheCall) {
  Ask();
  rpc_.GiveUp(PeerId(2), {ErrorCode::kUnavailable, "another one"});
  rpc_.GiveUp(kPeer, {ErrorCode::kUnavailable, "gone"});
  EXPECT_TRUE(results_.empty());
  runtime_.Advance(milliseconds(0));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].error().message, "gone");
}

TEST_F(RpcClientTest, OfWhatIsSaidAgainAndAgainOnlyTheOldestIsGivenUp) {
  RpcClient rpc(endpoint_, runtime_.runtime(), 16);
  CallWindow window(rpc);
  std::vector<int> answered;
  std::vector<RequestId> requests;
  for (int i = 0; i < 10; ++i) {
    requests.push_back(rpc.Call(kPeer, kSelf, protocol::ViewRequest(), {}, kOptions,
                                [&answered, i](const Result<Packet>&) { answered.push_back(i); }));
    window.Add(requests.back());
  }
  for (const RequestId request : requests) {
    Packet packet = protocol::EncodePacket(kSelf, request, protocol::ViewReply());
    rpc.OnReply(kPeer, *protocol::DecodeEnvelope(packet), packet);
  }
  EXPECT_EQ(answered, (std::vector<int>{2, 3, 4, 5, 6, 7, 8, 9}));
}

}  // namespace
}  // namespace freshet::transport
