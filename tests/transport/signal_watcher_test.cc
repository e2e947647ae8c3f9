// SPDX-License-Identifier: Apache-2.0
#include "transport/signal_watcher.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "transport/event_loop.h"

namespace freshet::transport {
namespace {

constexpr base::Duration kLimit = std::chrono::seconds(5);

TEST(SignalWatcherTest, SignalsArriveOnTheLoop) {
  EventLoop loop;
  std::map<int, int> seen;
  SignalWatcher watcher(loop, {SIGTERM, SIGINT}, [&](int signal) { ++seen[signal]; });
  kill(getpid(), SIGTERM);
  EXPECT_TRUE(loop.RunUntil([&] { return seen[SIGTERM] == 1; }, kLimit));
  kill(getpid(), SIGINT);
  kill(getpid(), SIGTERM);
  EXPECT_TRUE(loop.RunUntil([&] { return seen[SIGTERM] == 2 && seen[SIGINT] == 1; }, kLimit));
}

TEST(SignalWatcherTest, AChildThatEndsIsNoticed) {
  EventLoop loop;
  int status = -1;
  pid_t child = -1;
  SignalWatcher watcher(loop, {SIGCHLD}, [&](int) { waitpid(child, &status, WNOHANG); });
  child = fork();
  if (child == 0) _exit(7);
  EXPECT_TRUE(loop.RunUntil([&] { return status != -1; }, kLimit));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(SignalWatcherTest, TheMaskIsRestored) {
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  {
    EventLoop loop;
    SignalWatcher watcher(loop, {SIGUSR1}, [](int) {});
    sigset_t during;
    pthread_sigmask(SIG_SETMASK, nullptr, &during);
    EXPECT_EQ(sigismember(&during, SIGUSR1), 1);
    EXPECT_EQ(sigismember(&watcher.original_mask(), SIGUSR1), sigismember(&before, SIGUSR1));
  }
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(sigismember(&after, SIGUSR1), sigismember(&before, SIGUSR1));
}

}  // namespace
}  // namespace freshet::transport
