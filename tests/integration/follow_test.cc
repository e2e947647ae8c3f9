// SPDX-License-Identifier: Apache-2.0
// Clusters of real processes over a file that grows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
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
using cli::TrueAt;
using ::testing::HasSubstr;

constexpr uint64_t kRecords = 20'000;

class FollowTest : public UpClusterTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(stream::GenerateLog({.records = kRecords}, source_, {}));
    text_ = *base::ReadFile(source_, 64 << 20);
    header_ = text_.substr(0, text_.find('\n') + 1);
    at_ = header_.size();
    Write(header_);
  }
  // Records of the source up to that one (the log may go through it several times).
  void Append(uint64_t lines) {
    std::string more;
    for (; lines_ < lines; ++lines_) {
      const size_t end = text_.find('\n', at_) + 1;
      more += text_.substr(at_, end - at_);
      at_ = end == text_.size() ? header_.size() : end;
    }
    Write(more);
  }
  void Write(const std::string& text) {
    std::ofstream file(data_, std::ios::binary | std::ios::app);
    file << text;
    ASSERT_TRUE(file.good());
  }
  std::map<std::string, std::string> Settings() const {
    return {{"data", data_},
            {"schema", "freshet"},
            {"model", "lr"},
            {"ps", "2"},
            {"workers", "2"},
            {"follow", "true"},
            {"linger_ms", "300"},
            {"batch_size", "128"},
            {"partitions", "16"},
            {"heartbeat_ms", "20"},
            {"node_timeout_ms", "600"},
            {"checkpoint_interval_ms", "100"}};
  }
  // Waits until the job waits, with that many records learnt.
  void ExpectWaiting(uint64_t records) {
    const Json status = cluster_.AwaitStatus([records](const Json& now) {
      return RecordsOf(now) == records && TrueAt(At(now, "job"), "waiting");
    });
    ASSERT_FALSE(status.is_null()) << cluster_.Freshet({"status"}).out;
    EXPECT_EQ(TextAt(At(status, "job"), "phase"), "training");
    EXPECT_EQ(NumberAt(At(status, "job"), "lag_records", -1), 0);
    const CommandOutput audit = cluster_.Freshet({"verify", "-o", "json"});
    EXPECT_EQ(audit.code, 0) << audit.out << audit.err;
    EXPECT_EQ(NumberAt(audit.json(), "audit_count"), records);
  }
  void DownOrFail() {
    const CommandOutput down = cluster_.Freshet({"down"});
    EXPECT_EQ(down.code, 0) << down.err;
    EXPECT_TRUE(cluster_.Processes().empty());
  }
  CommandOutput UpAgain() { return cluster_.Freshet({"up"}); }

  const std::string source_ = dir_.path() + "/source.tsv";
  const std::string data_ = dir_.path() + "/clicks.tsv";
  std::string text_;
  std::string header_;
  uint64_t lines_ = 0;
  size_t at_ = 0;
};

TEST_F(FollowTest, WhatIsAppendedIsLearntOnceWhileItRunsAndWhileItIsDown) {
  const CommandOutput up = cluster_.Up(Settings());
  ASSERT_EQ(up.code, 0) << up.err;
  ExpectWaiting(0);
  for (const uint64_t lines : {1u, 130u, 5000u, 5001u, 12'000u}) {
    Append(lines);
    ExpectWaiting(lines);
  }
  EXPECT_THAT(cluster_.Freshet({"status"}).out, HasSubstr("training (waits for records)"));
  // A line is one when it is complete.
  Append(12'500);
  Write(text_.substr(at_, 10));
  ExpectWaiting(12'500);
  DownOrFail();
  const size_t end = text_.find('\n', at_) + 1;
  Write(text_.substr(at_ + 10, end - at_ - 10));
  at_ = end;
  ++lines_;
  Append(13'000);
  ASSERT_EQ(UpAgain().code, 0);
  ExpectWaiting(13'000);
  Append(45'000);
  ExpectWaiting(45'000);
  DownOrFail();
  // With an end after all.
  auto settings = Settings();
  settings["follow"] = "false";
  ASSERT_EQ(cluster_.Up(settings).code, 0);
  EXPECT_EQ(RecordsOf(cluster_.AwaitPhase("completed")), 45'000u);
  DownOrFail();
}

TEST_F(FollowTest, RecordsThatFlowInSurviveKillsOfEveryRole) {
  Append(2000);
  ASSERT_EQ(cluster_.Up(Settings()).code, 0);
  uint64_t lines = 2000;
  for (const std::string name : {"ps-0", "worker-1", "master", "ps-1", "worker-0", "master"}) {
    for (int i = 0; i < 5; ++i) {
      Append(lines += 400);
      ASSERT_FALSE(cluster_.AwaitRecords(lines - 2000).is_null());
      if (i == 2) cluster_.Signal(name, SIGKILL);
    }
  }
  ExpectWaiting(lines);
  cluster_.KillAll();
  Append(lines += 3000);
  ASSERT_EQ(UpAgain().code, 0);
  ExpectWaiting(lines);
  DownOrFail();
}

TEST_F(FollowTest, AFileThatIsCutOrReplacedEndsTheJobAndSaysSo) {
  Append(5000);
  ASSERT_EQ(cluster_.Up(Settings()).code, 0);
  ExpectWaiting(5000);
  fs::copy_file(data_, data_ + ".1");
  ASSERT_EQ(truncate(data_.c_str(), 1000), 0);
  const auto failure = [this] {
    std::string error;
    cluster_.Await([&] {
      const Json status = cluster_.Freshet({"status", "-o", "json"}).json();
      error = TextAt(At(status, "job"), "error");
      return TextAt(At(status, "job"), "phase") == "failed";
    });
    return error;
  };
  EXPECT_THAT(failure(), HasSubstr("clicks.tsv' shrank from"));
  DownOrFail();
  const CommandOutput shorter = UpAgain();
  // It may be up before it finds out.
  EXPECT_THAT(shorter.code == 0 ? failure() : shorter.err,
              HasSubstr("but 5000 of it were learnt before"));
  if (shorter.code == 0) DownOrFail();
  fs::rename(data_ + ".1", data_);
  ASSERT_EQ(UpAgain().code, 0);
  ExpectWaiting(5000);
  fs::copy_file(data_, data_ + ".1");
  fs::rename(data_ + ".1", data_);
  EXPECT_THAT(failure(), HasSubstr("was replaced while it was followed"));
  DownOrFail();
}

TEST_F(FollowTest, WhatCannotBeFollowedIsRefusedBeforeAnythingIsStarted) {
  Append(10);
  const auto refusal = [this](const std::string& key, const std::string& value) {
    auto settings = Settings();
    settings[key] = value;
    const CommandOutput up = cluster_.Up(settings);
    EXPECT_EQ(up.code, 2) << up.err;
    return up.err;
  };
  EXPECT_THAT(refusal("epochs", "2"), HasSubstr("follow: a log that grows has no end"));
  EXPECT_THAT(refusal("eval_data", data_), HasSubstr("follow: eval_data"));
  const std::string packed = dir_.path() + "/packed";
  std::ofstream(packed, std::ios::binary) << "\x1F\x8B\x08";
  EXPECT_THAT(refusal("data", packed), HasSubstr("is gzip, which cannot be followed"));
  EXPECT_FALSE(fs::exists(cluster_.dir()));
  EXPECT_THAT(cluster_.Freshet({"up", "--example"}).out, HasSubstr("\n#follow: false\n"));
}

}  // namespace
}  // namespace freshet::testing
