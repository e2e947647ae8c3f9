// SPDX-License-Identifier: Apache-2.0
// Plans that cannot be carried out: how they end, and what they leave alone.
#include "tests/master/plan_fixture.h"

namespace freshet::master {
namespace {

TEST_F(PlanTest, AServerThatCannotBeKeptRunningFailsItsPlanAndNothingElse) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 3, 0, ""});
  node_->OnNodeExit({"ps-2", node_->nodes().at("ps-2").pid, "exit 2",
                     base::ExitCodeFor(ErrorCode::kInvalidArgument)});
  EXPECT_EQ(Record(id).state, PlanState::kFailed);
  EXPECT_EQ(Record(id).text, "ps-2 cannot be kept running (exit 2): see its log");
  EXPECT_NE(node_->phase(), Phase::kFailed);
  EXPECT_FALSE(node_->nodes().contains("ps-2"));
  EXPECT_EQ(node_->WantedServers(), 2u);
}

TEST_F(PlanTest, APlanSaysWhomItWaitsForAndNotForEver) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 3, 0, ""});
  Join(2);
  Tick();
  FinishMoves();
  ASSERT_EQ(Record(id).state, PlanState::kDone);
  const auto pid = node_->nodes().at("ps-1").pid;
  node_->OnNodeExit({"ps-1", pid, "signal 9", 137});
  const uint64_t next = Plan({PlanKind::kDrain, 0, 0, "ps-1"});
  EXPECT_EQ(Record(next).state, PlanState::kRunning);
  EXPECT_EQ(Record(next).text, "waits for ps-1");
  for (int minute = 0; minute < 6; ++minute) runtime_.Advance(seconds(60));
  EXPECT_EQ(Record(next).state, PlanState::kFailed);
  EXPECT_TRUE(Moving().empty());
}

TEST_F(PlanTest, AJobThatFailsEndsItsPlans) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 3, 0, ""});
  const uint64_t queued = Plan({PlanKind::kRebalance, 0, 0, ""});
  node_->OnNodeExit({"ps-0", node_->nodes().at("ps-0").pid, "exit 2",
                     base::ExitCodeFor(ErrorCode::kInvalidArgument)});
  ASSERT_EQ(node_->phase(), Phase::kFailed);
  EXPECT_EQ(Record(id).state, PlanState::kFailed);
  EXPECT_EQ(Record(queued).state, PlanState::kFailed);
}

}  // namespace
}  // namespace freshet::master
