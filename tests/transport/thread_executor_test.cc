// SPDX-License-Identifier: Apache-2.0
#include "transport/thread_executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "transport/event_loop.h"

namespace freshet::transport {
namespace {

constexpr base::Duration kLimit = std::chrono::seconds(5);

TEST(ThreadExecutorTest, WorkRunsInOrderElsewhereAndDoneOnTheLoop) {
  EventLoop loop;
  ThreadExecutor executor(loop);
  const std::thread::id loop_thread = std::this_thread::get_id();
  std::vector<int> worked;  // Read only after the `done` of the last one.
  std::vector<int> done;
  constexpr int kJobs = 500;
  for (int i = 0; i < kJobs; ++i) {
    executor.Run(
        [&, i] {
          EXPECT_NE(std::this_thread::get_id(), loop_thread);
          worked.push_back(i);
        },
        [&, i] {
          EXPECT_EQ(std::this_thread::get_id(), loop_thread);
          done.push_back(i);
        });
  }
  ASSERT_TRUE(loop.RunUntil([&] { return done.size() == kJobs; }, kLimit));
  for (int i = 0; i < kJobs; ++i) {
    ASSERT_EQ(worked[i], i);
    ASSERT_EQ(done[i], i);
  }
  EXPECT_EQ(executor.stats().finished, static_cast<uint64_t>(kJobs));
  EXPECT_EQ(executor.stats().queued, 0u);
}

TEST(ThreadExecutorTest, DoneMayRunMoreWork) {
  EventLoop loop;
  ThreadExecutor executor(loop);
  int depth = 0;
  std::function<void()> next = [&] {
    if (++depth < 20) executor.Run([] {}, next);
  };
  executor.Run([] {}, next);
  EXPECT_TRUE(loop.RunUntil([&] { return depth == 20; }, kLimit));
}

TEST(ThreadExecutorTest, ABoundedQueueSlowsTheSenderAndLosesNothing) {
  EventLoop loop;
  ThreadExecutor executor(loop, {.max_queued = 2});
  int done = 0;
  for (int i = 0; i < 200; ++i) {
    executor.Run([] {}, [&] { ++done; });
    ASSERT_LE(executor.stats().queued, 2u);
  }
  EXPECT_TRUE(loop.RunUntil([&] { return done == 200; }, kLimit));
  EXPECT_LE(executor.stats().highest_queued, 2u);
}

TEST(ThreadExecutorTest, ShutdownFinishesQueuedWorkWhenTold) {
  EventLoop loop;
  ThreadExecutor executor(loop);
  std::atomic<int> worked = 0;
  int done = 0;
  for (int i = 0; i < 50; ++i) executor.Run([&] { ++worked; }, [&] { ++done; });
  executor.Shutdown(ThreadExecutor::Queued::kFinish);
  EXPECT_EQ(worked, 50);
  EXPECT_EQ(done, 50);
}

TEST(ThreadExecutorTest, ShutdownDropsQueuedWorkWhenTold) {
  EventLoop loop;
  ThreadExecutor executor(loop);
  std::promise<void> started;
  std::promise<void> let_go;
  std::atomic<int> worked = 0;
  int done = 0;
  executor.Run(
      [&] {
        started.set_value();
        let_go.get_future().wait();
        ++worked;
      },
      [&] { ++done; });
  for (int i = 0; i < 50; ++i) executor.Run([&] { ++worked; }, [&] { ++done; });
  started.get_future().wait();
  // Released from another thread, as Shutdown waits for the work under way. It cannot take more
  // work in between: either it is still held, or Shutdown has emptied the queue.
  std::thread releaser([&] {
    while (executor.stats().queued > 1) std::this_thread::yield();
    let_go.set_value();
  });
  executor.Shutdown(ThreadExecutor::Queued::kDrop);
  releaser.join();
  EXPECT_EQ(worked, 1);
  EXPECT_EQ(done, 0);
}

TEST(ThreadExecutorTest, WhatWorkCapturedDiesWithoutTheLoop) {
  EventLoop loop;
  ThreadExecutor executor(loop);
  auto captured = std::make_shared<int>(7);
  std::weak_ptr<int> watch = captured;
  bool done = false;
  executor.Run([captured = std::move(captured)] { EXPECT_EQ(*captured, 7); },
               [&] {
                 EXPECT_TRUE(watch.expired());
                 done = true;
               });
  EXPECT_TRUE(loop.RunUntil([&] { return done; }, kLimit));
}

}  // namespace
}  // namespace freshet::transport
