// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "base/file.h"
#include "tests/base/temp_dir.h"

namespace freshet::base {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::SizeIs;
using namespace std::chrono_literals;

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override { EXPECT_TRUE(InitLog({})); }

  void Start(LogOptions options) {
    options.file = directory_ / "node.log";
    ASSERT_TRUE(InitLog(options));
  }
  std::vector<std::string> Lines() {
    std::istringstream text(ReadFile(directory_ / "node.log", 1 << 20).value_or(""));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }

  TempDir directory_;
};

TEST_F(LogTest, EveryLineIsOneJsonObject) {
  Start({.node = "ps-0"});
  FRESHET_LOG_INFO("opened {} after {} ms", "a \"quoted\" \\ path", 12);
  FRESHET_LOG_WARN("two\nlines and bytes \xFF");
  const auto lines = Lines();
  ASSERT_THAT(lines, SizeIs(2));
  const auto first = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(first["level"], "info");
  EXPECT_EQ(first["node"], "ps-0");
  EXPECT_EQ(first["msg"], "opened a \"quoted\" \\ path after 12 ms");
  EXPECT_THAT(first["ts"].get<std::string>(),
              MatchesRegex("20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z"));
  const auto second = nlohmann::json::parse(lines[1]);
  EXPECT_EQ(second["level"], "warn");
  EXPECT_EQ(second["msg"], "two\nlines and bytes \xEF\xBF\xBD");
}

TEST_F(LogTest, TextLinesCarryTimeLevelAndNodeButNoControlCharacters) {
  Start({.node = "w-1", .format = "text"});
  FRESHET_LOG_ERROR("red \x1b[31m {}", "x");
  const auto lines = Lines();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0],
              MatchesRegex("[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3} ERROR w-1 red \\?\\[31m x"));
}

TEST_F(LogTest, LinesBelowTheLevelAreNotEvenFormatted) {
  Start({.level = "warn"});
  int formatted = 0;
  FRESHET_LOG_INFO("{}", ++formatted);
  FRESHET_LOG_WARN("{}", ++formatted);
  EXPECT_EQ(formatted, 1);
  EXPECT_THAT(Lines(), SizeIs(1));
  SetLogLevel(LogLevel::kOff);
  FRESHET_LOG_ERROR("{}", ++formatted);
  EXPECT_EQ(formatted, 1);
}

TEST_F(LogTest, UnknownWordsAndUnwritableFilesAreErrors) {
  EXPECT_EQ(InitLog({.level = "loud"}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(InitLog({.format = "xml"}).error().code, ErrorCode::kInvalidArgument);
  const auto unwritable = InitLog({.file = "/proc/no/such.log"});
  ASSERT_FALSE(unwritable);
  EXPECT_EQ(unwritable.error().code, ErrorCode::kIo);
  EXPECT_THAT(unwritable.error().message, HasSubstr("/proc/no/such.log"));
}

TEST_F(LogTest, AFileThatGrewIsBegunAnew) {
  Start({.max_file = KiB(64)});
  for (int i = 0; i < 100; ++i) FRESHET_LOG_INFO("{}", std::string(1000, 'x'));
  EXPECT_TRUE(ReadFile(directory_ / "node.1.log", 1 << 20));
  EXPECT_LE(ReadFile(directory_ / "node.log", 1 << 20)->size(), 65536u);
}

TEST(LogLimitTest, OnePassesPerIntervalAndCountsTheRest) {
  LogLimit limit(10s);
  const Instant start{100s};
  EXPECT_EQ(limit.Pass(start), 0u);
  EXPECT_EQ(limit.Pass(start + 1s), std::nullopt);
  EXPECT_EQ(limit.Pass(start + 9'999ms), std::nullopt);
  EXPECT_EQ(limit.Pass(start + 10s), 2u);
  EXPECT_EQ(limit.Pass(start + 30s), 0u);
}

}  // namespace
}  // namespace freshet::base
