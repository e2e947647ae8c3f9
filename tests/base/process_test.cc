// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace freshet::base {
namespace {

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "process_test.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  static std::string ReadAll(const std::string& path) {
    std::stringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  }
  SpawnOptions Shell(const std::string& script) const {
    return {.path = "/bin/sh",
            .args = {"-c", script},
            .stdout_file = Path("out"),
            .stderr_file = Path("out")};
  }
  // Waits for the end without collecting it, then collects it as the product does.
  static ExitedProcess Wait(ProcessId pid) {
    siginfo_t info;
    EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
    const std::optional<ExitedProcess> exited = ReapProcess(pid);
    EXPECT_TRUE(exited.has_value());
    return exited.value_or(ExitedProcess{});
  }

  std::string dir_;
};

TEST_F(ProcessTest, ExitCodeAndOutputArriveAndOutputIsAppended) {
  for (int round = 0; round < 2; ++round) {
    const auto pid = SpawnProcess(Shell("echo out; echo err >&2; exit 7"));
    ASSERT_TRUE(pid) << pid.error().message;
    const ExitedProcess exited = Wait(*pid);
    EXPECT_EQ(exited.pid, *pid);
    EXPECT_EQ(exited.code, 7);
    EXPECT_EQ(exited.signal, 0);
    EXPECT_EQ(DescribeExit(exited), "exit 7");
  }
  EXPECT_EQ(ReadAll(Path("out")), "out\nerr\nout\nerr\n");
}

TEST_F(ProcessTest, MissingExecutableIsNamedAndLeavesNoChild) {
  const auto pid = SpawnProcess({.path = Path("nothing-here")});
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().code, ErrorCode::kNotFound);
  EXPECT_NE(pid.error().message.find(Path("nothing-here")), std::string::npos);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(ProcessTest, FileThatIsNotExecutableIsAnIoError) {
  std::ofstream(Path("plain")) << "text";
  const auto pid = SpawnProcess({.path = Path("plain")});
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().code, ErrorCode::kIo);
}

TEST_F(ProcessTest, UnwritableOutputIsNamed) {
  SpawnOptions options = Shell("exit 0");
  options.stdout_file = Path("no/such/folder/out");
  const auto pid = SpawnProcess(options);
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().code, ErrorCode::kIo);
  EXPECT_NE(pid.error().message.find("no/such/folder/out"), std::string::npos);
}

TEST_F(ProcessTest, SignalEndsAChildAndIsReported) {
  const auto pid = SpawnProcess({.path = "/bin/sleep", .args = {"1000"}});
  ASSERT_TRUE(pid);
  EXPECT_FALSE(ReapProcess(*pid).has_value());
  ASSERT_TRUE(SignalProcess(*pid, SIGKILL));
  const ExitedProcess exited = Wait(*pid);
  EXPECT_EQ(exited.signal, SIGKILL);
  EXPECT_EQ(exited.code, 128 + SIGKILL);
  EXPECT_EQ(DescribeExit(exited), "signal 9");
}

TEST_F(ProcessTest, SignallingNobodyIsNotFound) {
  const auto pid = SpawnProcess(Shell("exit 0"));
  ASSERT_TRUE(pid);
  Wait(*pid);
  EXPECT_EQ(SignalProcess(*pid, SIGTERM).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(SignalProcess(0, SIGTERM).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(SignalProcess(-1, SIGTERM).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ReapProcess(*pid)->code, 127);
}

TEST_F(ProcessTest, ChildInheritsNoDescriptorMaskOrIgnoredSignal) {
  const int leak = ::open("/dev/null", O_RDONLY);  // deliberately without O_CLOEXEC
  ASSERT_GE(leak, 3);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  ::signal(SIGPIPE, SIG_IGN);
  const auto pid = SpawnProcess(
      // No pipe, whose ends the shell would hold for a moment, and not the last command, which the
      // shell would become.
      Shell("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls -m /proc/$$/fd; true"));
  ::signal(SIGPIPE, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::close(leak);
  ASSERT_TRUE(pid);
  EXPECT_EQ(Wait(*pid).code, 0);
  EXPECT_EQ(ReadAll(Path("out")),
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0, 1, 2\n");
}

TEST_F(ProcessTest, EnvironmentIsAddedToAndReplaced) {
  ::setenv("FRESHET_TEST_KEPT", "kept", 1);
  ::setenv("FRESHET_TEST_CHANGED", "old", 1);
  SpawnOptions options = Shell("echo $FRESHET_TEST_KEPT $FRESHET_TEST_CHANGED $FRESHET_TEST_NEW");
  options.environment = {"FRESHET_TEST_CHANGED=new", "FRESHET_TEST_NEW=a=b"};
  const auto pid = SpawnProcess(options);
  ASSERT_TRUE(pid);
  Wait(*pid);
  EXPECT_EQ(ReadAll(Path("out")), "kept new a=b\n");
}

TEST_F(ProcessTest, ReplacedItIsAnotherProgramOrToldWhyNot) {
  EXPECT_EXIT(static_cast<void>(ReplaceProcess("/bin/sh", {"-c", "exit $1", "sh", "7"})),
              ::testing::ExitedWithCode(7), "");
  const Error error = ReplaceProcess("/no/such/program", {});
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_NE(error.message.find("/no/such/program"), std::string::npos);
}

TEST_F(ProcessTest, OwnGroupIsLedByTheChild) {
  const auto own = SpawnProcess({.path = "/bin/sleep", .args = {"1000"}});
  const auto shared =
      SpawnProcess({.path = "/bin/sleep", .args = {"1000"}, .group = ProcessGroup::kParents});
  ASSERT_TRUE(own && shared);
  EXPECT_EQ(::getpgid(static_cast<pid_t>(*own)), *own);
  EXPECT_EQ(::getpgid(static_cast<pid_t>(*shared)), ::getpgrp());
  for (const ProcessId pid : {*own, *shared}) {
    EXPECT_TRUE(SignalProcess(pid, SIGKILL));
    Wait(pid);
  }
}

// A middle process starts a sleeper and ends; the sleeper holds the write end of a pipe, so the read
// end sees its end of file exactly when the sleeper is gone.
bool DiesWithParent(OnParentDeath choice, const std::string& fifo, ProcessId& sleeper) {
  EXPECT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
  int told[2];
  EXPECT_EQ(::pipe(told), 0);
  const pid_t middle = ::fork();
  if (middle == 0) {
    const auto pid = SpawnProcess(
        {.path = "/bin/sleep", .args = {"1000"}, .stdout_file = fifo, .on_parent_death = choice});
    const ProcessId value = pid ? *pid : 0;
    const bool ok = ::write(told[1], &value, sizeof(value)) == sizeof(value);
    ::_exit(ok ? 0 : 1);
  }
  EXPECT_EQ(::read(told[0], &sleeper, sizeof(sleeper)), static_cast<ssize_t>(sizeof(sleeper)));
  ::waitpid(middle, nullptr, 0);
  bool gone = true;
  if (choice == OnParentDeath::kLive) {
    gone = ::kill(static_cast<pid_t>(sleeper), 0) != 0;
  } else {
    ::fcntl(reader, F_SETFL, 0);
    char byte = 0;
    gone = ::read(reader, &byte, 1) == 0;
  }
  for (const int fd : {reader, told[0], told[1]}) ::close(fd);
  return gone;
}

TEST_F(ProcessTest, DiesWithItsParentOnlyWhenAsked) {
  ProcessId sleeper = 0;
  EXPECT_TRUE(DiesWithParent(OnParentDeath::kKill, Path("kill"), sleeper));
  EXPECT_TRUE(DiesWithParent(OnParentDeath::kTerminate, Path("term"), sleeper));
  EXPECT_FALSE(DiesWithParent(OnParentDeath::kLive, Path("live"), sleeper));
  EXPECT_TRUE(SignalProcess(sleeper, SIGKILL));
}

TEST_F(ProcessTest, ExecutableDirectoryHoldsThisTest) {
  const auto dir = ExecutableDirectory();
  ASSERT_TRUE(dir);
  EXPECT_TRUE(std::filesystem::exists(*dir + "/base_process_test")) << *dir;
}

}  // namespace
}  // namespace freshet::base
