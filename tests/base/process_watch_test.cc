// SPDX-License-Identifier: Apache-2.0
#include "base/process_watch.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace freshet::base {
namespace {

// Words that no other process on this machine has.
std::string Mark(const char* name) { return "watch-test-" + std::to_string(::getpid()) + name; }

ProcessId StartSleeper(const std::string& mark, const std::string& script = "sleep 1000") {
  const auto pid =
      SpawnProcess({.path = "/bin/sh", .args = {"-c", script + "; :", "--name", mark}});
  EXPECT_TRUE(pid) << pid.error().message;
  return *pid;
}

bool AwaitReadable(int fd) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 10'000) == 1;
}

void KillGroup(ProcessId pid) { ::kill(-static_cast<pid_t>(pid), SIGKILL); }

TEST(ProcessWatch, EndIsNoticedBeforeAnybodyCollectsIt) {
  const ProcessId pid = StartSleeper(Mark("a"));
  auto watched = WatchedProcess::Open(pid);
  ASSERT_TRUE(watched) << watched.error().message;
  EXPECT_FALSE(watched->ended());
  ASSERT_TRUE(watched->Signal(SIGKILL));
  ASSERT_TRUE(AwaitReadable(watched->fd()));
  EXPECT_TRUE(watched->ended());
  EXPECT_EQ(watched->Signal(SIGKILL).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(CommandLineOf(pid).empty());
  KillGroup(pid);
  ASSERT_EQ(::waitpid(static_cast<pid_t>(pid), nullptr, 0), pid);
  EXPECT_EQ(WatchedProcess::Open(pid).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(WatchedProcess::Open(0).error().code, ErrorCode::kNotFound);
}

TEST(ProcessWatch, ProcessIsFoundByItsWordsWhileItRuns) {
  const std::string mark = Mark("b");
  const ProcessId pid = StartSleeper(mark);
  const auto matches = [&mark](const std::vector<std::string>& words) {
    return !words.empty() && words.back() == mark;
  };
  const auto found = FindProcess(matches);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->pid(), pid);
  EXPECT_EQ(CommandLineOf(pid).front(), "/bin/sh");
  KillGroup(pid);
  ASSERT_TRUE(AwaitReadable(found->fd()));
  EXPECT_FALSE(FindProcess(matches).has_value());
  ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
}

TEST(ProcessWatch, OrphansAreCollectedByTheirAdopter) {
  ASSERT_TRUE(AdoptOrphans());
  // The shell leaves a child behind that ends with its own code.
  const auto pid = SpawnProcess({.path = "/bin/sh", .args = {"-c", "sh -c 'exit 7' & exit 3"}});
  ASSERT_TRUE(pid);
  int codes = 0;
  for (int collected = 0; collected < 2;) {
    siginfo_t info;
    ASSERT_EQ(::waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
    while (const auto exited = ReapAnyProcess()) {
      codes += exited->code;
      EXPECT_EQ(exited->code == 3, exited->pid == *pid);
      ++collected;
    }
  }
  EXPECT_EQ(codes, 10);
  EXPECT_FALSE(ReapAnyProcess().has_value());
}

TEST(ProcessWatch, OwnSessionHasNoTerminal) {
  const auto pid = SpawnProcess(
      {.path = "/bin/sh", .args = {"-c", "exec sleep 1000"}, .group = ProcessGroup::kOwnSession});
  ASSERT_TRUE(pid);
  EXPECT_EQ(::getsid(static_cast<pid_t>(*pid)), *pid);
  EXPECT_NE(::getsid(0), *pid);
  ASSERT_TRUE(SignalProcess(*pid, SIGKILL));
  ::waitpid(static_cast<pid_t>(*pid), nullptr, 0);
}

}  // namespace
}  // namespace freshet::base
