// SPDX-License-Identifier: Apache-2.0
#include "transport/timer_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace freshet::transport {
namespace {

using base::Duration;
using base::Instant;
using base::TimerId;
using testing::ElementsAre;
using testing::IsEmpty;

Instant At(int64_t us) { return Instant(Duration(us)); }

class TimerQueueTest : public testing::Test {
 protected:
  std::function<void()> Note(int tag) {
    return [this, tag] { ran_.push_back(tag); };
  }

  TimerQueue timers_;
  std::vector<int> ran_;
};

TEST_F(TimerQueueTest, RunsWhatIsDueInOrderOfTime) {
  timers_.Add(At(30), Note(3));
  timers_.Add(At(10), Note(1));
  timers_.Add(At(20), Note(2));
  EXPECT_EQ(timers_.NextDue(), At(10));
  EXPECT_EQ(timers_.RunDue(At(20)), 2u);
  EXPECT_THAT(ran_, ElementsAre(1, 2));
  EXPECT_EQ(timers_.NextDue(), At(30));
  EXPECT_EQ(timers_.RunDue(At(29)), 0u);
  EXPECT_EQ(timers_.RunDue(At(30)), 1u);
  EXPECT_EQ(timers_.NextDue(), std::nullopt);
}

TEST_F(TimerQueueTest, EqualTimesRunInTheOrderTheyWereSet) {
  std::vector<int> expected;
  for (int i = 0; i < 100; ++i) {
    timers_.Add(At(5), Note(i));
    expected.push_back(i);
  }
  timers_.RunDue(At(5));
  EXPECT_EQ(ran_, expected);
}

TEST_F(TimerQueueTest, CancelledTimersDoNotRun) {
  const TimerId first = timers_.Add(At(1), Note(1));
  timers_.Add(At(1), Note(2));
  timers_.Cancel(first);
  timers_.Cancel(first);
  timers_.Cancel(TimerId(99));
  timers_.RunDue(At(1));
  EXPECT_THAT(ran_, ElementsAre(2));
  EXPECT_EQ(timers_.size(), 0u);
}

TEST_F(TimerQueueTest, ACallbackMayCancelTheOnesDueWithIt) {
  std::vector<TimerId> ids;
  timers_.Add(At(1), [&] {
    for (const TimerId id : ids) timers_.Cancel(id);
  });
  for (int i = 0; i < 10; ++i) ids.push_back(timers_.Add(At(1), Note(i)));
  EXPECT_EQ(timers_.RunDue(At(1)), 1u);
  EXPECT_THAT(ran_, IsEmpty());
}

TEST_F(TimerQueueTest, ACallbackMayCancelItself) {
  TimerId self;
  self = timers_.Add(At(1), [&] {
    timers_.Cancel(self);
    ran_.push_back(1);
  });
  timers_.RunDue(At(1));
  EXPECT_THAT(ran_, ElementsAre(1));
}

TEST_F(TimerQueueTest, TimersSetByACallbackWaitForTheNextTurn) {
  timers_.Add(At(1), [&] {
    ran_.push_back(1);
    timers_.Add(At(0), Note(2));
    timers_.Add(At(1), Note(3));
  });
  timers_.Add(At(2), Note(4));
  EXPECT_EQ(timers_.RunDue(At(2)), 2u);
  EXPECT_THAT(ran_, ElementsAre(1, 4));
  EXPECT_EQ(timers_.RunDue(At(2)), 2u);
  EXPECT_THAT(ran_, ElementsAre(1, 4, 2, 3));
}

}  // namespace
}  // namespace freshet::transport
