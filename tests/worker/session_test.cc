// SPDX-License-Identifier: Apache-2.0
#include "worker/client/session.h"

#include <gtest/gtest.h>

#include "tests/base/fake_runtime.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::worker {
namespace {

using base::ErrorCode;
using base::Result;
using protocol::Incarnation;
using protocol::LogId;
using protocol::PartitionStatus;
using protocol::RequestId;
using protocol::Span;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using transport::FakeEndpoint;
using transport::PeerId;

constexpr uint16_t kPartitions = 4;
constexpr LogId kLog{0};
const protocol::Sender kFromMaster{protocol::ClusterId(7), Incarnation()};
constexpr PeerId kMaster{1};  // in the order of the connections
constexpr PeerId kFirst{2};
constexpr PeerId kSecond{3};

// Two servers, two partitions each.
protocol::View MakeView(uint64_t number) {
  protocol::View view;
  view.number = protocol::ViewNumber(number);
  view.nodes = {{"ps-0", Incarnation(3), "tcp://a:1"}, {"ps-1", Incarnation(4), "tcp://b:1"}};
  view.places.resize(kPartitions);
  for (uint16_t p = 0; p < kPartitions; ++p) {
    view.places[p].node = p / 2;
    view.places[p].tenure = protocol::Tenure(1);
  }
  view.tables.push_back({protocol::kAuditTable, protocol::AuditTableSchema()});
  return view;
}

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    session_.on_exit = [this](int code, const std::string&) { exit_code_ = code; };
    session_.Start();
    protocol::RegisterReply reply;
    reply.cluster = kFromMaster.cluster;
    reply.incarnation = Incarnation(9);
    reply.name = "worker-0";
    reply.view = MakeView(1);
    reply.heartbeat_ms = 100;
    Answer(endpoint_.TakeOne<protocol::RegisterRequest>(), reply);
    Answer(endpoint_.TakeOne<protocol::WorkerHeartbeat>(), protocol::HeartbeatReply());
    EXPECT_EQ(endpoint_.addresses.size(), 3u);
  }

  template <class Message>
  void Answer(const FakeEndpoint::Sent& request, const Message& message) {
    session_.OnPacket(request.to,
                      protocol::EncodePacket(kFromMaster, request.envelope.request, message));
  }
  void AnswerPush(const FakeEndpoint::Sent& push, std::vector<PartitionStatus> statuses) {
    protocol::PushReply reply;
    for (const auto status : statuses) reply.statuses.push_back(static_cast<uint8_t>(status));
    Answer(push, reply);
  }
  void Push(Span span) {
    session_.Push({kLog, span, {}, {}}, [this](Result<PushResult> result) {
      ++pushes_ended_;
      pushed_ = std::move(result);
    });
  }
  FakeEndpoint::Sent NextHeartbeat() {
    runtime_.Advance(milliseconds(100));
    return endpoint_.TakeOne<protocol::WorkerHeartbeat>();
  }
  void Predict(Span span) {
    protocol::ValidationHistogram predictions;
    for (uint64_t i = 0; i < span.size(); ++i) predictions.Add(0.5f, 1.0f);
    session_.AddValidation(kLog, span, predictions);
  }
  static std::vector<Span> SpansOf(const FakeEndpoint::Sent& heartbeat) {
    std::vector<Span> spans;
    for (const auto& chunk : heartbeat.Body<protocol::WorkerHeartbeat>().validation) {
      for (const Span span : chunk.spans.spans()) spans.push_back(span);
    }
    return spans;
  }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  SessionOptions options_{.name = "worker-0", .master = "tcp://master:1"};
  Session session_{options_, runtime_.runtime(), endpoint_};
  std::optional<int> exit_code_;
  int pushes_ended_ = 0;
  std::optional<Result<PushResult>> pushed_;
};

TEST_F(SessionTest, APushGoesToEveryServerWithAllItsPartitions) {
  Push({0, 10});
  const auto sent = endpoint_.Take<protocol::PushRequest>();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].to, kFirst);
  EXPECT_EQ(sent[0].Body<protocol::PushRequest>().cover, (std::vector<uint16_t>{0, 1}));
  EXPECT_EQ(sent[1].to, kSecond);
  EXPECT_EQ(sent[1].Body<protocol::PushRequest>().cover, (std::vector<uint16_t>{2, 3}));
  AnswerPush(sent[0], {PartitionStatus::kOk, PartitionStatus::kAlreadyApplied});
  EXPECT_EQ(pushes_ended_, 0);
  AnswerPush(sent[1], {PartitionStatus::kOk, PartitionStatus::kOk});
  ASSERT_EQ(pushes_ended_, 1);
  EXPECT_EQ(**pushed_, PushResult::kApplied);
}

TEST_F(SessionTest, WhatAServerDoesNotOwnGoesToTheOwnerByTheNextView) {
  Push({0, 10});
  const auto sent = endpoint_.Take<protocol::PushRequest>();
  AnswerPush(sent[1], {PartitionStatus::kOk, PartitionStatus::kOk});
  AnswerPush(sent[0], {PartitionStatus::kOk, PartitionStatus::kNotOwner});
  const auto ask = endpoint_.TakeOne<protocol::ViewRequest>();
  auto view = MakeView(2);
  view.places[1].node = 1;
  Answer(ask, protocol::ViewReply{view});
  const auto again = endpoint_.TakeOne<protocol::PushRequest>();
  EXPECT_EQ(again.to, kSecond);
  EXPECT_EQ(again.Body<protocol::PushRequest>().cover, std::vector<uint16_t>{1});
  AnswerPush(again, {PartitionStatus::kOk});
  EXPECT_EQ(pushes_ended_, 1);
}

TEST_F(SessionTest, ARefusalThatCameBehindTheViewIsFollowedAtOnce) {
  Push({0, 10});
  const auto sent = endpoint_.Take<protocol::PushRequest>();
  auto view = MakeView(2);
  view.places[1].node = 1;
  session_.OnPacket(kMaster, protocol::EncodePacket(kFromMaster, {}, protocol::ViewReply{view}));
  AnswerPush(sent[0], {PartitionStatus::kOk, PartitionStatus::kNotOwner});
  const auto again = endpoint_.TakeOne<protocol::PushRequest>();
  EXPECT_EQ(again.to, kSecond);
  EXPECT_EQ(again.Body<protocol::PushRequest>().cover, std::vector<uint16_t>{1});
  EXPECT_TRUE(endpoint_.Take<protocol::ViewRequest>().empty());
  // An owner that has not seen the view yet is not asked again and again.
  AnswerPush(again, {PartitionStatus::kNotOwner});
  EXPECT_TRUE(endpoint_.Take<protocol::PushRequest>().empty());
}

TEST_F(SessionTest, WhatIsFrozenIsAskedForAgainSoonAndThenLessOften) {
  Push({0, 10});
  const auto sent = endpoint_.Take<protocol::PushRequest>();
  AnswerPush(sent[0], {PartitionStatus::kOk, PartitionStatus::kRetry});
  AnswerPush(sent[1], {PartitionStatus::kOk, PartitionStatus::kOk});
  int asked = 0;
  for (int step = 0; step < 200; ++step) {
    runtime_.Advance(std::chrono::microseconds(100));
    for (const auto& push : endpoint_.Take<protocol::PushRequest>()) {
      ++asked;
      AnswerPush(push, {PartitionStatus::kRetry});
    }
  }
  EXPECT_GE(asked, 4);  // in 20 ms
  EXPECT_LE(asked, 5);
}

TEST_F(SessionTest, AConflictEndsAPushAtOnce) {
  Push({0, 10});
  const auto sent = endpoint_.Take<protocol::PushRequest>();
  AnswerPush(sent[0], {PartitionStatus::kOk, PartitionStatus::kSpanConflict});
  ASSERT_EQ(pushes_ended_, 1);
  EXPECT_EQ(**pushed_, PushResult::kConflict);
  AnswerPush(sent[1], {PartitionStatus::kOk, PartitionStatus::kOk});  // too late
  EXPECT_EQ(pushes_ended_, 1);
}

TEST_F(SessionTest, AServerThatSaysNothingIsAskedAgainAndTheViewTooEveryThirdTime) {
  Push({0, 10});
  AnswerPush(endpoint_.Take<protocol::PushRequest>()[1],
             {PartitionStatus::kOk, PartitionStatus::kOk});
  size_t pushes = 0;
  for (int second = 0; second < 60; ++second) {
    runtime_.Advance(seconds(1));
    for (const auto& push : endpoint_.Take<protocol::PushRequest>()) {
      EXPECT_EQ(push.to, kFirst);
      ++pushes;
    }
  }
  // Of growing patience: at most 5 s each.
  EXPECT_GE(pushes, 10u);
  EXPECT_LE(pushes, 20u);
  EXPECT_GE(endpoint_.Take<protocol::ViewRequest>().size(), 3u);
}

TEST_F(SessionTest, AReplacedServersSuccessorIsAskedAtOnce) {
  Push({0, 10});
  endpoint_.Take<protocol::PushRequest>();
  auto view = MakeView(2);
  view.nodes[0].incarnation = Incarnation(8);
  view.nodes[0].address = "tcp://c:1";
  session_.OnPacket(kMaster,
                    protocol::EncodePacket(kFromMaster, RequestId(), protocol::ViewReply{view}));
  EXPECT_EQ(endpoint_.addresses.back(), "tcp://c:1");
  EXPECT_TRUE(endpoint_.disconnected.contains(kFirst));
  runtime_.Advance(milliseconds(20));
  const auto again = endpoint_.TakeOne<protocol::PushRequest>();
  EXPECT_EQ(again.to, PeerId(4));
}

TEST_F(SessionTest, APullThatIsAnsweredAsAPushIsAskedAgain) {
  KeyRouting routing;
  const std::vector<protocol::Key> keys = {1, 2, 3, 4, 5, 6, 7, 8};
  routing.Build(protocol::TableId(1), keys, kPartitions);
  std::vector<float> weights(keys.size(), -1.0f);
  bool done = false;
  session_.Pull({{&routing, 1, weights.data(), nullptr}}, [&](const Result<>&) { done = true; });
  for (const auto& pull : endpoint_.Take<protocol::PullRequest>()) {
    protocol::PullReply reply;
    reply.statuses.assign(pull.Body<protocol::PullRequest>().cover.size(),
                          static_cast<uint8_t>(PartitionStatus::kAlreadyApplied));
    Answer(pull, reply);
  }
  EXPECT_FALSE(done);
  runtime_.Advance(milliseconds(20));
  EXPECT_EQ(endpoint_.Take<protocol::PullRequest>().size(), 2u);
}

TEST_F(SessionTest, APushEndsAtItsDeadline) {
  Push({0, 10});
  runtime_.Advance(minutes(6));
  ASSERT_EQ(pushes_ended_, 1);
  EXPECT_EQ(pushed_->error().code, ErrorCode::kTimeout);
}

TEST_F(SessionTest, ARequestThatIsWrongInItselfEndsAtOnceWithTheServersWords) {
  Push({0, 10});
  const auto sent = endpoint_.Take<protocol::PushRequest>();
  Answer(sent[0], protocol::ErrorReply{ErrorCode::kInvalidArgument, "malformed request: its span"});
  ASSERT_EQ(pushes_ended_, 1);
  EXPECT_EQ(pushed_->error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(pushed_->error().message, "malformed request: its span");
}

TEST_F(SessionTest, ARequestThatNoEndpointWouldSendEndsAtOnce) {
  endpoint_.refuse = ErrorCode::kInvalidArgument;  // a frame beyond the limit
  Push({0, 10});
  EXPECT_EQ(pushes_ended_, 0);  // never inside the call
  runtime_.Advance(milliseconds(1));
  ASSERT_EQ(pushes_ended_, 1);
  EXPECT_EQ(pushed_->error().code, ErrorCode::kInvalidArgument);
}

TEST_F(SessionTest, PredictionsAreRepeatedAsTheyAreUntilTheMasterHasThem) {
  Predict({0, 10});
  const auto first = NextHeartbeat();
  EXPECT_EQ(SpansOf(first), (std::vector<Span>{{0, 10}}));
  Predict({10, 20});
  // Not merged with what may have been counted already.
  EXPECT_EQ(SpansOf(NextHeartbeat()), (std::vector<Span>{{0, 10}, {10, 20}}));
  EXPECT_FALSE(session_.validation_flushed());
  // The answer to the first comes after the second was sent, and says nothing about the second.
  Answer(first, protocol::HeartbeatReply());
  const auto third = NextHeartbeat();
  EXPECT_EQ(SpansOf(third), (std::vector<Span>{{10, 20}}));
  Answer(third, protocol::HeartbeatReply());
  EXPECT_TRUE(session_.validation_flushed());
  EXPECT_TRUE(SpansOf(NextHeartbeat()).empty());
}

TEST_F(SessionTest, PredictionsThatNobodyTakesDoNotPileUpInHeartbeats) {
  for (uint64_t i = 0; i < 50; ++i) {
    Predict({i * 10, i * 10 + 10});
    NextHeartbeat();
  }
  EXPECT_EQ(NextHeartbeat().Body<protocol::WorkerHeartbeat>().validation.size(), 4u);
}

TEST_F(SessionTest, TheMasterHearsOfPredictionsBeforeTheEndOfTheirLease) {
  Predict({0, 10});
  session_.RequestLease({protocol::LeaseId(1), protocol::LeaseEnd::kFinished, true},
                        [](const protocol::LeaseReply&) {});
  ASSERT_EQ(endpoint_.sent.size(), 2u);
  EXPECT_EQ(SpansOf(endpoint_.sent[0]), (std::vector<Span>{{0, 10}}));
  EXPECT_EQ(endpoint_.sent[1].envelope.type, protocol::MessageType::kLeaseRequest);
}

TEST_F(SessionTest, ALeaseIsAskedForUntilThereIsAnAnswer) {
  int answers = 0;
  session_.RequestLease({}, [&](const protocol::LeaseReply&) { ++answers; });
  runtime_.Advance(minutes(2));
  const auto asked = endpoint_.Take<protocol::LeaseRequest>();
  ASSERT_GT(asked.size(), 30u);
  EXPECT_EQ(asked.front().Body<protocol::LeaseRequest>().sequence,
            asked.back().Body<protocol::LeaseRequest>().sequence);
  protocol::LeaseReply reply;
  reply.sequence = asked.back().Body<protocol::LeaseRequest>().sequence;
  reply.view = MakeView(1);
  Answer(asked.back(), reply);
  Answer(asked.back(), reply);
  EXPECT_EQ(answers, 1);
}

TEST_F(SessionTest, AMasterThatKnowsItNoMoreEndsIt) {
  Answer(NextHeartbeat(), protocol::ErrorReply{ErrorCode::kConflict, "another process"});
  EXPECT_EQ(exit_code_, base::ExitCodeFor(ErrorCode::kConflict));
}

TEST(SessionRegistration, AViewThatCannotBeUsedEndsIt) {
  base::FakeRuntime runtime;
  FakeEndpoint endpoint;
  Session session({.master = "tcp://master:1"}, runtime.runtime(), endpoint);
  std::optional<int> exit_code;
  session.on_exit = [&](int code, const std::string&) { exit_code = code; };
  session.on_registered = [](const protocol::RegisterReply&) { FAIL(); };
  session.Start();
  const auto request = endpoint.TakeOne<protocol::RegisterRequest>();
  protocol::RegisterReply reply;
  reply.cluster = kFromMaster.cluster;
  reply.incarnation = Incarnation(9);
  reply.view = MakeView(1);
  reply.view.places[0].node = 77;
  session.OnPacket(kMaster, protocol::EncodePacket(kFromMaster, request.envelope.request, reply));
  EXPECT_EQ(exit_code, 1);
}

}  // namespace
}  // namespace freshet::worker
