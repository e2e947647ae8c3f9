// SPDX-License-Identifier: Apache-2.0
// The parts of the command that need no process: texts, JSON, log files, the client.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "cli/admin_client.h"
#include "cli/json.h"
#include "cli/log_file.h"
#include "cli/text.h"
#include "cli/train_options.h"
#include "cli/train_progress.h"
#include "master/admin_server.h"

namespace freshet::cli {
namespace {

namespace fs = std::filesystem;
using base::ErrorCode;
using std::chrono::milliseconds;

class InDirectory : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "cli_parts.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  std::string dir_;
};

TEST(Text, NumbersForPeople) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(1023), "1023 B");
  EXPECT_EQ(BytesText(1536), "1.5 KiB");
  EXPECT_EQ(BytesText(5.0 * (1ull << 40)), "5.0 TiB");
  EXPECT_EQ(AgeText(-1), "0s");
  EXPECT_EQ(AgeText(59.9), "59s");
  EXPECT_EQ(AgeText(190), "3m10s");
  EXPECT_EQ(AgeText(7500), "2h05m");
  EXPECT_EQ(AgeText(4 * 86400 + 3 * 3600), "4d03h");
  EXPECT_EQ(TimeText(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(TimeText(-1), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(MeasureText(Json(0.74116)), "0.7412");
  EXPECT_EQ(MeasureText(Json()), "-");
  EXPECT_EQ(TableText({{"A", "LONG"}, {"bbb", "c"}}), "A    LONG\nbbb  c\n");
}

TEST(JsonAccess, WhatIsAbsentOrOfAnotherTypeIsTheFallback) {
  const Json json = Json::parse(R"({"n":1.5,"t":"x","b":true,"o":{"n":2}})");
  EXPECT_EQ(NumberAt(json, "n"), 1.5);
  EXPECT_EQ(NumberAt(json, "t", 7), 7);
  EXPECT_EQ(NumberAt(At(json, "o"), "n"), 2);
  EXPECT_EQ(NumberAt(At(json, "missing"), "n", 3), 3);
  EXPECT_EQ(TextAt(json, "t"), "x");
  EXPECT_EQ(TextAt(json, "n"), "");
  EXPECT_TRUE(TrueAt(json, "b"));
  EXPECT_FALSE(TrueAt(json, "n"));
  EXPECT_EQ(TextAt(Json::array({1}), "t"), "");
}

TEST(Progress, LinesShowWhatIsKnown) {
  const Json job = Json::parse(R"({"phase":"training","records_done":120000,
    "records_total":400000,"records_per_sec":45678.4,"steps_per_sec":123.44,"auc":0.7,
    "window_auc":0.74123,"logloss":0.51234})");
  EXPECT_EQ(PlainLine(job),
            "global_step/sec: 123.4  records/sec: 45678  records: 120000/400000  auc: 0.7412  "
            "loss: 0.5123");
  EXPECT_EQ(TerminalLine(job),
            "training [#######.................]  30 %  120000/400000  45678 records/s  "
            "auc 0.7412  6s left");
  EXPECT_EQ(TerminalLine(Json::parse(R"({"phase":"starting"})")),
            "starting [........................]   0 %  0/0  0 records/s  auc -  - left");
}

TEST(ModelSettings, AreKeyValuePairs) {
  const auto settings = ParseModelSettings("dim=8,hidden=64-32,l2=");
  ASSERT_TRUE(settings);
  EXPECT_EQ(*settings,
            (std::map<std::string, std::string>{{"dim", "8"}, {"hidden", "64-32"}, {"l2", ""}}));
  EXPECT_TRUE(ParseModelSettings("")->empty());
  for (const char* bad : {"dim", "=8", "dim=8,,l2=1", "dim=8,dim=9"}) {
    EXPECT_FALSE(ParseModelSettings(bad)) << bad;
  }
}

TEST(MasterFile, QuotesWhatPeopleMayPutInNames) {
  TrainOptions options;
  options.data = "/a \"b\"\\c: #d\n";
  options.schema = "s";
  options.model = "lr";
  const std::string yaml = MasterYaml(MasterSettings(options));
  EXPECT_NE(yaml.find("data: \"/a \\\"b\\\"\\\\c: #d\\n\"\n"), std::string::npos) << yaml;
  EXPECT_EQ(yaml.find("eval_data"), std::string::npos);
}

class LogFile : public InDirectory {};

TEST_F(LogFile, LastLinesOfShortLongAndUnendedFiles) {
  EXPECT_EQ(LastLines(Path("none"), 3).error().code, ErrorCode::kNotFound);
  std::ofstream(Path("empty")) << "";
  EXPECT_TRUE(LastLines(Path("empty"), 3)->empty());
  std::ofstream(Path("short")) << "a\n\nb";
  EXPECT_EQ(*LastLines(Path("short"), 9), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(*LastLines(Path("short"), 1), (std::vector<std::string>{"b"}));
  {
    std::ofstream big(Path("big"));
    for (int i = 0; i < 300'000; ++i) big << "line " << i << "\n";
  }
  EXPECT_EQ(*LastLines(Path("big"), 2), (std::vector<std::string>{"line 299998", "line 299999"}));
  const auto all = LastLines(Path("big"), 1'000'000);
  EXPECT_LT(all->size(), 100'000u);
  EXPECT_EQ(all->front().rfind("line ", 0), 0u);
}

TEST_F(LogFile, JsonLinesBecomeReadable) {
  EXPECT_EQ(ReadableLogLine(R"({"ts":"x","level":"error","node":"ps-0","msg":"disk full"})"),
            "error ps-0: disk full");
  EXPECT_EQ(ReadableLogLine("plain {text"), "plain {text");
  EXPECT_EQ(ReadableLogLine("[1]"), "[1]");
  EXPECT_EQ(ReadableLogLine(R"({"other":1})"), R"({"other":1})");
}

TEST_F(LogFile, FollowerSeesWhatIsAddedRenamedAndCut) {
  std::ofstream(Path("log")) << "one\n";
  auto follower = LogFollower::Open(Path("log"), LogFollower::From::kStart);
  ASSERT_TRUE(follower);
  EXPECT_EQ(*follower->ReadMore(), "one\n");
  EXPECT_EQ(*follower->ReadMore(), "");
  std::ofstream(Path("log"), std::ios::app) << "two\n";
  EXPECT_EQ(*follower->ReadMore(), "two\n");
  fs::rename(Path("log"), Path("log.1"));
  EXPECT_EQ(*follower->ReadMore(), "");
  std::ofstream(Path("log")) << "new file\n";
  EXPECT_EQ(*follower->ReadMore(), "new file\n");
  std::ofstream(Path("log")) << "cut\n";
  EXPECT_EQ(*follower->ReadMore(), "cut\n");
  auto at_end = LogFollower::Open(Path("log"), LogFollower::From::kEnd);
  EXPECT_EQ(*at_end->ReadMore(), "");
  EXPECT_EQ(LogFollower::Open(Path("none"), LogFollower::From::kEnd).error().code,
            ErrorCode::kNotFound);
}

class Client : public InDirectory {
 protected:
  void Serve(const std::function<void(master::AdminRequest, master::AdminReply)>& handler) {
    auto server = master::AdminServer::Start({.socket_path = Path("admin.sock")}, handler);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  std::unique_ptr<master::AdminServer> server_;
};

TEST_F(Client, NobodyThereIsUnreachable) {
  const AdminClient client(dir_);
  EXPECT_FALSE(client.SomebodyListens());
  const auto answer = client.Get("/v1/status");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kUnreachable);
  EXPECT_NE(answer.error().message.find("is a cluster running in"), std::string::npos);
  const AdminClient far(dir_ + "/" + std::string(200, 'x'));
  EXPECT_EQ(far.Get("/").error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(far.SomebodyListens());
}

TEST_F(Client, AnswersErrorsAndNonsenseAreToldApart) {
  Serve([](master::AdminRequest request, master::AdminReply reply) {
    if (request.path == "/good") return reply({200, R"({"method":")" + request.method + "\"}"});
    if (request.path == "/bad") return reply({200, "no json"});
    if (request.path == "/odd") return reply({500, "[1]"});
    reply(master::ErrorResponse({ErrorCode::kConflict, "not now"}));
  });
  const AdminClient client(dir_);
  EXPECT_TRUE(client.SomebodyListens());
  EXPECT_EQ(TextAt(*client.Get("/good"), "method"), "GET");
  EXPECT_EQ(TextAt(*client.Post("/good"), "method"), "POST");
  EXPECT_EQ(client.Get("/bad").error().code, ErrorCode::kFailed);
  EXPECT_EQ(client.Get("/odd").error().code, ErrorCode::kFailed);
  const auto refused = client.Post("/other");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  EXPECT_EQ(refused.error().message, "not now");
}

TEST_F(Client, EveryErrorCodeSurvivesTheWay) {
  Serve([](master::AdminRequest request, master::AdminReply reply) {
    reply(
        master::ErrorResponse({static_cast<ErrorCode>(std::stoi(request.query.at("code"))), "x"}));
  });
  const AdminClient client(dir_);
  for (int code = 1; code <= 10; ++code) {
    const auto answer = client.Get("/?code=" + std::to_string(code));
    ASSERT_FALSE(answer);
    EXPECT_EQ(static_cast<int>(answer.error().code), code);
  }
}

TEST_F(Client, SilentMasterIsATimeout) {
  master::AdminReply kept;
  Serve([&kept](master::AdminRequest, master::AdminReply reply) { kept = std::move(reply); });
  const auto answer = AdminClient(dir_).Get("/v1/status", milliseconds(50));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kTimeout);
  EXPECT_NE(answer.error().message.find("50 ms"), std::string::npos);
  server_.reset();  // its threads have let go of `kept` then
}

}  // namespace
}  // namespace freshet::cli
