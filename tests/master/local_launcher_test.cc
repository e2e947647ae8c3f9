// SPDX-License-Identifier: Apache-2.0
#include "master/local_launcher.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace freshet::master {
namespace {

namespace fs = std::filesystem;

// Shell scripts stand in for the daemons: they print their arguments and do as told by the last one.
class LocalLauncherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "launcher_test.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    for (const char* name : {"freshet-ps", "freshet-worker"}) WriteProgram(name);
  }
  void TearDown() override { fs::remove_all(dir_); }

  void WriteProgram(const std::string& name) const {
    std::ofstream(dir_ + "/" + name) << "#!/bin/sh\n"
                                        "echo \"${0##*/} $*\"\n"
                                        "for last; do :; done\n"
                                        "case $last in\n"
                                        "  wait) exec sleep 1000;;\n"
                                        "  *) exit $last;;\n"
                                        "esac\n";
    fs::permissions(dir_ + "/" + name, fs::perms::owner_all);
  }
  LocalLauncherOptions Options() const {
    return {.dir = dir_ + "/cluster", .master_address = "tcp://127.0.0.1:7", .binary_dir = dir_};
  }
  static void AwaitEnd(int64_t pid) {
    siginfo_t info;
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  }
  std::string Log(const std::string& name) const {
    std::stringstream out;
    out << std::ifstream(dir_ + "/cluster/logs/" + name + ".log").rdbuf();
    return out.str();
  }

  std::string dir_;
};

TEST_F(LocalLauncherTest, NodeGetsItsNameMasterDirectoryAndLog) {
  LocalLauncher launcher(Options());
  const auto ps = launcher.Start({"ps-0", NodeRole::kPs, {"--partitions", "5"}});
  ASSERT_TRUE(ps) << ps.error().message;
  AwaitEnd(*ps);
  const auto exits = launcher.ReapExited();
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0].name, "ps-0");
  EXPECT_EQ(exits[0].pid, *ps);
  EXPECT_EQ(exits[0].how, "exit 5");
  EXPECT_EQ(exits[0].code, 5);
  EXPECT_EQ(Log("ps-0"), "freshet-ps --name ps-0 --master tcp://127.0.0.1:7 --dir " + dir_ +
                             "/cluster/ps-0 --partitions 5\n");
  EXPECT_TRUE(fs::is_directory(dir_ + "/cluster/ps-0"));
}

TEST_F(LocalLauncherTest, RestartAppendsToTheLog) {
  LocalLauncher launcher(Options());
  for (int round = 0; round < 2; ++round) {
    const auto pid = launcher.Start({"worker-1", NodeRole::kWorker, {"0"}});
    ASSERT_TRUE(pid);
    AwaitEnd(*pid);
    EXPECT_EQ(launcher.ReapExited().at(0).how, "exit 0");
  }
  const std::string log = Log("worker-1");
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2);
  EXPECT_EQ(log.rfind("freshet-worker --name worker-1 ", 0), 0u);
}

TEST_F(LocalLauncherTest, RunningNameIsAConflictUntilItsEndIsReported) {
  LocalLauncher launcher(Options());
  const auto pid = launcher.Start({"ps-0", NodeRole::kPs, {"wait"}});
  ASSERT_TRUE(pid);
  EXPECT_EQ(launcher.Start({"ps-0", NodeRole::kPs, {"wait"}}).error().code,
            base::ErrorCode::kConflict);
  EXPECT_TRUE(launcher.ReapExited().empty());
  launcher.Stop("ps-0", StopMode::kKill);
  AwaitEnd(*pid);
  EXPECT_FALSE(launcher.Start({"ps-0", NodeRole::kPs, {"wait"}}));
  const auto exits = launcher.ReapExited();
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0].how, "signal 9");
  EXPECT_EQ(exits[0].code, 137);
  EXPECT_TRUE(launcher.ReapExited().empty());
}

TEST_F(LocalLauncherTest, DrainAsksWithSigtermAndOthersStay) {
  LocalLauncher launcher(Options());
  const auto first = launcher.Start({"ps-0", NodeRole::kPs, {"wait"}});
  const auto second = launcher.Start({"ps-1", NodeRole::kPs, {"wait"}});
  ASSERT_TRUE(first && second);
  launcher.Stop("ps-0", StopMode::kDrain);
  launcher.Stop("nobody", StopMode::kKill);
  AwaitEnd(*first);
  const auto exits = launcher.ReapExited();
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0].how, "signal 15");
  EXPECT_EQ(launcher.running(), 1u);
  launcher.Stop("ps-1", StopMode::kKill);
  AwaitEnd(*second);
  EXPECT_EQ(launcher.ReapExited().size(), 1u);
}

TEST_F(LocalLauncherTest, MissingProgramAndBadNamesAreErrors) {
  LocalLauncher launcher(Options());
  fs::remove(dir_ + "/freshet-worker");
  const auto missing = launcher.Start({"worker-0", NodeRole::kWorker});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, base::ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("freshet-worker"), std::string::npos);
  for (const char* name : {"", "..", "a/b", "-x", "a b"}) {
    EXPECT_EQ(launcher.Start({name, NodeRole::kPs}).error().code, base::ErrorCode::kInvalidArgument)
        << name;
  }
  EXPECT_EQ(launcher.running(), 0u);
}

TEST_F(LocalLauncherTest, DirectoryThatCannotBeMadeIsNamed) {
  LocalLauncherOptions options = Options();
  options.dir = dir_ + "/freshet-ps/not-a-directory";
  LocalLauncher launcher(options);
  const auto pid = launcher.Start({"ps-0", NodeRole::kPs});
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().code, base::ErrorCode::kIo);
  EXPECT_NE(pid.error().message.find("not-a-directory"), std::string::npos);
}

TEST(NoLauncher, StartsNothingAndSaysWhatToDo) {
  NoLauncher launcher;
  EXPECT_FALSE(launcher.manages_processes());
  const auto pid = launcher.Start({"ps-0", NodeRole::kPs});
  ASSERT_FALSE(pid);
  EXPECT_NE(pid.error().message.find("ps-0"), std::string::npos);
}

}  // namespace
}  // namespace freshet::master
