// SPDX-License-Identifier: Apache-2.0
// Plans and what servers have: memory, processors.
#include "tests/master/plan_fixture.h"

namespace freshet::master {
namespace {

TEST_F(PlanTest, AServerGetsNoMoreThanItHasMemoryFor) {
  JoinBoth();
  const uint64_t id = Plan({PlanKind::kScale, 3, 0, ""});
  Join(2);
  // Room for one of the two partitions that it should have.
  SayMemory(0, 400, 1000);
  SayMemory(1, 400, 1000);
  SayMemory(2, 0, 140);
  Tick();
  EXPECT_EQ(Moving().size(), 1u);
  SayMemory(2, 100, 140);
  FinishMoves();
  EXPECT_EQ(Record(id).state, PlanState::kDone);
  EXPECT_EQ(Owned(2), 1u);
}

TEST_F(PlanTest, TheMasterSaysHowManyPartitionsMoveWhenItDecidesItself) {
  JoinBoth();
  // Server 0 is nearly full; three partitions of a hundred are what brings it to where it should be.
  SayMemory(0, 950, 1000);
  SayMemory(1, 100, 1000);
  runtime_.Advance(seconds(5));
  ASSERT_FALSE(node_->plans().empty());
  EXPECT_EQ(node_->plans().back().request.kind, PlanKind::kRelieve);
  const auto events = node_->events().Since(0, 1000);
  const auto running = std::find_if(events.begin(), events.end(),
                                    [](const Event& e) { return e.kind == "plan_running"; });
  ASSERT_NE(running, events.end());
  EXPECT_EQ(running->text, "plan 1 (relieve ps-0): 3 partitions to move");
  FinishMoves();
  EXPECT_EQ(node_->plans().back().moved, 3u);
}

TEST_F(PlanTest, WhatAMigrationPromisedIsKeptAfterARestart) {
  JoinBoth();
  PlanRequest request{PlanKind::kMigrate, 0, 0, "ps-0"};
  request.processors = 2;
  request.memory_bytes = uint64_t{64} << 20;
  Plan(request);
  const auto promised = [this] {
    const NodeSpec& spec = launcher_.specs.at("ps-2");
    const auto limit = std::find(spec.extra_args.begin(), spec.extra_args.end(), "--memory-limit");
    return spec.processors == 2 && limit != spec.extra_args.end() && *(limit + 1) == "67108864";
  };
  EXPECT_TRUE(promised());
  launcher_.specs.clear();
  launcher_.running.clear();
  StartMaster();
  EXPECT_TRUE(promised());
}

}  // namespace
}  // namespace freshet::master
