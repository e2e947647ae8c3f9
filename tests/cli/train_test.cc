// SPDX-License-Identifier: Apache-2.0
// `freshet train` by running the real program against a fake master.
#include <nlohmann/json.hpp>

#include "tests/cli/command_fixture.h"

namespace freshet::cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

class Train : public CommandFixture {
 protected:
  std::string Requests() const { return ReadAll(Path("run/requests.txt")); }
  // Blocks until the running command has said `word` on stderr.
  void AwaitWord(const std::string& word) const {
    for (int i = 0; i < 4000 && ReadAll(Path("err")).find(word) == std::string::npos; ++i) {
      ::poll(nullptr, 0, 5);
    }
    ASSERT_NE(ReadAll(Path("err")).find(word), std::string::npos) << ReadAll(Path("err"));
  }
};

TEST_F(Train, SummaryIsDataOnStdoutAndProgressIsWordsOnStderr) {
  const CommandResult result = Run(CommandFixture::Train({"-o", "json"}));
  EXPECT_EQ(result.code, 0) << result.err;
  const Json summary = Json::parse(result.out);
  EXPECT_EQ(summary["records"], 200000);
  EXPECT_EQ(summary["audit"]["ok"], true);
  EXPECT_NE(result.err.find("global_step/sec: 97.7  records/sec: 50000  records: 0/200000  auc: -  "
                            "loss: -\n"),
            std::string::npos)
      << result.err;
  EXPECT_NE(result.err.find("records: 200000/200000  auc: 0.7412  loss: 0.5123\n"),
            std::string::npos)
      << result.err;
  EXPECT_NE(result.err.find("checkpoint saved in 0.1 s, 2 servers\n"), std::string::npos);
  EXPECT_NE(result.err.find("node exited  worker-0: pid 72: signal 9\n"), std::string::npos);
  EXPECT_NE(Requests().find("POST /v1/stop\n"), std::string::npos);
  EXPECT_FALSE(fs::exists(Path("run/admin.sock")));
}

TEST_F(Train, TextSummaryIsForPeople) {
  const CommandResult result = Run(CommandFixture::Train());
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out,
            "200000 records in 4.50 s, 44444 records/s\n"
            "auc 0.7412  log loss 0.5123\n"
            "0 dead-lettered, 5 duplicates dropped, 2 restarts\n"
            "audit ok: 200000 records counted, 200000 expected\n"
            "state and logs are in " +
                Path("run") + "\n");
}

TEST_F(Train, MasterIsToldEverythingInItsFile) {
  EXPECT_EQ(Run(CommandFixture::Train({"--ps", "2", "--workers", "3", "--epochs", "4",
                                       "--batch-size", "64", "--seed", "9", "--partitions", "16",
                                       "--checkpoint-interval-ms", "250", "--model-config",
                                       "l2=0.1,optimizer=sgd", "--eval-data", Path("ratings.csv")}))
                .code,
            0);
  EXPECT_EQ(ReadAll(Path("run/cluster.yaml")),
            "# Written by freshet train: what the master of this cluster was told.\n"
            "job_name: \"lr-ratings\"\n"
            "data: \"" +
                Path("ratings.csv") +
                "\"\n"
                "schema: \"movielens\"\n"
                "model: \"lr\"\n"
                "model_config: [\"l2=0.1\", \"optimizer=sgd\"]\n"
                "ps: 2\nworkers: 3\nepochs: 4\nfollow: false\nauto_balance: false\n"
                "eval_data: \"" +
                Path("ratings.csv") +
                "\"\n"
                "batch_size: 64\nseed: 9\npartitions: 16\ncheckpoint_interval_ms: 250\n");
}

TEST_F(Train, FailedAuditIsCodeOne) {
  const CommandResult result = Run(CommandFixture::Train({"-o", "json"}), "bad_audit");
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(Json::parse(result.out)["audit"]["actual"], 199999);
}

TEST_F(Train, FailedJobEndsWithItsCodeAndItsReason) {
  const CommandResult result = Run(CommandFixture::Train(), "fail");
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("freshet: /data/x.csv line 7: not a number\n"), std::string::npos)
      << result.err;
}

TEST_F(Train, MasterThatDiesIsNoticedAndItsLogIsShown) {
  const CommandResult result = Run(CommandFixture::Train(), "die");
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("the master ended early (exit 9)"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("fake master in die"), std::string::npos) << result.err;
}

TEST_F(Train, CodeOfAMasterThatRefusesToStartIsHandedOn) {
  const CommandResult result = Run(CommandFixture::Train(), "refuse");
  EXPECT_EQ(result.code, 3);
  EXPECT_NE(result.err.find("fake master in refuse"), std::string::npos) << result.err;
}

TEST_F(Train, MissingMasterProgramIsNamed) {
  fs::remove(Path("freshet-master"));
  const CommandResult result = Run(CommandFixture::Train());
  EXPECT_EQ(result.code, 3);
  EXPECT_NE(result.err.find("freshet-master"), std::string::npos) << result.err;
}

TEST_F(Train, WrongArgumentsStartNothing) {
  // The usual command with one value replaced or added.
  const auto with = [this](const std::string& flag, const std::string& value) {
    std::vector<std::string> args = CommandFixture::Train();
    const auto found = std::find(args.begin(), args.end(), flag);
    if (found != args.end()) {
      *(found + 1) = value;
    } else {
      args.insert(args.end(), {flag, value});
    }
    return args;
  };
  struct Case {
    std::vector<std::string> args;
    int code;
    const char* word;
  };
  std::ofstream(Path("bad.yaml")) << "delimiter: ','\nfrob: 1\ncolumns: []\n";
  const std::vector<Case> cases = {
      {with("--ps", "0"), 2, "--ps"},
      {with("--workers", "0"), 2, "--workers"},
      {with("--ps", "-1"), 2, "--ps"},
      {with("--epochs", "0"), 2, "--epochs"},
      {with("--batch-size", "0"), 2, "--batch-size"},
      {CommandFixture::Train({"--ps", "20", "--partitions", "10"}), 2, "--partitions"},
      {with("--data", Path("missing.csv")), 3, "missing.csv"},
      {with("--eval-data", Path("missing.csv")), 3, "--eval-data"},
      {with("--data", root_), 2, "directory"},
      {with("--schema", "movielense"), 3, "movielens"},
      {with("--schema", Path("missing.yaml")), 3, "missing.yaml"},
      {with("--schema", Path("bad.yaml")), 2, "frob"},
      {with("--model", "deepfmm"), 3, "deepfm"},
      {with("--model-config", "dim"), 2, "KEY=VALUE"},
      {with("--model-config", "frob=1"), 2, "frob"},
      {{"train", "--schema", "movielens", "--model", "lr"}, 2, "--data"},
      {with("--dir", Path("ratings.csv")), 4, "no directory"},
      {with("--dir", "/proc/nothing/here"), 1, "choose another --dir"},
      {with("--dir", root_), 4, "not empty"},
  };
  for (const Case& c : cases) {
    const CommandResult result = Run(c.args);
    EXPECT_EQ(result.code, c.code) << c.word << ": " << result.err;
    EXPECT_NE(result.err.find(c.word), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_FALSE(fs::exists(Path("run"))) << c.word;
  }
}

TEST_F(Train, FormerRunIsKeptOnceAndForeignFilesAreNeverTouched) {
  EXPECT_EQ(Run(CommandFixture::Train()).code, 0);
  std::ofstream(Path("run/mine.txt")) << "first";
  const CommandResult second = Run(CommandFixture::Train());
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_NE(
      second.err.find("the former run in " + Path("run") + " is now in " + Path("run.previous")),
      std::string::npos);
  EXPECT_EQ(ReadAll(Path("run.previous/mine.txt")), "first");
  EXPECT_EQ(Run(CommandFixture::Train()).code, 0);
  EXPECT_FALSE(fs::exists(Path("run.previous/mine.txt")));
  EXPECT_TRUE(fs::exists(Path("run.previous/train.marker")));

  fs::remove(Path("run.previous/train.marker"));
  EXPECT_EQ(Run(CommandFixture::Train()).code, 4);
  EXPECT_TRUE(fs::exists(Path("run/train.marker")));
  fs::remove(Path("run/train.marker"));
  EXPECT_EQ(Run(CommandFixture::Train()).code, 4);
  EXPECT_TRUE(fs::exists(Path("run/cluster.yaml")));
}

TEST_F(Train, RunningClusterIsAConflict) {
  const auto pid = base::SpawnProcess(Freshet(CommandFixture::Train(), "endless"));
  ASSERT_TRUE(pid);
  AwaitWord("records: 50000/200000");
  base::SpawnOptions other = Freshet(CommandFixture::Train(), "complete");
  other.stdout_file = other.stderr_file = Path("other");
  const auto second = base::SpawnProcess(other);
  ASSERT_TRUE(second);
  EXPECT_EQ(Wait(*second).code, 4);
  EXPECT_NE(ReadAll(Path("other")).find("a cluster runs in " + Path("run")), std::string::npos);
  ASSERT_TRUE(base::SignalProcess(*pid, SIGTERM));
  EXPECT_EQ(Wait(*pid).code, 128 + SIGTERM);
}

TEST_F(Train, InterruptDrainsAndEndsWithItsCode) {
  const auto pid = base::SpawnProcess(Freshet(CommandFixture::Train({"-o", "json"}), "endless"));
  ASSERT_TRUE(pid);
  AwaitWord("records: 50000/200000");
  ASSERT_TRUE(base::SignalProcess(*pid, SIGINT));
  EXPECT_EQ(Wait(*pid).code, 128 + SIGINT);
  EXPECT_NE(ReadAll(Path("err")).find("draining"), std::string::npos);
  EXPECT_NE(Requests().find("POST /v1/stop\n"), std::string::npos);
  EXPECT_FALSE(fs::exists(Path("run/admin.sock")));
  EXPECT_EQ(ReadAll(Path("out")), "");
}

TEST_F(Train, SecondSignalEndsAMasterThatWillNotLeave) {
  const auto pid = base::SpawnProcess(Freshet(CommandFixture::Train(), "stubborn"));
  ASSERT_TRUE(pid);
  AwaitWord("records: 50000/200000");
  ASSERT_TRUE(base::SignalProcess(*pid, SIGINT));
  AwaitWord("draining");
  ASSERT_TRUE(base::SignalProcess(*pid, SIGTERM));
  EXPECT_EQ(Wait(*pid).code, 128 + SIGINT);
  EXPECT_NE(ReadAll(Path("err")).find("it is killed"), std::string::npos);
}

}  // namespace
}  // namespace freshet::cli
