// SPDX-License-Identifier: Apache-2.0
// status, verify, checkpoint, events, logs, generate and help, by running the real program.
#include <nlohmann/json.hpp>

#include "tests/cli/command_fixture.h"

namespace freshet::cli {
namespace {

using Json = nlohmann::ordered_json;

class QueryCommands : public CommandFixture {};

TEST_F(QueryCommands, WithoutAClusterEveryQuestionIsUnreachableAndSaysWhere) {
  for (const char* command : {"status", "verify", "checkpoint", "events"}) {
    const CommandResult result = Run({command, "--dir", Path("nowhere"), "-o", "json"});
    EXPECT_EQ(result.code, 69) << command;
    EXPECT_EQ(result.out, "") << command;
    EXPECT_NE(result.err.find("is a cluster running in " + Path("nowhere") + "?"),
              std::string::npos)
        << result.err;
  }
}

TEST_F(QueryCommands, StaleSocketIsUnreachable) {
  StartMaster("endless");
  ASSERT_TRUE(base::SignalProcess(background_.back(), SIGKILL));
  Wait(background_.back());
  background_.clear();
  ASSERT_TRUE(std::filesystem::exists(Path("run/admin.sock")));
  EXPECT_EQ(Run({"status", "--dir", Path("run")}).code, 69);
}

TEST_F(QueryCommands, WrongUseIsCodeTwo) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"frob"},
      {"help", "frob"},
      {"status", "extra"},
      {"status", "--frob"},
      {"status", "-o", "yaml"},
      {"logs"},
      {"logs", "ps-0", "ps-1"},
      {"generate"},
      {"generate", "--out", Path("x"), "--records", "0"},
      {"generate", "--out", Path("x"), "--records", "many"},
  };
  for (const auto& args : wrong) {
    const CommandResult result = Run(args);
    EXPECT_EQ(result.code, 2) << (args.empty() ? "" : args[0]) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err, "");
  }
  EXPECT_NE(Run({"statsu"}).err.find("did you mean 'status'?"), std::string::npos);
}

TEST_F(QueryCommands, HelpNamesEveryCommandAndEachHasItsOwn) {
  const CommandResult help = Run({"help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_EQ(help.err, "");
  for (const char* command :
       {"train", "status", "verify", "checkpoint", "events", "logs", "generate"}) {
    EXPECT_NE(help.out.find(std::string("  ") + command + " "), std::string::npos) << command;
    const CommandResult own = Run({"help", command});
    EXPECT_EQ(own.code, 0);
    EXPECT_NE(own.out.find(std::string("freshet ") + command), std::string::npos);
    EXPECT_EQ(Run({command, "--help"}).out, own.out);
  }
  EXPECT_EQ(Run({"version"}).out.rfind("freshet ", 0), 0u);
}

TEST_F(QueryCommands, StatusIsATableForPeople) {
  StartMaster("endless");
  const CommandResult result = Run({"status", "--dir", Path("run")});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out,
            "job fake: training, 50000 of 200000 records, 50000 records/s, auc 0.7100, "
            "log loss 0.5123\n\n"
            "NAME      ROLE    STATE    RESTARTS  AGE    PARTITIONS  ROWS   MEMORY   CPUS\n"
            "ps-0      ps      running  0         1h02m  256         12345  3.0 MiB  -\n"
            "worker-0  worker  running  2         1h02m  -           -      -        -\n");
}

TEST_F(QueryCommands, StatusAsJsonIsWhatTheMasterSaid) {
  StartMaster("endless");
  const CommandResult result = Run({"status", "--dir", Path("run"), "-o", "json"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const Json status = Json::parse(result.out);
  EXPECT_EQ(status["job"]["records_total"], 200000);
  EXPECT_EQ(status["nodes"][1]["name"], "worker-0");
  EXPECT_EQ(status["nodes"][1]["pid"], 72);
}

TEST_F(QueryCommands, VerifyFailsWithCodeOneWhenTheAuditFails) {
  StartMaster("bad_audit");
  const CommandResult text = Run({"verify", "--dir", Path("run")});
  EXPECT_EQ(text.code, 1);
  EXPECT_EQ(text.out,
            "audit FAILED: 50001 records counted, 50000 expected (50000 done, 0 dead-lettered)\n");
  const CommandResult json = Run({"verify", "--dir", Path("run"), "-o", "json"});
  EXPECT_EQ(json.code, 1);
  EXPECT_EQ(Json::parse(json.out)["ok"], false);
}

TEST_F(QueryCommands, VerifyAndCheckpointSucceed) {
  StartMaster("endless");
  EXPECT_EQ(Run({"verify", "--dir", Path("run")}).code, 0);
  EXPECT_EQ(Run({"checkpoint", "--dir", Path("run")}).out, "checkpoint saved in 0.125 s\n");
  EXPECT_EQ(Json::parse(Run({"checkpoint", "--dir", Path("run"), "-o", "json"}).out)["seconds"],
            0.125);
}

TEST_F(QueryCommands, EventsAreLinesOrOneDocument) {
  StartMaster("endless");
  const CommandResult text = Run({"events", "--dir", Path("run")});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(text.out,
            "2023-11-14T22:13:20.123Z  node_exited      worker-0   pid 72: signal 9\n"
            "2023-11-14T22:13:21.000Z  checkpoint       -          checkpoint saved in 0.1 s, 2 "
            "servers\n");
  const Json all = Json::parse(Run({"events", "--dir", Path("run"), "-o", "json"}).out);
  ASSERT_EQ(all["events"].size(), 2u);
  EXPECT_EQ(all["events"][1]["seq"], 2);
}

TEST_F(QueryCommands, FollowedEventsEndWithTheCluster) {
  StartMaster("endless");
  const auto pid =
      base::SpawnProcess(Freshet({"events", "--dir", Path("run"), "-f", "-o", "json"}, "endless"));
  ASSERT_TRUE(pid);
  // It has printed what there is once the file has two lines.
  for (int i = 0; i < 2000 && ReadAll(Path("out")).find("2 servers") == std::string::npos; ++i) {
    ::poll(nullptr, 0, 5);
  }
  ASSERT_TRUE(base::SignalProcess(background_.back(), SIGTERM));
  EXPECT_EQ(Wait(*pid).code, 0);
  const std::string out = ReadAll(Path("out"));
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 2);
  EXPECT_EQ(Json::parse(out.substr(0, out.find('\n')))["seq"], 1);
  EXPECT_NE(ReadAll(Path("err")).find("the cluster has ended"), std::string::npos);
}

TEST_F(QueryCommands, LogsOfANodeWithoutARunningCluster) {
  std::filesystem::create_directories(Path("run/logs"));
  std::ofstream(Path("run/logs/ps-0.log")) << "one\ntwo\nthree\n";
  std::ofstream(Path("run/logs/worker-0.log")) << "";
  EXPECT_EQ(Run({"logs", "ps-0", "--dir", Path("run")}).out, "one\ntwo\nthree\n");
  EXPECT_EQ(Run({"logs", "ps-0", "--dir", Path("run"), "--tail", "2"}).out, "two\nthree\n");
  EXPECT_EQ(Run({"logs", "worker-0", "--dir", Path("run")}).code, 0);
  for (const char* node : {"ps-9", "../secret", ".", "", "logs/ps-0"}) {
    const CommandResult result = Run({"logs", node, "--dir", Path("run")});
    EXPECT_EQ(result.code, 3) << node;
    EXPECT_NE(result.err.find("there are: ps-0, worker-0"), std::string::npos) << result.err;
  }
  EXPECT_EQ(Run({"logs", "ps-0", "--dir", Path("nowhere")}).code, 3);
}

TEST_F(QueryCommands, GenerateIsDeterministicAndSaysTheBestAuc) {
  const CommandResult first =
      Run({"generate", "--records", "2000", "--seed", "7", "--out", Path("a.tsv"), "-o", "json"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.err, "");
  const Json made = Json::parse(first.out);
  EXPECT_EQ(made["records"], 2000);
  EXPECT_EQ(made["bytes"], std::filesystem::file_size(Path("a.tsv")));
  EXPECT_GT(made["best_auc"].get<double>(), 0.6);
  EXPECT_LT(made["best_auc"].get<double>(), 0.95);
  EXPECT_EQ(Run({"generate", "--records", "2000", "--seed", "7", "--out", Path("b.tsv")}).code, 0);
  EXPECT_EQ(ReadAll(Path("a.tsv")), ReadAll(Path("b.tsv")));
  const CommandResult again = Run({"generate", "--records", "10", "--out", Path("a.tsv")});
  EXPECT_EQ(again.code, 4);
  EXPECT_NE(again.err.find("--force"), std::string::npos);
  EXPECT_EQ(Run({"generate", "--records", "10", "--out", Path("a.tsv"), "--force"}).code, 0);
  EXPECT_EQ(Run({"generate", "--records", "10", "--out", Path("no/such/a.tsv")}).code, 3);
}

}  // namespace
}  // namespace freshet::cli
