// SPDX-License-Identifier: Apache-2.0
// freshet backup and restore with real processes: what a backup holds is enough to go on, exactly, on
// another number of servers.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/process.h"
#include "cli/admin_client.h"
#include "stream/generator.h"
#include "tests/base/temp_dir.h"
#include "transport/event_loop.h"

namespace freshet::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kRecords = 200'000;
constexpr uint64_t kEpochs = 4;
constexpr uint64_t kTotal = kRecords * kEpochs;
constexpr uint64_t kBatch = 128;

struct Output {
  int code = -1;
  std::string out;
  std::string err;
  Json json() const { return Json::parse(out, nullptr, false); }
};

class BackupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(stream::GenerateLog({.records = kRecords}, Path("clicks.tsv"), {}));
    binaries_ = *base::ExecutableDirectory();
  }
  void TearDown() override { KillAll(); }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  static void KillAndWait(base::ProcessId pid) {
    (void)base::SignalProcess(pid, SIGKILL);
    ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
  }

  Output Freshet(std::vector<std::string> args) {
    const auto pid = base::SpawnProcess({.path = binaries_ + "/freshet",
                                         .args = std::move(args),
                                         .stdout_file = Path("out"),
                                         .stderr_file = Path("err"),
                                         .on_parent_death = base::OnParentDeath::kKill});
    EXPECT_TRUE(pid);
    int status = 0;
    ::waitpid(static_cast<pid_t>(*pid), &status, 0);
    Output output{WEXITSTATUS(status), *base::ReadFile(Path("out"), 1 << 20),
                  *base::ReadFile(Path("err"), 1 << 20)};
    std::filesystem::remove(Path("out"));
    std::filesystem::remove(Path("err"));
    return output;
  }

  void StartCluster(const std::string& name, int ps) {
    ASSERT_TRUE(base::MakeDirectories(Path(name)));
    const std::string log = Path(name) + ".log";
    const auto pid = base::SpawnProcess({.path = binaries_ + "/freshet-master",
                                         .args = {"--dir",
                                                  Path(name),
                                                  "--data",
                                                  Path("clicks.tsv"),
                                                  "--schema",
                                                  "freshet",
                                                  "--model",
                                                  "fm",
                                                  "--ps",
                                                  std::to_string(ps),
                                                  "--workers",
                                                  "2",
                                                  "--epochs",
                                                  std::to_string(kEpochs),
                                                  "--batch-size",
                                                  std::to_string(kBatch),
                                                  "--partitions",
                                                  "32",
                                                  "--heartbeat-ms",
                                                  "20",
                                                  "--checkpoint-interval-ms",
                                                  "100"},
                                         .stdout_file = log,
                                         .stderr_file = log,
                                         .on_parent_death = base::OnParentDeath::kKill});
    ASSERT_TRUE(pid) << pid.error().message;
    masters_.push_back(*pid);
  }

  // Waits for a status that `holds`; null if none came.
  Json Await(const std::string& name, const std::function<bool(const Json&)>& holds) {
    const AdminClient client(Path(name));
    const auto give_up = loop_.clock().Now() + seconds(60);
    while (loop_.clock().Now() < give_up) {
      const auto status = client.Get("/v1/status");
      if (status && TextAt(At(*status, "job"), "phase") == "failed") break;
      if (status && holds(*status)) return *status;
      loop_.RunUntil([] { return false; }, milliseconds(10));
    }
    ADD_FAILURE() << name << " did not get there: "
                  << base::ReadFile(Path(name) + ".log", 1 << 20).value_or("");
    return {};
  }
  Json AwaitRecords(const std::string& name, uint64_t records) {
    return Await(name, [records](const Json& status) {
      return NumberAt(At(status, "job"), "records_done") >= static_cast<double>(records);
    });
  }
  base::ProcessId PidOf(const Json& status, const std::string& node) const {
    for (const Json& entry : At(status, "nodes")) {
      if (TextAt(entry, "name") == node) return static_cast<int64_t>(NumberAt(entry, "pid"));
    }
    return 0;
  }
  // SIGKILL: the kernel takes a master's children with it.
  void KillAll() {
    for (const base::ProcessId pid : masters_) KillAndWait(pid);
    masters_.clear();
  }

  void ExpectExactEnd(const std::string& name) {
    const Json status =
        Await(name, [](const Json& s) { return TextAt(At(s, "job"), "phase") == "completed"; });
    EXPECT_EQ(NumberAt(At(status, "job"), "records_done"), static_cast<double>(kTotal));
    const Output audit = Freshet({"verify", "--dir", Path(name), "-o", "json"});
    EXPECT_EQ(audit.code, 0) << audit.out << audit.err;
    EXPECT_EQ(NumberAt(audit.json(), "audit_count"), static_cast<double>(kTotal));
    // What the backup held was not learnt a second time.
    EXPECT_LT(NumberAt(At(status, "job"), "steps") * kBatch, static_cast<double>(kTotal));
  }

  base::TempDir dir_;
  std::string binaries_;
  std::vector<base::ProcessId> masters_;
  transport::EventLoop loop_;
};

TEST_F(BackupTest, MadeUnderLoadItGoesOnExactlyOnAnotherNumberOfServers) {
  StartCluster("old", 2);
  AwaitRecords("old", kTotal / 4);
  const Output backup =
      Freshet({"backup", "--to", Path("copy"), "--dir", Path("old"), "-o", "json"});
  ASSERT_EQ(backup.code, 0) << backup.err;
  EXPECT_EQ(NumberAt(backup.json(), "copied"), 32);
  const Output again = Freshet({"backup", "--to", Path("copy"), "--dir", Path("old")});
  EXPECT_EQ(again.code, 4);
  EXPECT_NE(again.err.find(Path("copy")), std::string::npos) << again.err;
  const auto after = AdminClient(Path("old")).Get("/v1/status");
  ASSERT_TRUE(after);
  EXPECT_EQ(TextAt(At(*after, "job"), "phase"), "training") << "it was not made under load";
  KillAll();

  const Output restored =
      Freshet({"restore", "--from", Path("copy"), "--dir", Path("new"), "--ps", "3", "-o", "json"});
  ASSERT_EQ(restored.code, 0) << restored.err;
  EXPECT_EQ(NumberAt(restored.json(), "ps"), 3);
  const double from = NumberAt(At(restored.json(), "replay_from").at(0), "offset");
  EXPECT_GE(from, static_cast<double>(kTotal) / 8);
  EXPECT_LT(from, static_cast<double>(kTotal));
  StartCluster("new", 3);
  ExpectExactEnd("new");
  EXPECT_EQ(Freshet({"restore", "--from", Path("copy"), "--dir", Path("new")}).code, 4);
}

TEST_F(BackupTest, AServerThatIsKilledMeanwhileIsAskedAgain) {
  StartCluster("old", 3);
  const Json status = AwaitRecords("old", kTotal / 4);
  ASSERT_TRUE(base::SignalProcess(PidOf(status, "ps-1"), SIGKILL));
  const Output backup =
      Freshet({"backup", "--to", Path("copy"), "--dir", Path("old"), "-o", "json"});
  ASSERT_EQ(backup.code, 0) << backup.err;
  KillAll();
  const Output restored = Freshet({"restore", "--from", Path("copy"), "--dir", Path("new")});
  ASSERT_EQ(restored.code, 0) << restored.err;
  StartCluster("new", 1);  // all three are started: they own something
  ExpectExactEnd("new");
}

TEST_F(BackupTest, WhatCannotWorkIsRefusedWithItsCode) {
  EXPECT_EQ(Freshet({"restore", "--from", Path("none"), "--dir", Path("new")}).code, 3);
  EXPECT_EQ(Freshet({"restore", "--dir", Path("new")}).code, 2);
  EXPECT_EQ(Freshet({"backup", "--dir", Path("old")}).code, 2);
  EXPECT_EQ(Freshet({"backup", "--to", Path("copy"), "--dir", Path("old")}).code, 69);
  EXPECT_FALSE(std::filesystem::exists(Path("copy")));
}

}  // namespace
}  // namespace freshet::cli
