// SPDX-License-Identifier: Apache-2.0
#include "worker/worker_node.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/base/fake_runtime.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::worker {
namespace {

using base::ErrorCode;
using protocol::Incarnation;
using protocol::LeaseEnd;
using protocol::LogId;
using protocol::Offset;
using protocol::Span;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::FakeEndpoint;

constexpr LogId kLog{0};
const protocol::Sender kFromMaster{protocol::ClusterId(7), Incarnation()};

// Every tenth record cannot be parsed.
class FakeLog final : public stream::LogReader {
 public:
  explicit FakeLog(const Offset& visible) : visible_(visible) {}
  uint32_t dense_count() const override { return 0; }
  uint32_t sparse_count() const override { return 1; }
  Offset end() const override { return 1000; }
  base::Result<> Read(Span span, stream::RecordBatch& out) override {
    out.Clear();
    if (span.end > visible_) return base::Fail(ErrorCode::kUnavailable, "not there yet");
    out.span = span;
    out.sparse_count = 1;
    for (Offset offset = span.begin; offset < span.end; ++offset) {
      if (offset % 10 == 3) {
        out.dead.push_back({offset, "broken", "?"});
        continue;
      }
      ++out.rows;
      out.offsets.push_back(offset);
      out.labels.push_back(static_cast<float>(offset % 2));
      out.sparse.push_back(offset);
      out.timestamps.push_back(0);
    }
    return {};
  }

 private:
  const Offset& visible_;
};

class FakeOpener final : public LogOpener {
 public:
  bool fails = false;
  Offset visible = 1000;  // records that this host sees yet
  base::Result<std::unique_ptr<stream::LogReader>> Open(const protocol::LogSpec&) override {
    if (fails) return base::Fail(ErrorCode::kNotFound, "no such file: clicks.tsv");
    return std::unique_ptr<stream::LogReader>(std::make_unique<FakeLog>(visible));
  }
};

class FakeDeadLetters final : public DeadLetterSink {
 public:
  std::vector<Offset> offsets;
  void Add(const protocol::LogSpec&, const std::vector<stream::DeadRecord>& dead) override {
    for (const auto& record : dead) offsets.push_back(record.offset);
  }
};

// The test is master and server: it answers what the worker asks.
class WorkerNodeTest : public ::testing::Test {
 protected:
  WorkerNodeTest() {
    view_.number = protocol::ViewNumber(1);
    view_.nodes = {{"ps-0", Incarnation(3), "tcp://a:1"}};
    view_.places.resize(2);
    for (auto& place : view_.places) place = {0, protocol::Tenure(1), {}, protocol::kNoNode};
    view_.tables.push_back({protocol::kAuditTable, protocol::AuditTableSchema()});
  }

  template <class Message>
  void Answer(const FakeEndpoint::Sent& request, const Message& message,
              std::vector<protocol::Buffer> arrays = {}) {
    session_.OnPacket(request.to, protocol::EncodePacket(kFromMaster, request.envelope.request,
                                                         message, std::move(arrays)));
  }
  void Register() {
    node_.Start();
    protocol::RegisterReply reply;
    reply.cluster = kFromMaster.cluster;
    reply.incarnation = Incarnation(9);
    reply.view = view_;
    reply.job.model = "lr";
    reply.job.logs = {{kLog, "train", "clicks.tsv", "criteo", 1, protocol::LogPurpose::kTrain}};
    reply.job.batch_size = 20;
    reply.heartbeat_ms = 100;
    Answer(endpoint_.TakeOne<protocol::RegisterRequest>(), reply);
    runtime_.Settle();
  }
  void DeclareTables() {
    const auto request = endpoint_.TakeOne<protocol::DeclareTablesRequest>();
    for (const auto& schema : request.Body<protocol::DeclareTablesRequest>().tables) {
      view_.tables.push_back(
          {protocol::TableId(static_cast<uint16_t>(view_.tables.size())), schema});
    }
    view_.number = view_.number.Next();
    Answer(request, protocol::DeclareTablesReply{view_});
  }
  protocol::LeaseRequest AnswerLease(protocol::LeaseAnswer answer, Span span = {}) {
    const auto request = endpoint_.TakeOne<protocol::LeaseRequest>();
    const auto body = request.Body<protocol::LeaseRequest>();
    protocol::LeaseReply reply;
    reply.sequence = body.sequence;
    reply.answer = answer;
    reply.lease = {protocol::LeaseId(1), kLog, span, {}};
    reply.wait_ms = 50;
    reply.view = view_;
    Answer(request, reply);
    runtime_.Settle();
    return body;
  }
  void AnswerPulls(float weight = 0) {
    for (const auto& pull : endpoint_.Take<protocol::PullRequest>()) {
      const auto body = pull.Body<protocol::PullRequest>();
      protocol::PullReply reply;
      reply.statuses.assign(body.cover.size(), 1);
      std::vector<protocol::Buffer> values;
      for (const auto& table : body.tables) {
        const uint32_t dim = view_.tables[table.table.value()].schema.dim;
        const std::vector<float> weights(table.rows * dim, weight);
        values.push_back(protocol::Buffer::Copy(std::as_bytes(std::span(weights))));
      }
      Answer(pull, reply, std::move(values));
    }
    runtime_.Settle();
  }
  void AnswerPushes() {
    for (const auto& push : endpoint_.Take<protocol::PushRequest>()) {
      protocol::PushReply reply;
      reply.statuses.assign(push.Body<protocol::PushRequest>().cover.size(), 1);
      Answer(push, reply);
    }
    runtime_.Settle();
  }
  void AnswerHeartbeats() {
    for (const auto& heartbeat : endpoint_.Take<protocol::WorkerHeartbeat>()) {
      for (const auto& chunk : heartbeat.Body<protocol::WorkerHeartbeat>().validation) {
        for (const Span span : chunk.spans.spans()) predicted_.Add(span);
      }
      Answer(heartbeat, protocol::HeartbeatReply());
    }
  }
  void Drain() {
    node_.Drain([this] { ++left_; });
  }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  protocol::View view_;
  FakeOpener opener_;
  FakeDeadLetters dead_;
  Session session_{{.name = "worker-0", .master = "tcp://master:1"}, runtime_.runtime(), endpoint_};
  WorkerNode node_{runtime_.runtime(), session_, opener_, dead_};
  protocol::SpanSet predicted_;
  int left_ = 0;
};

TEST_F(WorkerNodeTest, LearnsALeaseToItsEndAndAsksForTheNext) {
  Register();
  DeclareTables();
  EXPECT_EQ(AnswerLease(protocol::LeaseAnswer::kLease, {0, 40}).how, LeaseEnd::kNone);
  std::vector<Span> pushed;
  for (int batch = 0; batch < 2; ++batch) {
    AnswerPulls();
    for (const auto& push : endpoint_.sent) {
      if (push.envelope.type != protocol::MessageType::kPushRequest) continue;
      pushed.push_back(push.Body<protocol::PushRequest>().span);
    }
    AnswerPushes();
  }
  EXPECT_EQ(pushed, (std::vector<Span>{{0, 20}, {20, 40}}));
  EXPECT_EQ(dead_.offsets, (std::vector<Offset>{3, 13, 23, 33}));
  AnswerHeartbeats();
  EXPECT_EQ(predicted_, (protocol::SpanSet{{0, 40}}));
  const auto ended = AnswerLease(protocol::LeaseAnswer::kWait);
  EXPECT_EQ(ended.how, LeaseEnd::kFinished);
  EXPECT_TRUE(ended.wants_more);
}

TEST_F(WorkerNodeTest, DeadRecordsAreWrittenBeforeTheirSpanCanCount) {
  Register();
  DeclareTables();
  AnswerLease(protocol::LeaseAnswer::kLease, {0, 20});
  AnswerPulls();
  ASSERT_EQ(endpoint_.Take<protocol::PushRequest>().size(), 1u);  // on its way
  EXPECT_EQ(dead_.offsets, (std::vector<Offset>{3, 13}));
}

TEST_F(WorkerNodeTest, ADrainFinishesTheBatchGivesTheLeaseBackAndHandsInPredictions) {
  Register();
  DeclareTables();
  AnswerLease(protocol::LeaseAnswer::kLease, {0, 400});
  AnswerPulls();
  Drain();
  EXPECT_EQ(left_, 0);
  AnswerPushes();
  AnswerPulls();  // what was read ahead is dropped
  EXPECT_TRUE(endpoint_.Take<protocol::PushRequest>().empty());
  const auto ended = AnswerLease(protocol::LeaseAnswer::kWait);
  EXPECT_EQ(ended.how, LeaseEnd::kGivenBack);
  EXPECT_FALSE(ended.wants_more);
  EXPECT_EQ(left_, 0);  // the master does not have the predictions yet
  AnswerHeartbeats();
  runtime_.Advance(milliseconds(5));
  EXPECT_EQ(left_, 1);
  EXPECT_EQ(predicted_, (protocol::SpanSet{{0, 20}}));
}

TEST_F(WorkerNodeTest, ADrainEndsAlsoWhenNobodyAnswers) {
  Register();
  DeclareTables();
  AnswerLease(protocol::LeaseAnswer::kLease, {0, 400});
  Drain();
  runtime_.Advance(seconds(29));
  EXPECT_EQ(left_, 0);
  runtime_.Advance(seconds(2));
  EXPECT_EQ(left_, 1);
  runtime_.Advance(seconds(100));
  EXPECT_EQ(left_, 1);
}

TEST_F(WorkerNodeTest, AWorkerThatCannotDoTheJobSaysWhyAndCanBeDrained) {
  opener_.fails = true;
  Register();
  const auto heartbeats = endpoint_.Take<protocol::WorkerHeartbeat>();
  ASSERT_FALSE(heartbeats.empty());
  EXPECT_EQ(heartbeats.back().Body<protocol::WorkerHeartbeat>().fatal, "no such file: clicks.tsv");
  Drain();
  EXPECT_EQ(left_, 1);
}

TEST_F(WorkerNodeTest, APushThatCanNeverWorkFailsTheJobInsteadOfBeingTriedForEver) {
  Register();
  DeclareTables();
  AnswerLease(protocol::LeaseAnswer::kLease, {0, 20});
  AnswerPulls();
  Answer(endpoint_.TakeOne<protocol::PushRequest>(),
         protocol::ErrorReply{ErrorCode::kInvalidArgument, "malformed request: its span"});
  EXPECT_EQ(
      endpoint_.Take<protocol::WorkerHeartbeat>().back().Body<protocol::WorkerHeartbeat>().fatal,
      "malformed request: its span");
}

TEST_F(WorkerNodeTest, AModelThatDivergedIsNotPushed) {
  Register();
  DeclareTables();
  AnswerLease(protocol::LeaseAnswer::kLease, {0, 20});
  AnswerPulls(std::numeric_limits<float>::infinity());
  EXPECT_TRUE(endpoint_.Take<protocol::PushRequest>().empty());
  EXPECT_EQ(
      endpoint_.Take<protocol::WorkerHeartbeat>().back().Body<protocol::WorkerHeartbeat>().fatal,
      "the model diverged (a prediction is not a finite number) at log train offset 0: lower "
      "learning_rate");
}

TEST(BatchTest, SaysWhatOfItIsNoNumber) {
  Batch batch;
  batch.logits = {1, -1e38f};
  batch.gradients = {{1, 2}, std::vector<float>(100, 3)};
  EXPECT_EQ(batch.NotFinite(), nullptr);
  batch.gradients[1][99] = -std::numeric_limits<float>::infinity();
  EXPECT_STREQ(batch.NotFinite(), "gradient");
  batch.gradients[1][99] = std::nanf("");
  EXPECT_STREQ(batch.NotFinite(), "gradient");
  batch.logits[0] = std::nanf("");
  EXPECT_STREQ(batch.NotFinite(), "prediction");
}

TEST_F(WorkerNodeTest, AConflictGivesTheLeaseBack) {
  Register();
  DeclareTables();
  AnswerLease(protocol::LeaseAnswer::kLease, {0, 400});
  AnswerPulls();
  protocol::PushReply reply;
  reply.statuses = {1, static_cast<uint8_t>(protocol::PartitionStatus::kSpanConflict)};
  Answer(endpoint_.TakeOne<protocol::PushRequest>(), reply);
  runtime_.Settle();
  const auto ended = AnswerLease(protocol::LeaseAnswer::kWait);
  EXPECT_EQ(ended.how, LeaseEnd::kGivenBack);
  EXPECT_TRUE(ended.wants_more);
}

TEST_F(WorkerNodeTest, RecordsThatThisHostDoesNotSeeYetGiveTheLeaseBack) {
  opener_.visible = 20;
  Register();
  DeclareTables();
  AnswerLease(protocol::LeaseAnswer::kLease, {0, 60});
  AnswerPulls();
  AnswerPushes();
  EXPECT_EQ(AnswerLease(protocol::LeaseAnswer::kWait).how, LeaseEnd::kGivenBack);
  for (const auto& heartbeat : endpoint_.Take<protocol::WorkerHeartbeat>()) {
    EXPECT_EQ(heartbeat.Body<protocol::WorkerHeartbeat>().fatal, "");
  }
}

}  // namespace
}  // namespace freshet::worker
