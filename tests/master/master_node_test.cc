// SPDX-License-Identifier: Apache-2.0
#include "master/master_node.h"

#include <gtest/gtest.h>

#include "tests/master/master_node_fixture.h"

namespace freshet::master {
namespace {

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

TEST_F(MasterWithChildrenTest, WhoIsSilentForTooLongIsLostAndThenEnded) {
  ps_ = RegisterChild(kPs, Role::kPs, "ps-0");
  runtime_.Advance(MasterOptions().node_timeout + seconds(1));
  EXPECT_EQ(node_->nodes().at("ps-0").state, "lost");
  EXPECT_TRUE(children_.asked.empty());
  runtime_.Advance(MasterOptions().hung_timeout);
  EXPECT_EQ(children_.asked, (std::vector<std::string>{"ps-0"}));
}

TEST_F(MasterWithChildrenTest, AMasterThatWasStoppedItselfBlamesNobody) {
  ps_ = RegisterChild(kPs, Role::kPs, "ps-0");
  worker_ = RegisterChild(kWorker, Role::kWorker, "worker-0");
  Report({}, 0, CurrentTenure());
  runtime_.Stop(2 * MasterOptions().hung_timeout);
  EXPECT_EQ(node_->nodes().at("ps-0").state, "running");
  EXPECT_EQ(node_->nodes().at("worker-0").state, "running");
  EXPECT_TRUE(children_.asked.empty());
  // Who is silent after that is as lost as ever.
  runtime_.Advance(MasterOptions().node_timeout + seconds(1));
  EXPECT_EQ(node_->nodes().at("ps-0").state, "lost");
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

TEST_F(MasterNodeTest, AGuestThatCannotDoTheJobIsExcludedAndTheOthersGoOn) {
  StartTraining();
  const Incarnation guest = Register(kOther, Role::kWorker, "guest", 5);
  protocol::WorkerHeartbeat heartbeat;
  heartbeat.fatal = "no such file: clicks.tsv";
  Send(kOther, guest, heartbeat);
  Send(kOther, guest, heartbeat);
  EXPECT_EQ(node_->phase(), Phase::kTraining);
  EXPECT_EQ(node_->nodes().at("guest").state, "excluded");
  const auto events = node_->events().Since(0, 100);
  EXPECT_EQ(std::count_if(events.begin(), events.end(),
                          [](const Event& event) { return event.kind == "worker_excluded"; }),
            1);
  Send(kOther, guest, protocol::LeaseRequest{1, {}, protocol::LeaseEnd::kNone, true});
  EXPECT_EQ(AnswerTo<protocol::LeaseReply>(kOther).Body<protocol::LeaseReply>().answer,
            LeaseAnswer::kWait);
  EXPECT_EQ(AskForLease(1).answer, LeaseAnswer::kLease);
  // Started again with what it lacked, it is one like any other.
  const Incarnation again = Register(kOther, Role::kWorker, "guest", 6);
  Report({}, 0, CurrentTenure());
  Send(kOther, again, protocol::LeaseRequest{1, {}, protocol::LeaseEnd::kNone, true});
  EXPECT_EQ(AnswerTo<protocol::LeaseReply>(kOther).Body<protocol::LeaseReply>().answer,
            LeaseAnswer::kLease);
}

TEST_F(MasterNodeTest, TheJobFailsWhenNoWorkerIsLeftThatCouldDoIt) {
  StartTraining();
  const Incarnation guest = Register(kOther, Role::kWorker, "guest", 5);
  protocol::WorkerHeartbeat heartbeat;
  heartbeat.fatal = "no such file: clicks.tsv";
  Send(kOther, guest, heartbeat);
  EXPECT_EQ(node_->phase(), Phase::kTraining);
  Send(kWorker, worker_, heartbeat);
  EXPECT_EQ(node_->phase(), Phase::kFailed);
  EXPECT_EQ(node_->error(), "worker-0: no such file: clicks.tsv");
}

TEST_F(MasterNodeTest, WhatFailsDuringAStopDoesNotKeepItFromEnding) {
  StartTraining();
  bool stopped = false;
  node_->Stop([&](const base::Result<>&) { stopped = true; });
  protocol::WorkerHeartbeat heartbeat;
  heartbeat.fatal = "the disk is gone";
  Send(kWorker, worker_, heartbeat);
  runtime_.Advance(seconds(5));
  EXPECT_TRUE(stopped);
}

TEST_F(MasterNodeTest, ALeaseOfTheMasterBeforeIsTakenOverOnlyIfThereIsSuchASpan) {
  StartTraining();
  const protocol::Lease before = AskForLease(1).lease;
  StartMaster();
  const auto next_of_the_other = [this](const protocol::Lease& claimed) {
    ps_ = Register(kPs, Role::kPs, "ps-0", 1);
    worker_ = Register(kWorker, Role::kWorker, "worker-0", 2);
    Report({}, 0, CurrentTenure());
    protocol::WorkerHeartbeat heartbeat;
    heartbeat.lease = claimed;
    Send(kWorker, worker_, heartbeat);
    Send(kWorker, worker_, heartbeat);
    const Incarnation other = Register(kOther, Role::kWorker, "other", 3);
    Send(kOther, other, protocol::LeaseRequest{1, {}, protocol::LeaseEnd::kNone, true});
    return AnswerTo<protocol::LeaseReply>(kOther).Body<protocol::LeaseReply>().lease.span;
  };
  EXPECT_EQ(next_of_the_other(before).begin, before.span.end);
  for (const auto& [log, span] : std::vector<std::pair<LogId, Span>>{
           {kLog, {0, kRecords + 1}}, {kLog, {0, ~0ull}}, {kLog, {50, 50}}, {LogId(7), {0, 50}}}) {
    StartMaster();
    EXPECT_EQ(next_of_the_other({before.id, log, span, {}}).begin, 0u) << span.end;
  }
}

TEST_F(MasterNodeTest, ALeaseThatIsNamedBeforeTheLogsAreKnownIsTakenOverWhenTheyAre) {
  StartTraining();
  const protocol::Lease before = AskForLease(1).lease;
  BeginMaster();
  ps_ = Register(kPs, Role::kPs, "ps-0", 1);
  Report({}, 0, CurrentTenure());
  protocol::WorkerHeartbeat heartbeat;
  heartbeat.lease = before;
  Send(kWorker, worker_, heartbeat);
  runtime_.Settle();
  Report({}, 0, CurrentTenure());
  const Incarnation other = Register(kOther, Role::kWorker, "other", 3);
  Send(kOther, other, protocol::LeaseRequest{1, {}, protocol::LeaseEnd::kNone, true});
  EXPECT_EQ(AnswerTo<protocol::LeaseReply>(kOther).Body<protocol::LeaseReply>().lease.span.begin,
            before.span.end);
}

TEST_F(MasterNodeTest, AnOldRepetitionOfALeaseRequestGetsAndEndsNothing) {
  StartTraining();
  ps_ = Register(kPs, Role::kPs, "ps-0", 99);
  EXPECT_EQ(AskForLease(1).answer, LeaseAnswer::kWait);
  Report({}, 0, CurrentTenure());
  // There is something to lease by now, but whoever was told to wait asks anew.
  EXPECT_EQ(AskForLease(1).answer, LeaseAnswer::kWait);
  const auto granted = AskForLease(2);
  ASSERT_EQ(granted.answer, LeaseAnswer::kLease);
  endpoint_.sent.clear();
  Send(kWorker, worker_, protocol::LeaseRequest{1, {}, protocol::LeaseEnd::kNone, true});
  EXPECT_TRUE(endpoint_.Take<protocol::LeaseReply>().empty());
  EXPECT_EQ(AskForLease(2).lease, granted.lease);
  // Nor when the lease is over.
  Send(kWorker, worker_,
       protocol::LeaseRequest{3, granted.lease.id, protocol::LeaseEnd::kFinished, false});
  endpoint_.sent.clear();
  Report({}, 0, CurrentTenure());
  Report({}, 0, CurrentTenure());
  Send(kWorker, worker_, protocol::LeaseRequest{2, {}, protocol::LeaseEnd::kNone, true});
  EXPECT_TRUE(endpoint_.Take<protocol::LeaseReply>().empty());
  EXPECT_EQ(AskForLease(4).lease.span.begin, 0u) << "it was given to nobody";
}

class EvaluatedJobTest : public MasterNodeTest {
 protected:
  static constexpr LogId kEval{1};
  static constexpr uint64_t kAllDone = kRecords;
  EvaluatedJobTest() : MasterNodeTest(Evaluating()) {}
  static MasterOptions Evaluating() {
    MasterOptions options = Options();
    options.job.logs.push_back(
        {kEval, "eval", "later.tsv", "criteo", 1, protocol::LogPurpose::kEvaluate});
    return options;
  }
  void Train() {
    Report({0, kRecords}, kRecords, CurrentTenure());
    AnswerCheckpoint();
    runtime_.Advance(milliseconds(100));
  }
  void Evaluate(Span span) {
    protocol::ValidationHistogram predictions;
    for (uint64_t i = 0; i < span.size(); ++i) predictions.Add(0.5f, 1.0f);
    auto delta = predictions.ToDelta();
    protocol::WorkerHeartbeat heartbeat;
    heartbeat.validation.push_back(
        {kEval, {span}, delta.buckets, delta.positive, delta.negative, delta.loss_sum});
    Send(kWorker, worker_, heartbeat);
  }
  // The server comes back with only that much.
  void FallBack(protocol::Offset end) {
    ps_ = Register(kPs, Role::kPs, "ps-0", ++process_);
    Report({0, end}, end, CurrentTenure());
    runtime_.Advance(milliseconds(200));
  }

 private:
  uint64_t process_ = 1000;
};

TEST_F(EvaluatedJobTest, WhatAServerLosesWhileTheModelIsEvaluatedIsLearntAgain) {
  StartTraining();
  Train();
  EXPECT_EQ(node_->phase(), Phase::kEvaluating);
  Evaluate({0, 40});
  FallBack(70);
  EXPECT_EQ(node_->phase(), Phase::kTraining);
  EXPECT_EQ(node_->evaluation().records(), 0u) << "that was another model";
  const protocol::Lease lease = AskForLease(1).lease;
  EXPECT_EQ(lease.log, kLog);
  EXPECT_EQ(lease.span.begin, 70u);
  Send(kWorker, worker_, protocol::LeaseRequest{2, lease.id, protocol::LeaseEnd::kFinished, false});
  Train();
  EXPECT_EQ(node_->phase(), Phase::kEvaluating);
  Evaluate({0, kRecords});
  runtime_.Advance(milliseconds(100));
  EXPECT_EQ(node_->phase(), Phase::kAuditing);
  EXPECT_EQ(node_->evaluation().records(), kRecords);
}

TEST_F(EvaluatedJobTest, AServerThatComesBackWithEverythingChangesNothing) {
  StartTraining();
  Train();
  Evaluate({0, 40});
  FallBack(kRecords);
  EXPECT_EQ(node_->phase(), Phase::kEvaluating);
  EXPECT_EQ(node_->evaluation().records(), 40u);
}

TEST_F(EvaluatedJobTest, AJobDoesNotCompleteNorStayCompleteWithFewerRecords) {
  StartTraining();
  Train();
  Evaluate({0, kRecords});
  runtime_.Advance(milliseconds(100));
  ASSERT_EQ(node_->phase(), Phase::kAuditing);
  // The audit's answer is of a server that has lost a part meanwhile.
  Register(kPs, Role::kPs, "ps-0", 99);
  AnswerAudit();
  runtime_.Advance(milliseconds(500));
  EXPECT_EQ(node_->phase(), Phase::kEvaluating);
  FallBack(kRecords);
  EXPECT_EQ(node_->phase(), Phase::kAuditing);
  AnswerAudit();
  EXPECT_EQ(node_->phase(), Phase::kCompleted);
  FallBack(50);
  EXPECT_EQ(node_->phase(), Phase::kTraining);
  EXPECT_FALSE(node_->final_audit());
  EXPECT_EQ(AskForLease(1).lease.span.begin, 50u);
}

}  // namespace
}  // namespace freshet::master
