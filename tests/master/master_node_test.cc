// SPDX-License-Identifier: Apache-2.0
#include "master/master_node.h"

#include <gtest/gtest.h>

#include "tests/base/fake_runtime.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::master {
namespace {

using base::ErrorCode;
using protocol::Incarnation;
using protocol::LeaseAnswer;
using protocol::LogId;
using protocol::PartitionId;
using protocol::RequestId;
using protocol::Role;
using protocol::Span;
using protocol::Tenure;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::FakeEndpoint;
using transport::PeerId;

constexpr uint16_t kPartitions = 4;
constexpr uint64_t kRecords = 100;
constexpr LogId kLog{0};
constexpr PeerId kPs{50};
constexpr PeerId kWorker{60};
constexpr PeerId kOther{70};

class MemoryStateStore final : public StateStore {
 public:
  std::optional<protocol::Buffer> state;
  int saves = 0;
  bool fails = false;
  base::Result<std::optional<protocol::Buffer>> Load() override { return state; }
  base::Result<> Save(const protocol::Buffer& bytes) override {
    if (fails) return base::Fail(ErrorCode::kIo, "as the test says");
    ++saves;
    state = bytes;
    return {};
  }
};

class FixedProbe final : public LogProbe {
 public:
  base::Result<protocol::Offset> SyncedEnd(const protocol::LogSpec&) override { return kRecords; }
};

class MasterNodeTest : public ::testing::Test {
 protected:
  MasterNodeTest() {
    MasterOptions options;
    options.partitions = kPartitions;
    options.job.batch_size = 10;
    options.job.logs = {{kLog, "train", "clicks.tsv", "criteo", 1, protocol::LogPurpose::kTrain}};
    node_ = std::make_unique<MasterNode>(
        options, runtime_.runtime(), endpoint_, store_, launcher_, probe_,
        [this](int code, const std::string&) { exit_code_ = code; });
    node_->Start();
    runtime_.Settle();
  }

  template <class Message>
  void Send(PeerId from, Incarnation sender, const Message& message) {
    node_->OnPacket(from,
                    protocol::EncodePacket({cluster_, sender}, RequestId(++request_), message));
  }
  template <class Message>
  FakeEndpoint::Sent AnswerTo(PeerId peer) {
    for (auto& sent : endpoint_.Take<Message>()) {
      if (sent.to == peer && sent.envelope.request == RequestId(request_)) return sent;
    }
    ADD_FAILURE() << "no answer of this type";
    return {};
  }
  ErrorCode ErrorTo(PeerId peer) {
    return AnswerTo<protocol::ErrorReply>(peer).Body<protocol::ErrorReply>().code;
  }
  Incarnation Register(PeerId peer, Role role, const std::string& name, uint64_t process) {
    Send(peer, Incarnation(), protocol::RegisterRequest{role, name, "tcp://x:1", process, 1});
    const auto reply = AnswerTo<protocol::RegisterReply>(peer).Body<protocol::RegisterReply>();
    cluster_ = reply.cluster;
    return reply.incarnation;
  }
  // The server says of all its partitions that they have `applied`, of which `durable` is stored.
  void Report(Span applied, protocol::Offset durable, Tenure tenure) {
    protocol::PsHeartbeat heartbeat;
    heartbeat.applied.resize(1);
    heartbeat.applied[0].Mutable(kLog).Add(applied);
    heartbeat.durable = {{{kLog, durable}}};
    for (uint16_t p = 0; p < kPartitions; ++p) {
      heartbeat.partitions.push_back({PartitionId(p), tenure, 0, 0});
    }
    Send(kPs, ps_, heartbeat);
  }
  Tenure CurrentTenure() const { return node_->view().places[0].tenure; }
  void StartTraining() {
    ps_ = Register(kPs, Role::kPs, "ps-0", 1);
    worker_ = Register(kWorker, Role::kWorker, "", 2);
    Report({}, 0, CurrentTenure());
    ASSERT_EQ(node_->phase(), Phase::kTraining);
    endpoint_.sent.clear();
  }
  protocol::LeaseReply AskForLease(uint64_t sequence) {
    Send(kWorker, worker_,
         protocol::LeaseRequest{sequence, protocol::LeaseId(), protocol::LeaseEnd::kNone, true});
    return AnswerTo<protocol::LeaseReply>(kWorker).Body<protocol::LeaseReply>();
  }
  // Answers the checkpoint at the job's end.
  void AnswerCheckpoint() {
    for (const auto& ask : endpoint_.Take<protocol::CheckpointRequest>()) {
      node_->OnPacket(kPs, protocol::EncodePacket({cluster_, ps_}, ask.envelope.request,
                                                  protocol::CheckpointReply()));
    }
  }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  MemoryStateStore store_;
  NoLauncher launcher_;
  FixedProbe probe_;
  std::unique_ptr<MasterNode> node_;
  std::optional<int> exit_code_;
  protocol::ClusterId cluster_;
  Incarnation ps_;
  Incarnation worker_;
  uint64_t request_ = 0;
};

TEST_F(MasterNodeTest, ANewProcessOfAServerGetsAHigherTenureDurablyBeforeItHearsOfIt) {
  StartTraining();
  const Tenure before = CurrentTenure();
  const int saves = store_.saves;
  const Incarnation again = Register(kOther, Role::kPs, "ps-0", 99);
  EXPECT_GT(again, ps_);
  EXPECT_EQ(CurrentTenure(), before.Next());
  EXPECT_EQ(store_.saves, saves + 1);
  const auto state = protocol::DecodeStruct<ClusterState>(*store_.state, "state");
  EXPECT_EQ(state->view.places[0].tenure, before.Next());
  // A repeated hello is the same process.
  EXPECT_EQ(Register(kOther, Role::kPs, "ps-0", 99), again);
  EXPECT_EQ(CurrentTenure(), before.Next());
}

TEST_F(MasterNodeTest, AStateThatCannotBeStoredEndsTheMasterBeforeAnyoneHearsOfIt) {
  store_.fails = true;
  Send(kPs, Incarnation(), protocol::RegisterRequest{Role::kPs, "ps-0", "tcp://x:1", 1, 1});
  EXPECT_EQ(exit_code_, 1);
  EXPECT_TRUE(endpoint_.sent.empty());
}

TEST_F(MasterNodeTest, ReportsOfAnotherTenureOrOwnerDoNotCount) {
  StartTraining();
  const Tenure old = CurrentTenure();
  const Incarnation before = ps_;
  const Incarnation now = Register(kOther, Role::kPs, "ps-0", 99);
  Report({0, 100}, 100, CurrentTenure());  // still by the process before
  EXPECT_EQ(ErrorTo(kPs), ErrorCode::kConflict);
  EXPECT_EQ(ps_, before);
  ps_ = now;
  Report({0, 100}, 100, old);
  Report({0, 100}, 100, CurrentTenure().Next());
  EXPECT_FALSE(node_->progress().AllReported());
  Report({0, 30}, 20, CurrentTenure());
  EXPECT_EQ(node_->progress().Done(kLog), (protocol::SpanSet{{0, 30}}));
  EXPECT_EQ(node_->progress().DurableFloor(kLog), 20u);
}

TEST_F(MasterNodeTest, NothingIsLeasedWhileAReportIsMissing) {
  StartTraining();
  EXPECT_EQ(AskForLease(1).answer, LeaseAnswer::kLease);
  ps_ = Register(kPs, Role::kPs, "ps-0", 99);
  EXPECT_EQ(AskForLease(2).answer, LeaseAnswer::kWait);
  Report({}, 0, CurrentTenure());
  Report({}, 0, CurrentTenure());  // what ended is held until everybody was heard twice
  EXPECT_EQ(AskForLease(3).answer, LeaseAnswer::kLease);
}

TEST_F(MasterNodeTest, WhatAWorkerDidStaysCountedWhenAnotherProcessTakesItsName) {
  StartTraining();
  protocol::WorkerHeartbeat heartbeat;
  heartbeat.stats.steps = 7;
  heartbeat.stats.conflicts = 2;
  Send(kWorker, worker_, heartbeat);
  worker_ = Register(kOther, Role::kWorker, "worker-0", 77);
  heartbeat.stats.steps = 5;
  Send(kOther, worker_, heartbeat);
  EXPECT_EQ(node_->Steps(), 12u);
  EXPECT_EQ(node_->Conflicts(), 4u);
}

TEST_F(MasterNodeTest, ARepeatedLeaseRequestGetsTheSameLease) {
  StartTraining();
  const auto first = AskForLease(1);
  ASSERT_EQ(first.answer, LeaseAnswer::kLease);
  EXPECT_EQ(AskForLease(1).lease, first.lease);
  EXPECT_NE(AskForLease(2).lease.span, first.lease.span);
}

TEST_F(MasterNodeTest, TheJobDoesNotEndBeforeTheHoldersOfLeasesHaveSaidWhatTheyPredicted) {
  StartTraining();
  ASSERT_EQ(AskForLease(1).answer, LeaseAnswer::kLease);
  Report({0, kRecords}, kRecords, CurrentTenure());
  AnswerCheckpoint();
  EXPECT_EQ(node_->phase(), Phase::kFinishing);
  protocol::ValidationHistogram predictions;
  for (uint64_t i = 0; i < kRecords; ++i) predictions.Add(0.5f, 1.0f);
  auto delta = predictions.ToDelta();
  protocol::WorkerHeartbeat heartbeat;
  heartbeat.validation.push_back(
      {kLog, {{0, kRecords}}, delta.buckets, delta.positive, delta.negative, delta.loss_sum});
  Send(kWorker, worker_, heartbeat);
  EXPECT_EQ(AskForLease(2).answer, LeaseAnswer::kWait);
  runtime_.Advance(milliseconds(100));
  EXPECT_EQ(node_->phase(), Phase::kAuditing);
  EXPECT_EQ(node_->training_validation().records(), kRecords);
}

TEST_F(MasterNodeTest, AWorkerThatKeepsItsLeaseDoesNotKeepTheJobFromEnding) {
  StartTraining();
  ASSERT_EQ(AskForLease(1).answer, LeaseAnswer::kLease);
  Report({0, kRecords}, kRecords, CurrentTenure());
  AnswerCheckpoint();
  runtime_.Advance(milliseconds(1900));
  EXPECT_EQ(node_->phase(), Phase::kFinishing);
  runtime_.Advance(milliseconds(300));
  EXPECT_EQ(node_->phase(), Phase::kAuditing);
}

TEST_F(MasterNodeTest, TheStreamEndsWhenItIsDurableNotWhenItIsApplied) {
  StartTraining();
  Report({0, kRecords}, 50, CurrentTenure());
  EXPECT_EQ(node_->phase(), Phase::kFinishing);
  runtime_.Advance(seconds(5));
  EXPECT_EQ(node_->phase(), Phase::kFinishing);
}

TEST_F(MasterNodeTest, ACheckpointOfAServerThatIsReplacedMeanwhileFailsAtOnce) {
  StartTraining();
  std::optional<base::Result<>> outcome;
  node_->Checkpoint([&](base::Result<> result) { outcome = std::move(result); });
  EXPECT_EQ(endpoint_.TakeOne<protocol::CheckpointRequest>().to, kPs);
  ps_ = Register(kOther, Role::kPs, "ps-0", 99);
  runtime_.Advance(milliseconds(1));
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(outcome->error().message, "ps-0: it was replaced by a new process; try again");
}

TEST_F(MasterNodeTest, AServerThatConnectsAnewIsAskedAgainThere) {
  StartTraining();
  bool done = false;
  node_->Checkpoint([&](const base::Result<>& outcome) { done = outcome.has_value(); });
  endpoint_.TakeOne<protocol::CheckpointRequest>();
  Send(kOther, ps_, protocol::PsHeartbeat());
  runtime_.Advance(milliseconds(1));
  const auto again = endpoint_.TakeOne<protocol::CheckpointRequest>();
  EXPECT_EQ(again.to, kOther);
  node_->OnPacket(kOther, protocol::EncodePacket({cluster_, ps_}, again.envelope.request,
                                                 protocol::CheckpointReply()));
  EXPECT_TRUE(done);
}

TEST_F(MasterNodeTest, ARegistrationThatCannotBeUsedIsRefusedAndForgotten) {
  const int saves = store_.saves;
  const auto try_one = [&](const protocol::RegisterRequest& request) {
    Send(kOther, Incarnation(), request);
    return ErrorTo(kOther);
  };
  EXPECT_EQ(try_one({Role::kPs, std::string(100'000, 'x'), "tcp://x:1", 1, 1}),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(try_one({Role::kWorker, "../ps-0", "", 1, 1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(try_one({Role::kWorker, "worker\n0", "", 1, 1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(try_one({Role::kPs, "ps-0", "", 1, 1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(try_one({Role::kPs, "ps-0", std::string(1000, 'x'), 1, 1}),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(try_one({Role::kPs, "", "tcp://x:1", 1, 1}), ErrorCode::kConflict);
  EXPECT_TRUE(node_->nodes().empty());
  EXPECT_EQ(store_.saves, saves);
}

TEST_F(MasterNodeTest, AReportThatCannotBeRightChangesNothing) {
  StartTraining();
  protocol::PsHeartbeat heartbeat;
  heartbeat.applied.resize(1);
  heartbeat.applied[0].Mutable(kLog).Add({0, 50});
  heartbeat.durable = {{{kLog, 50}}};
  heartbeat.partitions = {{PartitionId(60'000), CurrentTenure(), 0, 0},
                          {PartitionId(0), CurrentTenure(), 1, 0},
                          {PartitionId(1), CurrentTenure(), 0, 65'535}};
  Send(kPs, ps_, heartbeat);
  EXPECT_TRUE(node_->progress().Done(kLog).empty());
  EXPECT_EQ(node_->progress().DurableFloor(kLog), 0u);
}

class ChildrenLauncher final : public Launcher {
 public:
  base::Result<int64_t> Start(const NodeSpec&) override { return ++pid; }
  void Stop(const std::string& name, StopMode) override { asked.push_back(name); }
  bool manages_processes() const override { return true; }
  int64_t pid = 0;
  std::vector<std::string> asked;
};

class MasterWithChildrenTest : public MasterNodeTest {
 protected:
  MasterWithChildrenTest() {
    MasterOptions options;
    options.partitions = kPartitions;
    options.job.logs = {{kLog, "train", "clicks.tsv", "criteo", 1, protocol::LogPurpose::kTrain}};
    node_ = std::make_unique<MasterNode>(
        options, runtime_.runtime(), endpoint_, store_, children_, probe_,
        [this](int code, const std::string&) { exit_code_ = code; });
    node_->Start();
    runtime_.Settle();
  }
  Incarnation RegisterChild(PeerId peer, Role role, const std::string& name) {
    const int64_t pid = node_->nodes().at(name).pid;
    Send(peer, Incarnation(),
         protocol::RegisterRequest{role, name, "tcp://x:1", static_cast<uint64_t>(pid), pid});
    const auto reply = AnswerTo<protocol::RegisterReply>(peer).Body<protocol::RegisterReply>();
    cluster_ = reply.cluster;
    return reply.incarnation;
  }
  void Exit(const std::string& name) {
    node_->OnNodeExit({name, node_->nodes().at(name).pid, "exit 0", 0});
  }

  ChildrenLauncher children_;
};

TEST_F(MasterWithChildrenTest, TheLastWordsOfAChildThatHasEndedDoNotKeepAStopFromEnding) {
  ps_ = RegisterChild(kPs, Role::kPs, "ps-0");
  worker_ = RegisterChild(kWorker, Role::kWorker, "worker-0");
  Report({}, 0, CurrentTenure());
  bool stopped = false;
  node_->Stop([&](const base::Result<>& outcome) { stopped = outcome.has_value(); });
  Exit("worker-0");
  Send(kWorker, worker_, protocol::WorkerHeartbeat());
  EXPECT_EQ(node_->nodes().at("worker-0").state, "stopped");
  runtime_.Advance(milliseconds(200));
  ASSERT_EQ(children_.asked, (std::vector<std::string>{"worker-0", "ps-0"}));
  Exit("ps-0");
  Report({0, 10}, 10, CurrentTenure());
  EXPECT_EQ(node_->nodes().at("ps-0").state, "stopped");
  EXPECT_EQ(node_->progress().DurableFloor(kLog), 10u) << "what it says counts";
  runtime_.Advance(milliseconds(200));
  EXPECT_TRUE(stopped);
}

TEST_F(MasterNodeTest, StrangersAndGarbageAreAnsweredOrDropped) {
  StartTraining();
  node_->OnPacket(kOther, {});
  node_->OnPacket(kOther, {{protocol::Buffer::Copy(std::string_view("garbage"))}});
  Send(kOther, Incarnation(12345), protocol::WorkerHeartbeat());
  EXPECT_EQ(ErrorTo(kOther), ErrorCode::kConflict);
  cluster_ = protocol::ClusterId(cluster_.value() + 1);
  Send(kOther, worker_, protocol::WorkerHeartbeat());
  EXPECT_EQ(ErrorTo(kOther), ErrorCode::kConflict);
  // An error is not answered: two that do not know each other would go on for ever.
  Send(kOther, Incarnation(), protocol::ErrorReply{ErrorCode::kConflict, "who are you"});
  EXPECT_TRUE(endpoint_.Take<protocol::ErrorReply>().empty());
  EXPECT_FALSE(exit_code_);
}

}  // namespace
}  // namespace freshet::master
