// SPDX-License-Identifier: Apache-2.0
#include "transport/event_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <thread>
#include <vector>

namespace freshet::transport {
namespace {

using base::Duration;
using base::Instant;
using std::chrono::milliseconds;
using testing::ElementsAre;

constexpr Duration kLimit = std::chrono::seconds(5);

void Signal(int fd) {
  const uint64_t one = 1;
  ASSERT_EQ(write(fd, &one, sizeof one), static_cast<ssize_t>(sizeof one));
}

TEST(EventLoopTest, TimersRunInOrderAndNeverEarly) {
  EventLoop loop;
  std::vector<int> ran;
  const Instant start = loop.clock().Now();
  Instant last;
  loop.After(milliseconds(6), [&] {
    ran.push_back(3);
    last = loop.clock().Now();
    loop.Stop();
  });
  loop.After(milliseconds(2), [&] { ran.push_back(1); });
  loop.After(milliseconds(4), [&] { ran.push_back(2); });
  loop.Run();
  EXPECT_THAT(ran, ElementsAre(1, 2, 3));
  EXPECT_GE(last - start, milliseconds(6));
}

TEST(EventLoopTest, ACallbackMayCancelALaterTimer) {
  EventLoop loop;
  bool ran = false;
  const base::TimerId later = loop.After(milliseconds(2), [&] { ran = true; });
  loop.After(milliseconds(1), [&] { loop.Cancel(later); });
  loop.After(milliseconds(3), [&] { loop.Stop(); });
  loop.Run();
  EXPECT_FALSE(ran);
}

TEST(EventLoopTest, PostsOfSeveralThreadsAllRunEachInItsOwnOrder) {
  EventLoop loop;
  constexpr int kThreads = 4;
  constexpr int kEach = 5000;
  std::vector<std::vector<int>> seen(kThreads);
  int total = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        auto posted = loop.Post([&, t, i] {
          seen[t].push_back(i);
          ++total;
        });
        EXPECT_TRUE(posted.has_value());
      }
    });
  }
  EXPECT_TRUE(loop.RunUntil([&] { return total == kThreads * kEach; }, kLimit));
  for (std::thread& thread : threads) thread.join();
  for (const auto& order : seen) {
    ASSERT_EQ(order.size(), static_cast<size_t>(kEach));
    for (int i = 0; i < kEach; ++i) ASSERT_EQ(order[i], i);
  }
}

TEST(EventLoopTest, AFullPostQueueRefusesAndRecovers) {
  EventLoop loop({.max_posted = 2});
  int ran = 0;
  EXPECT_TRUE(loop.Post([&] { ++ran; }).has_value());
  EXPECT_TRUE(loop.Post([&] { ++ran; }).has_value());
  const auto refused = loop.Post([&] { ++ran; });
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kResourceExhausted);
  EXPECT_TRUE(loop.RunUntil([&] { return ran == 2; }, kLimit));
  EXPECT_EQ(loop.stats().posts_refused, 1u);
  EXPECT_TRUE(loop.Post([&] { ++ran; }).has_value());
  EXPECT_TRUE(loop.RunUntil([&] { return ran == 3; }, kLimit));
}

TEST(EventLoopTest, APostWakesASleepingLoop) {
  EventLoop loop;
  std::thread poster([&] { EXPECT_TRUE(loop.Post([&] { loop.Stop(); }).has_value()); });
  loop.Run();
  poster.join();
}

TEST(EventLoopTest, StopBeforeRunReturnsAtOnce) {
  EventLoop loop;
  loop.Stop();
  loop.Run();
  EXPECT_EQ(loop.stats().passes, 0u);
}

TEST(EventLoopTest, RunUntilGivesUpAtItsLimit) {
  EventLoop loop;
  const Instant start = loop.clock().Now();
  EXPECT_FALSE(loop.RunUntil([] { return false; }, milliseconds(3)));
  EXPECT_GE(loop.clock().Now() - start, milliseconds(3));
}

TEST(EventLoopTest, AReadableFdCallsBackUntilUnwatched) {
  EventLoop loop;
  const int fd = eventfd(0, EFD_NONBLOCK);
  int calls = 0;
  loop.WatchFd(fd, [&] {
    uint64_t count = 0;
    EXPECT_EQ(read(fd, &count, sizeof count), static_cast<ssize_t>(sizeof count));
    if (++calls == 2) loop.UnwatchFd(fd);
    Signal(fd);
  });
  Signal(fd);
  EXPECT_TRUE(loop.RunUntil([&] { return calls == 2; }, kLimit));
  EXPECT_FALSE(loop.RunUntil([&] { return calls > 2; }, milliseconds(2)));
  close(fd);
}

TEST(EventLoopTest, AnFdUnwatchedByAnEarlierCallbackOfThePassIsLeftAlone) {
  EventLoop loop;
  const int first = eventfd(1, EFD_NONBLOCK);
  const int second = eventfd(1, EFD_NONBLOCK);
  int calls = 0;
  // Both are ready in the same pass; whichever comes first silences both.
  const auto silence = [&] {
    ++calls;
    loop.UnwatchFd(first);
    loop.UnwatchFd(second);
  };
  loop.WatchFd(first, silence);
  loop.WatchFd(second, silence);
  EXPECT_TRUE(loop.RunUntil([&] { return calls > 0; }, kLimit));
  EXPECT_EQ(calls, 1);
  close(first);
  close(second);
}

TEST(EventLoopTest, AnFdThatIsAlwaysReadableDoesNotStarveTimers) {
  EventLoop loop;
  const int fd = eventfd(1, EFD_NONBLOCK);
  uint64_t calls = 0;
  loop.WatchFd(fd, [&] { ++calls; });
  bool fired = false;
  loop.After(milliseconds(5), [&] { fired = true; });
  EXPECT_TRUE(loop.RunUntil([&] { return fired; }, kLimit));
  EXPECT_GT(calls, 1u);
  loop.UnwatchFd(fd);
  close(fd);
}

TEST(EventLoopTest, AChainOfZeroDelaysDoesNotStarveFds) {
  EventLoop loop;
  const int fd = eventfd(0, EFD_NONBLOCK);
  bool readable = false;
  loop.WatchFd(fd, [&] {
    readable = true;
    loop.UnwatchFd(fd);
  });
  int turns = 0;
  std::function<void()> again = [&] {
    if (++turns == 10) Signal(fd);
    loop.After(Duration(0), again);
  };
  loop.After(Duration(0), again);
  EXPECT_TRUE(loop.RunUntil([&] { return readable; }, kLimit));
  close(fd);
}

TEST(EventLoopTest, ASpinningLoopDoesNotSleepSoonAfterAnEvent) {
  EventLoop loop({.spin = std::chrono::seconds(10)});
  const int fd = eventfd(0, EFD_NONBLOCK);
  std::optional<uint64_t> sleeps;
  loop.WatchFd(fd, [&] {
    uint64_t count = 0;
    EXPECT_EQ(read(fd, &count, sizeof count), static_cast<ssize_t>(sizeof count));
    sleeps = loop.stats().sleeps;
  });
  Signal(fd);
  EXPECT_TRUE(loop.RunUntil([&] { return sleeps.has_value(); }, kLimit));
  loop.RunUntil([] { return false; }, milliseconds(2));
  EXPECT_EQ(loop.stats().sleeps, sleeps);
  close(fd);
}

TEST(EventLoopTest, AnIdleLoopSleeps) {
  EventLoop loop({.spin = Duration(50)});
  timespec before{};
  timespec after{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  loop.RunUntil([] { return false; }, milliseconds(50));
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  EXPECT_LT(loop.stats().passes, 10u);
  const auto cpu = std::chrono::seconds(after.tv_sec - before.tv_sec) +
                   std::chrono::nanoseconds(after.tv_nsec - before.tv_nsec);
  EXPECT_LT(cpu, milliseconds(10));
}

TEST(SystemClockTest, WallTimeIsOfThisCenturyAndMonotonicTimeDoesNotGoBack) {
  const SystemClock clock;
  EXPECT_GT(clock.WallNow().unix_ms, 1'700'000'000'000);
  Instant previous = clock.Now();
  for (int i = 0; i < 1000; ++i) {
    const Instant now = clock.Now();
    ASSERT_GE(now, previous);
    previous = now;
  }
}

}  // namespace
}  // namespace freshet::transport
