// SPDX-License-Identifier: Apache-2.0
// Plans, from the master's side of the wire: who is told what, and what is durable when.
#include "tests/master/plan_fixture.h"

namespace freshet::master {
namespace {

TEST_F(PlanTest, ScalingOutStartsServersAndGivesThemTheirShare) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 4, 0, ""});
  EXPECT_TRUE(launcher_.running.contains("ps-2") && launcher_.running.contains("ps-3"));
  EXPECT_TRUE(Moving().empty()) << "nothing moves before they are there";
  Join(2);
  Join(3);
  Tick();
  EXPECT_EQ(Moving().size(), 4u);
  FinishMoves();
  for (uint16_t n = 0; n < 4; ++n) EXPECT_EQ(Owned(n), 2u);
  EXPECT_EQ(Record(id).state, PlanState::kDone);
  EXPECT_EQ(Record(id).moved, 4u);
  EXPECT_TRUE(launcher_.stopped.empty());
}

TEST_F(PlanTest, ACommitRaisesTheTenureInTheSameWriteAndCountsAsAReport) {
  JoinBoth();
  Plan({PlanKind::kDrain, 0, 0, "ps-1"});
  const uint16_t p = Moving().at(0);
  const auto before = node_->view().places[p];
  Send(0, ReportOf(p, MoveState::kPrepared));
  const auto& after = node_->view().places[p];
  EXPECT_EQ(after.node, before.target);
  EXPECT_EQ(after.tenure, before.tenure.Next());
  EXPECT_EQ(after.migration.value(), 0u);
  const auto state = protocol::DecodeStruct<ClusterState>(*store_.state, "state");
  ASSERT_TRUE(state);
  EXPECT_EQ(state->view.places[p], after);
  EXPECT_TRUE(node_->progress().Reported(PartitionId(p))) << "rule G21";
  EXPECT_TRUE(node_->progress().DurableOf(PartitionId(p)).empty());
}

TEST_F(PlanTest, WhatIsPreparedTogetherIsCommittedInOneDurableWrite) {
  JoinBoth();
  Plan({PlanKind::kDrain, 0, 0, "ps-1"});
  std::vector<MoveReport> reports;
  for (const uint16_t p : Moving()) reports.push_back(ReportOf(p, MoveState::kPrepared));
  ASSERT_EQ(reports.size(), 4u);
  reports.push_back(reports.front());  // said twice
  const int saves = store_.saves;
  SendAtOnce(0, reports);
  EXPECT_EQ(store_.saves, saves + 1);
  EXPECT_EQ(Owned(0), kPartitions);
  EXPECT_EQ(node_->plans().back().moved, 4u);
}

TEST_F(PlanTest, OnlyTheMigrationThatStandsIsCommittedAndOnlyForItsTarget) {
  JoinBoth();
  Plan({PlanKind::kDrain, 0, 0, "ps-1"});
  const uint16_t p = Moving().at(0);
  const auto before = node_->view().places[p];
  auto late = ReportOf(p, MoveState::kPrepared);
  late.migration = protocol::MigrationId(late.migration.value() + 1000);
  Send(0, late);
  EXPECT_EQ(node_->view().places[p], before) << "another migration";
  Send(1, ReportOf(p, MoveState::kPrepared));
  EXPECT_EQ(node_->view().places[p], before) << "not from its target";
  auto old = ReportOf(p, MoveState::kPrepared);
  old.tenure = protocol::Tenure(old.tenure.value() - 1);
  Send(0, old);
  EXPECT_EQ(node_->view().places[p], before) << "of an older tenure";
}

TEST_F(PlanTest, LessThanWasCalledDurableIsNeverCommitted) {
  JoinBoth();
  Plan({PlanKind::kDrain, 0, 0, "ps-1"});
  const uint16_t p = Moving().at(0);
  protocol::PsHeartbeat heartbeat;
  heartbeat.applied.resize(1);
  heartbeat.applied[0].Mutable(kLog).Add({0, 20});
  heartbeat.durable = {{{kLog, 20}}};
  protocol::PartitionReport claim;
  claim.partition = PartitionId(p);
  claim.tenure = node_->view().places[p].tenure;
  heartbeat.partitions = {claim};
  node_->OnPacket(PeerId(101), protocol::EncodePacket({cluster_, incarnations_[1]},
                                                      RequestId(++request_), heartbeat));
  const uint16_t owner = node_->view().places[p].node;
  Send(0, ReportOf(p, MoveState::kPrepared));
  EXPECT_EQ(node_->view().places[p].node, owner);
  EXPECT_EQ(node_->view().places[p].migration.value(), 0u) << "the source thaws";
}

TEST_F(PlanTest, AServerThatIsReplacedTakesItsIntentsBack) {
  JoinBoth();
  Plan({PlanKind::kDrain, 0, 0, "ps-1"});
  const auto moving = Moving();
  ASSERT_FALSE(moving.empty());
  const auto stale = ReportOf(moving[0], MoveState::kPrepared);
  const auto ids = node_->view().places[moving[0]].migration;
  Exited("ps-0");
  EXPECT_TRUE(Moving().empty());
  Join(0);
  Tick();
  Tick();
  ASSERT_FALSE(Moving().empty()) << "it goes on with fresh ids";
  EXPECT_NE(node_->view().places[moving[0]].migration, ids);
  const auto before = node_->view().places[moving[0]];
  Send(0, stale);
  EXPECT_EQ(node_->view().places[moving[0]], before);
  FinishMoves();
  EXPECT_EQ(Owned(0), kPartitions);
}

TEST_F(PlanTest, WhoLeavesEndsWhenItOwnsNothingAndIsNotStartedAgain) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 1, 0, ""});
  EXPECT_TRUE(launcher_.stopped.empty());
  FinishMoves();
  EXPECT_EQ(launcher_.stopped, std::vector<std::string>{"ps-1"});
  EXPECT_EQ(Record(id).state, PlanState::kRunning);
  Exited("ps-1");
  EXPECT_EQ(Record(id).state, PlanState::kDone);
  EXPECT_FALSE(launcher_.running.contains("ps-1"));
  EXPECT_FALSE(node_->nodes().contains("ps-1"));
}

TEST_F(PlanTest, AMigrationReplacesAServerByANewOne) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kMigrate, 0, 0, "ps-0"});
  ASSERT_TRUE(launcher_.running.contains("ps-2"));
  Join(2);
  Tick();
  FinishMoves();
  Exited("ps-0");
  EXPECT_EQ(Owned(2), 4u);
  EXPECT_EQ(Owned(1), 4u);
  EXPECT_EQ(Record(id).state, PlanState::kDone);
  EXPECT_EQ(node_->AddPlan({PlanKind::kMigrate, 0, 0, "ps-0"}).error().code, ErrorCode::kNotFound);
  // Its number is not used again.
  Plan({PlanKind::kScale, 3, 0, ""});
  EXPECT_TRUE(launcher_.running.contains("ps-3"));
}

TEST_F(PlanTest, ThePlanThatIsDoneAlreadyChangesNothing) {
  JoinBoth();
  const auto view = node_->view();
  const uint64_t id = Plan({PlanKind::kScale, 2, 0, ""});
  EXPECT_EQ(Record(id).state, PlanState::kDone);
  EXPECT_EQ(node_->view(), view);
  // The same one twice, while it runs, is one.
  const uint64_t first = Plan({PlanKind::kScale, 3, 0, ""});
  EXPECT_EQ(Plan({PlanKind::kScale, 3, 0, ""}), first);
}

TEST_F(PlanTest, NonsenseIsRefusedAndChangesNothing) {
  EXPECT_EQ(node_->AddPlan({PlanKind::kRebalance, 0, 0, ""}).error().code, ErrorCode::kUnavailable);
  JoinBoth();
  const auto state = store_.state->bytes();
  const auto code = [this](const PlanRequest& request) {
    return node_->AddPlan(request).error().code;
  };
  EXPECT_EQ(code({PlanKind::kScale, 0, 0, ""}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({PlanKind::kScale, 5, 0, ""}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({PlanKind::kScale, 9, 0, ""}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({PlanKind::kMigrate, 0, 0, "ps-9"}), ErrorCode::kNotFound);
  EXPECT_EQ(code({PlanKind::kDrain, 0, 0, "nobody"}), ErrorCode::kNotFound);
  EXPECT_EQ(state.data(), store_.state->bytes().data());
  node_->Stop([](const base::Result<>&) {});
  EXPECT_EQ(code({PlanKind::kScale, 3, 0, ""}), ErrorCode::kUnavailable);
}

TEST_F(PlanTest, ACancelledPlanLeavesEveryPartitionWhereItIs) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 3, 0, ""});
  Join(2);
  Tick();
  ASSERT_FALSE(Moving().empty());
  EXPECT_TRUE(node_->CancelPlan(id));
  EXPECT_TRUE(Moving().empty());
  EXPECT_EQ(Record(id).state, PlanState::kCancelled);
  Tick();
  EXPECT_EQ(launcher_.stopped, std::vector<std::string>{"ps-2"}) << "it has nothing to do";
  Exited("ps-2");
  EXPECT_FALSE(launcher_.running.contains("ps-2"));
  Tick();
  EXPECT_TRUE(Moving().empty());
  EXPECT_EQ(node_->CancelPlan(id).error().code, ErrorCode::kConflict);
  EXPECT_EQ(node_->CancelPlan(77).error().code, ErrorCode::kNotFound);
}

TEST_F(PlanTest, ARestartedMasterGoesOnWithItsPlan) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 1, 0, ""});
  ASSERT_FALSE(Moving().empty());
  Send(0, ReportOf(Moving()[0], MoveState::kPrepared));
  const size_t owned = Owned(0);
  StartMaster();
  EXPECT_EQ(Owned(0), owned);
  EXPECT_EQ(Record(id).state, PlanState::kRunning);
  Join(0);  // new processes
  Join(1);
  Tick();
  FinishMoves();
  EXPECT_EQ(Owned(0), kPartitions);
  Exited("ps-1");
  EXPECT_EQ(Record(id).state, PlanState::kDone);
}

TEST_F(PlanTest, AServerThatComesByItselfGetsItsShare) {
  JoinBoth();
  Join(7);
  Tick();
  EXPECT_FALSE(Moving().empty());
  FinishMoves();
  EXPECT_GE(Owned(7), 2u);
  EXPECT_EQ(node_->plans().back().request.kind, PlanKind::kJoin);
  EXPECT_EQ(node_->plans().back().state, PlanState::kDone);
}

TEST_F(PlanTest, AServerThatNeverComesFailsThePlanAndIsGivenUp) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 3, 0, ""});
  runtime_.Advance(seconds(61));
  EXPECT_EQ(Record(id).state, PlanState::kFailed);
  EXPECT_EQ(Record(id).text, "ps-2 did not join in time: see its log");
  EXPECT_TRUE(Moving().empty());
}

TEST_F(PlanTest, AMoveThatFailsIsTriedAgainAndThePlanFailsInTheEnd) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kDrain, 0, 0, "ps-1"});
  for (int i = 0; i < 100 && !Record(id).ended(); ++i) {
    ASSERT_FALSE(Moving().empty());
    auto report = ReportOf(Moving()[0], MoveState::kFailed);
    report.code = ErrorCode::kResourceExhausted;
    report.message = "the disk is full";
    Send(0, report);
    Tick();
  }
  EXPECT_EQ(Record(id).state, PlanState::kFailed);
  EXPECT_NE(Record(id).text.find("the disk is full"), std::string::npos);
  EXPECT_TRUE(Moving().empty());
  EXPECT_EQ(Owned(1), 4u);
  EXPECT_TRUE(launcher_.stopped.empty()) << "it stays a server";
}

TEST_F(PlanTest, AWorkerThatWasToldToLeaveIsNoReasonToLetTheOtherOneGo) {
  JoinBoth();
  JoinWorker(0);
  JoinWorker(1);
  const uint64_t id = Plan({PlanKind::kDrain, 0, 0, "guest-0"});
  EXPECT_FALSE(WorkerSpeaks(1));
  Tick();
  EXPECT_TRUE(WorkerSpeaks(0)) << "it has been told, and goes";
  EXPECT_TRUE(node_->CancelPlan(id));
  const auto refused = node_->AddPlan({PlanKind::kDrain, 0, 0, "guest-1"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "guest-1 is the only worker that runs: add another one first");
}

TEST_F(PlanTest, WhoWasCutOffWhileItWasDrainedIsToldToLeaveWhenItIsBack) {
  JoinBoth();
  JoinWorker(0);
  JoinWorker(1);
  const uint64_t id = Plan({PlanKind::kDrain, 0, 0, "guest-0"});
  for (int s = 0; s < 4; ++s) {
    EXPECT_FALSE(WorkerSpeaks(1));
    runtime_.Advance(seconds(1));
  }
  ASSERT_EQ(Record(id).state, PlanState::kDone) << "it is silent, so it has gone";
  JoinWorker(2, "guest-0");
  EXPECT_EQ(WorkerHears(0), ErrorCode::kUnavailable);
  EXPECT_EQ(WorkerHears(2), std::nullopt) << "the new one of its name stays";
}

TEST_F(PlanTest, WhoWasToldToLeaveForAPlanGivenUpMayComeBack) {
  JoinBoth();
  JoinWorker(0);
  JoinWorker(1);
  const uint64_t id = Plan({PlanKind::kDrain, 0, 0, "guest-0"});
  EXPECT_FALSE(WorkerSpeaks(1));
  Tick();
  EXPECT_TRUE(node_->CancelPlan(id));
  EXPECT_TRUE(WorkerSpeaks(0)) << "the process that was told goes on leaving";
  JoinWorker(2, "guest-0");
  EXPECT_FALSE(WorkerSpeaks(2)) << "its successor stays";
}

TEST_F(PlanTest, AWorkerWithoutANameDoesNotGetThatOfOneWhoLeaves) {
  JoinBoth();
  Plan({PlanKind::kScale, 0, 3, ""});
  const uint64_t id = Plan({PlanKind::kScale, 0, 1, ""});
  Exited("worker-1");
  ASSERT_EQ(Record(id).state, PlanState::kRunning) << "worker-2 is still there";
  EXPECT_EQ(JoinWorker(0, ""), "worker-3");
  Tick();
  EXPECT_FALSE(WorkerSpeaks(0));
}

TEST_F(PlanTest, AWorkerIsDrainedWhenAnotherIsHeardAndElseThePlanFails) {
  JoinBoth();
  JoinWorker(0);
  JoinWorker(1);  // dead, and nobody knows it yet
  const uint64_t id = Plan({PlanKind::kDrain, 0, 0, "guest-0"});
  for (int s = 0; s < 55; ++s) {
    runtime_.Advance(seconds(1));
    ASSERT_FALSE(WorkerSpeaks(0));
  }
  ASSERT_EQ(Record(id).state, PlanState::kRunning);
  runtime_.Advance(seconds(6));
  EXPECT_EQ(Record(id).state, PlanState::kFailed);
  EXPECT_FALSE(WorkerSpeaks(0)) << "it stays";
}

TEST_F(PlanTest, WhoWasToldToLeaveLeavesUnderTheNextMasterToo) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 3, 0, ""});
  Join(2);
  EXPECT_TRUE(node_->CancelPlan(id));
  launcher_.stopped.clear();
  StartMaster();  // before it was told
  Join(0);
  Join(1);
  Join(2);
  Tick();
  EXPECT_EQ(launcher_.stopped, std::vector<std::string>{"ps-2"});
  EXPECT_TRUE(node_->plans().back().id == id) << "it does not join again";
  Exited("ps-2");
  EXPECT_FALSE(launcher_.running.contains("ps-2"));
}

}  // namespace
}  // namespace freshet::master
