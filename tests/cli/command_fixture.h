// SPDX-License-Identifier: Apache-2.0
// Runs the real `freshet` beside a freshet-master that is a fake, in a directory of its own.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/process.h"

namespace freshet::cli {

struct CommandResult {
  int code = -1;
  std::string out;
  std::string err;
};

class CommandFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "cli_test.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    // Hard links: a program finds its siblings by its own real place.
    const auto built = base::ExecutableDirectory();
    ASSERT_TRUE(built);
    InstallProgram(*built + "/freshet", "freshet");
    InstallProgram(*built + "/cli_fake_master", "freshet-master");
    std::ofstream(Path("ratings.csv")) << "userId,movieId,rating,timestamp\n1,2,4.0,964982703\n";
  }
  void TearDown() override {
    for (const base::ProcessId pid : background_) {
      static_cast<void>(base::SignalProcess(pid, SIGKILL));
      ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
    }
    std::filesystem::remove_all(root_);
  }

  std::string Path(const std::string& name) const { return root_ + "/" + name; }
  static std::string ReadAll(const std::string& path) {
    std::stringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  }

  base::SpawnOptions Freshet(std::vector<std::string> args, const std::string& mode) const {
    return {.path = Path("freshet"),
            .args = std::move(args),
            .environment = {"FAKE_MASTER=" + mode},
            .stdout_file = Path("out"),
            .stderr_file = Path("err")};
  }
  CommandResult Run(std::vector<std::string> args, const std::string& mode = "complete") {
    for (const char* file : {"out", "err"}) std::filesystem::remove(Path(file));
    const auto pid = base::SpawnProcess(Freshet(std::move(args), mode));
    EXPECT_TRUE(pid) << pid.error().message;
    return {Wait(*pid).code, ReadAll(Path("out")), ReadAll(Path("err"))};
  }
  std::vector<std::string> Train(std::vector<std::string> more = {}) const {
    std::vector<std::string> args = {"train",    "--data",    Path("ratings.csv"),
                                     "--schema", "movielens", "--model",
                                     "lr",       "--dir",     Path("run")};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  static base::ExitedProcess Wait(base::ProcessId pid) {
    siginfo_t info;
    EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
    return base::ReapProcess(pid).value_or(base::ExitedProcess{});
  }

  // A fake master alone, for the commands that ask a running cluster.
  void StartMaster(const std::string& mode) {
    std::filesystem::create_directories(Path("run/logs"));
    const auto pid = base::SpawnProcess({.path = Path("freshet-master"),
                                         .args = {"--dir", Path("run")},
                                         .environment = {"FAKE_MASTER=" + mode},
                                         .stdout_file = Path("run/logs/master.log")});
    ASSERT_TRUE(pid) << pid.error().message;
    background_.push_back(*pid);
    for (int i = 0; i < 2000 && !std::filesystem::exists(Path("run/admin.sock")); ++i) {
      ::poll(nullptr, 0, 5);
    }
    ASSERT_TRUE(std::filesystem::exists(Path("run/admin.sock")));
  }

  std::string root_;
  std::vector<base::ProcessId> background_;

 private:
  void InstallProgram(const std::string& built, const std::string& name) const {
    std::error_code error;
    std::filesystem::create_hard_link(built, Path(name), error);
    if (error) std::filesystem::copy_file(built, Path(name));
  }
};

}  // namespace freshet::cli
