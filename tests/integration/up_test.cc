// SPDX-License-Identifier: Apache-2.0
// Long-running clusters of real processes: started, stopped, and killed in every part.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <set>
#include <string>

#include "base/file.h"
#include "stream/generator.h"
#include "tests/integration/up_cluster_test.h"

namespace freshet::testing {
namespace {

namespace fs = std::filesystem;
using cli::At;
using cli::Json;
using cli::NumberAt;
using cli::TextAt;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr uint64_t kRecords = 40'000;
const std::set<std::string> kNodes = {"ps-0", "ps-1", "worker-0", "worker-1"};

class UpTest : public UpClusterTest {
 protected:
  void SetUp() override { ASSERT_TRUE(stream::GenerateLog({.records = kRecords}, data_, {})); }

  std::map<std::string, std::string> Settings(uint32_t epochs) const {
    return {{"data", data_},
            {"schema", "freshet"},
            {"model", "lr"},
            {"ps", "2"},
            {"workers", "2"},
            {"epochs", std::to_string(epochs)},
            {"batch_size", "128"},
            {"partitions", "16"},
            {"heartbeat_ms", "20"},
            {"node_timeout_ms", "600"},
            {"checkpoint_interval_ms", "100"}};
  }
  void UpOrFail(const std::map<std::string, std::string>& settings) {
    const CommandOutput up = cluster_.Up(settings);
    ASSERT_EQ(up.code, 0) << up.err;
  }
  void UpAgainOrFail() {
    const CommandOutput up = cluster_.Freshet({"up"});
    ASSERT_EQ(up.code, 0) << up.err;
  }
  void ExpectExact(uint64_t records) {
    const CommandOutput audit = cluster_.Freshet({"verify", "-o", "json"});
    EXPECT_EQ(audit.code, 0) << audit.out << audit.err;
    if (records > 0) {
      EXPECT_EQ(NumberAt(audit.json(), "audit_count"), records);
    }
  }
  void ExpectExactEnd(uint32_t epochs) {
    const Json status = cluster_.AwaitPhase("completed");
    EXPECT_EQ(RecordsOf(status), epochs * kRecords);
    ExpectExact(epochs * kRecords);
  }
  void DownOrFail() {
    const CommandOutput down = cluster_.Freshet({"down"});
    EXPECT_EQ(down.code, 0) << down.err;
    EXPECT_TRUE(cluster_.Processes().empty());
  }
  static std::map<std::string, double> PidsOf(const Json& status) {
    std::map<std::string, double> pids;
    for (const std::string& name : kNodes) pids[name] = NumberAt(NodeOf(status, name), "pid");
    return pids;
  }
};

TEST_F(UpTest, RunsInTheBackgroundUntilItIsTakenDown) {
  EXPECT_EQ(cluster_.Freshet({"down"}).code, 69);
  const CommandOutput nothing = cluster_.Freshet({"up"});
  EXPECT_EQ(nothing.code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("freshet up --example"));
  UpOrFail(Settings(1000));
  const Json status = cluster_.AwaitRecords(1000);
  for (const std::string& name : kNodes) {
    EXPECT_EQ(TextAt(NodeOf(status, name), "state"), "running") << name;
  }
  EXPECT_EQ(cluster_.Processes().size(), 6u);
  const CommandOutput second = cluster_.Up(Settings(1000));
  EXPECT_EQ(second.code, 4);
  EXPECT_THAT(second.err, HasSubstr("already runs"));
  EXPECT_EQ(cluster_.Freshet({"checkpoint"}).code, 0);
  ExpectExact(0);
  DownOrFail();
  EXPECT_EQ(cluster_.Freshet({"down"}).code, 69);
  EXPECT_EQ(cluster_.Freshet({"status"}).code, 69);
}

TEST_F(UpTest, WhatIsWrongIsSaidBeforeAnythingIsStarted) {
  auto settings = Settings(1);
  settings["wokers"] = "3";
  CommandOutput up = cluster_.Up(settings);
  EXPECT_EQ(up.code, 2);
  EXPECT_THAT(up.err, HasSubstr("cluster.yaml:11: wokers: unknown key; did you mean workers?"));
  settings = Settings(1);
  settings["data"] = dir_.path() + "/nothing.tsv";
  EXPECT_EQ(cluster_.Up(settings).code, 3);
  settings = Settings(1);
  settings["schema"] = "movie";
  EXPECT_NE(cluster_.Up(settings).code, 0);
  settings = Settings(1);
  settings["model_config"] = "[dimm=3]";
  up = cluster_.Up(settings);
  EXPECT_EQ(up.code, 2);
  EXPECT_THAT(up.err, HasSubstr("dimm"));
  settings = Settings(1);
  settings["ps"] = "0";
  EXPECT_EQ(cluster_.Up(settings).code, 2);
  EXPECT_FALSE(fs::exists(cluster_.dir()));
  EXPECT_TRUE(cluster_.Processes().empty());
}

TEST_F(UpTest, ExampleIsAFileThatUpCanRead) {
  const CommandOutput example = cluster_.Freshet({"up", "--example"});
  ASSERT_EQ(example.code, 0);
  EXPECT_THAT(example.out, HasSubstr("\n# parameter servers (1 to 1024)\n#ps: 1\n"));
  std::string yaml = example.out;
  const size_t at = yaml.find("data: clicks.tsv");
  ASSERT_NE(at, std::string::npos);
  yaml.replace(at, 16, "data: " + data_);
  const std::string file = dir_.path() + "/example.yaml";
  ASSERT_TRUE(base::WriteFileAtomic(file, yaml));
  const CommandOutput up = cluster_.Freshet({"up", "-f", file});
  EXPECT_EQ(up.code, 0) << up.err;
  DownOrFail();
}

TEST_F(UpTest, AnotherJobInTheSameDirectoryIsRefused) {
  UpOrFail(Settings(1));
  ExpectExactEnd(1);
  DownOrFail();
  auto settings = Settings(1);
  settings["partitions"] = "32";
  CommandOutput up = cluster_.Up(settings);
  EXPECT_EQ(up.code, 4);
  EXPECT_THAT(up.err, HasSubstr("partitions was 16, not 32"));
  settings = Settings(1);
  settings["data"] = dir_.path() + "/other.tsv";
  fs::copy_file(data_, settings["data"]);
  up = cluster_.Up(settings);
  EXPECT_EQ(up.code, 4);
  EXPECT_THAT(up.err, HasSubstr("other.tsv"));
  EXPECT_TRUE(cluster_.Processes().empty());
  // What was refused is not what the cluster goes on with.
  UpAgainOrFail();
  ExpectExactEnd(1);
  DownOrFail();
  // A log may become longer.
  UpOrFail(Settings(2));
  ExpectExactEnd(2);
}

TEST_F(UpTest, RecordsFlowWhileTheMasterIsAwayAndItsSuccessorAdoptsEverybody) {
  UpOrFail(Settings(1000));
  // Once the master knows how fast they are, workers have work for longer than it is away.
  const Json fast = cluster_.AwaitStatus([](const Json& status) {
    return NumberAt(NodeOf(status, "worker-0"), "records_per_sec") > 0 &&
           NumberAt(NodeOf(status, "worker-1"), "records_per_sec") > 0;
  });
  const Json before = cluster_.AwaitRecords(RecordsOf(fast) + 2 * kRecords);
  ASSERT_FALSE(before.is_null());
  cluster_.Signal("supervisor", SIGSTOP);
  cluster_.Signal("master", SIGKILL);
  ASSERT_TRUE(cluster_.Await([&] { return !cluster_.Processes().contains("master"); }));
  // Only what changed is written: new images are new records.
  const fs::path images = cluster_.dir() + "/ps-0/images/data.mdb";
  for (int round = 0; round < 4; ++round) {
    const auto written = fs::last_write_time(images);
    ASSERT_TRUE(cluster_.Await([&] { return fs::last_write_time(images) != written; }));
  }
  EXPECT_EQ(cluster_.Freshet({"status"}).code, 69);
  cluster_.Signal("supervisor", SIGCONT);
  const Json after = cluster_.AwaitRecords(RecordsOf(before) + 1);
  const Json later = cluster_.AwaitRecords(RecordsOf(after) + kRecords);
  EXPECT_EQ(PidsOf(later), PidsOf(before));
  for (const std::string& name : kNodes) {
    EXPECT_EQ(NumberAt(NodeOf(later, name), "restarts", -1), 0) << name;
    EXPECT_EQ(NumberAt(NodeOf(later, name), "incarnation"),
              NumberAt(NodeOf(before, name), "incarnation"));
  }
  EXPECT_EQ(NumberAt(At(later, "job"), "conflicts", -1), 0) << "leases were adopted";
  EXPECT_EQ(NumberAt(At(later, "job"), "replayed_records", -1), 0);
  ExpectExact(0);
  DownOrFail();
}

TEST_F(UpTest, AMasterThatDiesAfterTheEndComesBackToTheEnd) {
  UpOrFail(Settings(3));
  ExpectExactEnd(3);
  const Json before = cluster_.AwaitPhase("completed");
  const auto processes = cluster_.Processes();
  cluster_.Signal("master", SIGKILL);
  ASSERT_TRUE(cluster_.Await([&] {
    const auto now = cluster_.Processes();
    return now.contains("master") && now.at("master") != processes.at("master");
  }));
  ExpectExactEnd(3);
  // The steps are known again when every worker has been heard.
  const Json after = cluster_.AwaitStatus([&](const Json& status) {
    const Json& job = At(status, "job");
    return TextAt(job, "phase") == "completed" &&
           NumberAt(job, "steps") >= NumberAt(At(before, "job"), "steps");
  });
  EXPECT_EQ(PidsOf(after), PidsOf(before));
}

TEST_F(UpTest, EverythingKilledGoesOnFromWhatIsDurable) {
  UpOrFail(Settings(30));
  for (const uint64_t records : {2 * kRecords, 8 * kRecords, 14 * kRecords}) {
    ASSERT_FALSE(cluster_.AwaitRecords(records).is_null());
    cluster_.KillAll();
    EXPECT_EQ(cluster_.Freshet({"down"}).code, 69);
    UpAgainOrFail();
  }
  ExpectExactEnd(30);
  DownOrFail();
}

TEST_F(UpTest, WhatPlansMadeOfTheClusterIsWhatComesBack) {
  UpOrFail(Settings(100'000));
  ASSERT_EQ(cluster_.Freshet({"scale", "--ps", "1", "--workers", "3", "--wait"}).code, 0);
  cluster_.KillAll();
  UpAgainOrFail();
  const auto processes = cluster_.Processes();
  EXPECT_TRUE(processes.contains("worker-2"));
  EXPECT_EQ(processes.contains("ps-0") + processes.contains("ps-1"), 1);
  // A plan that had no time to begin is not forgotten either.
  ASSERT_EQ(cluster_.Freshet({"scale", "--ps", "3"}).code, 0);
  cluster_.KillAll();
  UpAgainOrFail();
  const auto status = cluster_.AwaitStatus([](const Json& s) { return RecordsOf(s) > 0; });
  EXPECT_EQ(NumberAt(cli::At(status, "wanted"), "ps"), 3);
  ExpectExact(0);
  DownOrFail();
}

TEST_F(UpTest, SupervisorKilledAndBackTakesTheClusterAsItIs) {
  UpOrFail(Settings(1000));
  const Json before = cluster_.AwaitRecords(1000);
  const auto processes = cluster_.Processes();
  cluster_.Signal("supervisor", SIGKILL);
  ASSERT_TRUE(cluster_.Await([&] { return !cluster_.Processes().contains("supervisor"); }));
  auto settings = Settings(1000);
  settings["workers"] = "3";
  EXPECT_EQ(cluster_.Up(settings).code, 4) << "other settings than those it runs with";
  UpAgainOrFail();
  auto now = cluster_.Processes();
  EXPECT_NE(now["supervisor"], processes.at("supervisor"));
  now["supervisor"] = processes.at("supervisor");
  EXPECT_EQ(now, processes);
  DownOrFail();
}

TEST_F(UpTest, NothingIsReplayedAfterADrainedStop) {
  UpOrFail(Settings(25));
  ASSERT_FALSE(cluster_.AwaitRecords(3 * kRecords).is_null());
  DownOrFail();
  UpAgainOrFail();
  ASSERT_FALSE(cluster_.AwaitRecords(6 * kRecords).is_null());
  // The same by a signal.
  cluster_.Signal("supervisor", SIGTERM);
  ASSERT_TRUE(cluster_.Await([&] { return cluster_.Processes().empty(); }));
  UpAgainOrFail();
  const Json end = cluster_.AwaitPhase("completed");
  EXPECT_EQ(NumberAt(At(end, "job"), "replayed_records", -1), 0);
  EXPECT_EQ(NumberAt(At(end, "job"), "conflicts", -1), 0);
  for (const std::string& name : kNodes) {
    EXPECT_EQ(NumberAt(NodeOf(end, name), "restarts"), 0) << name;
  }
  ExpectExactEnd(25);
  DownOrFail();
}

TEST_F(UpTest, AWorkerFromAnotherShellIsUsedAtOnceAndNotRestarted) {
  UpOrFail(Settings(1000));
  ASSERT_FALSE(cluster_.AwaitRecords(1000).is_null());
  const auto address = base::ReadFile(cluster_.dir() + "/master/address", 100);
  ASSERT_TRUE(address);
  const auto guest = cluster_.Start("freshet-worker", {"--master", *address});
  ASSERT_TRUE(guest);
  ASSERT_FALSE(cluster_
                   .AwaitStatus([](const Json& status) {
                     return NumberAt(NodeOf(status, "worker-2"), "records_per_sec") > 0;
                   })
                   .is_null());
  ASSERT_TRUE(base::SignalProcess(*guest, SIGKILL));
  const Json lost = cluster_.AwaitStatus(
      [](const Json& status) { return TextAt(NodeOf(status, "worker-2"), "state") == "lost"; });
  EXPECT_EQ(NumberAt(NodeOf(lost, "worker-2"), "restarts", -1), 0);
  const auto second = cluster_.Start("freshet-worker", {"--master", *address});
  ASSERT_TRUE(second);
  ASSERT_FALSE(cluster_
                   .AwaitStatus([](const Json& status) {
                     return TextAt(NodeOf(status, "worker-3"), "state") == "running";
                   })
                   .is_null());
  ExpectExact(0);
  DownOrFail();
  EXPECT_EQ(cluster_.AwaitExit(*second, seconds(5)), 0) << "it was asked to leave as well";
}

TEST_F(UpTest, AHungWorkerIsHarmlessAndWorksAgain) {
  UpOrFail(Settings(25));
  const Json before = cluster_.AwaitRecords(kRecords);
  cluster_.Signal("worker-0", SIGSTOP);
  const auto state_is = [this](const std::string& node, const std::string& state) {
    return cluster_.AwaitStatus(
        [&](const Json& status) { return TextAt(NodeOf(status, node), "state") == state; });
  };
  const Json lost = state_is("worker-0", "lost");
  ASSERT_FALSE(lost.is_null());
  ASSERT_FALSE(cluster_.AwaitRecords(RecordsOf(lost) + kRecords).is_null());
  cluster_.Signal("worker-0", SIGCONT);
  const Json back = state_is("worker-0", "running");
  EXPECT_EQ(PidsOf(back), PidsOf(before));
  EXPECT_EQ(NumberAt(NodeOf(back, "worker-0"), "incarnation"),
            NumberAt(NodeOf(before, "worker-0"), "incarnation"));
  ExpectExactEnd(25);
  DownOrFail();
}

TEST_F(UpTest, AHungServerIsKilledAndComesBack) {
  auto settings = Settings(25);
  settings["hung_timeout_ms"] = "1200";
  UpOrFail(settings);
  const Json before = cluster_.AwaitRecords(kRecords);
  cluster_.Signal("ps-1", SIGSTOP);
  const Json back = cluster_.AwaitStatus([](const Json& status) {
    const Json ps = NodeOf(status, "ps-1");
    return NumberAt(ps, "restarts") == 1 && TextAt(ps, "state") == "running";
  });
  auto expected = PidsOf(before);
  expected["ps-1"] = NumberAt(NodeOf(back, "ps-1"), "pid");
  EXPECT_NE(expected, PidsOf(before));
  EXPECT_EQ(PidsOf(back), expected) << "the others were left alone";
  ExpectExactEnd(25);
  const CommandOutput events = cluster_.Freshet({"events"});
  for (const char* kind : {"node_lost", "node_killed", "node_exited", "ps_serving"}) {
    EXPECT_THAT(events.out, HasSubstr(kind));
  }
  DownOrFail();
}

TEST_F(UpTest, AMasterThatCannotBeKeptRunningIsGivenUpLoudly) {
  UpOrFail(Settings(1000));
  ASSERT_FALSE(cluster_.AwaitRecords(1000).is_null());
  fs::remove(cluster_.dir() + "/cluster.yaml");
  cluster_.Signal("master", SIGKILL);
  EXPECT_TRUE(
      cluster_.Await([&] { return !cluster_.Processes().contains("supervisor"); }, seconds(50)));
  const auto log = base::ReadFile(cluster_.dir() + "/logs/supervisor.log", 1 << 20);
  ASSERT_TRUE(log);
  EXPECT_THAT(*log, HasSubstr("given up"));
  EXPECT_THAT(cluster_.Freshet({"down"}).err, HasSubstr("freshet up takes it over"));
  UpOrFail(Settings(1000));
  ExpectExact(0);
  DownOrFail();
}

TEST_F(UpTest, ThreeShellsMakeTheSameCluster) {
  const std::string& dir = cluster_.dir();
  const std::vector<std::string> master = {
      "--launcher", "none",    "--dir",        dir,  "--data",         data_,
      "--schema",   "freshet", "--model",      "lr", "--epochs",       "1000",
      "--workers",  "1",       "--partitions", "16", "--heartbeat-ms", "20"};
  const auto first = cluster_.Start("freshet-master", master);
  ASSERT_TRUE(first);
  std::string address;
  ASSERT_TRUE(cluster_.Await([&] {
    address = base::ReadFile(dir + "/master/address", 100).value_or("");
    return !address.empty();
  }));
  const auto ps =
      cluster_.Start("freshet-ps", {"--name", "ps-0", "--master", address, "--dir", dir + "/ps-0"});
  const auto worker = cluster_.Start("freshet-worker", {"--master", address});
  ASSERT_TRUE(ps && worker);
  ASSERT_FALSE(cluster_.AwaitRecords(1000).is_null());

  const auto second = cluster_.Start("freshet-master", master);
  ASSERT_TRUE(second);
  EXPECT_EQ(cluster_.AwaitExit(*second, seconds(10)), 4);
  const auto said = base::ReadFile(dir_.path() + "/by-hand.log", 1 << 20);
  EXPECT_THAT(*said, HasSubstr(dir + "/master is in use by another process"));

  ASSERT_TRUE(base::SignalProcess(*first, SIGKILL));
  ASSERT_EQ(cluster_.AwaitExit(*first, seconds(10)), 137);
  const auto third = cluster_.Start("freshet-master", master);
  ASSERT_TRUE(third);
  const Json status = cluster_.AwaitRecords(1000);
  EXPECT_EQ(NumberAt(NodeOf(status, "ps-0"), "pid"), *ps);
  EXPECT_EQ(NumberAt(NodeOf(status, "worker-0"), "pid"), *worker);
  EXPECT_EQ(cluster_.Freshet({"checkpoint"}).code, 0);
  ExpectExact(0);
  EXPECT_EQ(cluster_.Freshet({"down"}).code, 0);
  for (const base::ProcessId pid : {*third, *ps, *worker}) {
    EXPECT_EQ(cluster_.AwaitExit(pid, seconds(10)), 0);
  }
}

}  // namespace
}  // namespace freshet::testing
