// SPDX-License-Identifier: Apache-2.0
#include "stream/dead_letter.h"

#include <gmock/gmock.h>

#include "tests/stream/testing.h"

namespace freshet::stream {
namespace {

DeadLetterOptions OptionsIn(const TempDir& dir) {
  return {.directory = dir / "dead-letter", .log = "clicks", .writer = protocol::Incarnation(7)};
}

TEST(DeadLetterTest, RecordsAreOneJsonObjectALine) {
  const TempDir dir;
  DeadLetterFile file(OptionsIn(dir));
  EXPECT_FALSE(std::filesystem::exists(file.path()));
  const std::vector<DeadRecord> records = {{5, "bad number 'x'", "1,\"a\"\t\\,x"},
                                           {9, "not UTF-8", "\xFF\x01 caf\xC3\xA9"}};
  ASSERT_TRUE(file.Append(records).has_value());
  ASSERT_TRUE(file.Append(std::vector<DeadRecord>{{12, "r", "caf\xC3\xA9"}}).has_value());
  EXPECT_EQ(file.written(), 3u);
  EXPECT_EQ(file.path(), dir / "dead-letter/clicks-7.jsonl");
  EXPECT_EQ(
      ReadText(file.path()),
      R"({"log":"clicks","offset":5,"reason":"bad number 'x'","raw":"1,\"a\"\t\\,x"})"
      "\n"
      R"({"log":"clicks","offset":9,"reason":"not UTF-8","raw":"\u00ff\u0001 caf\u00c3\u00a9"})"
      "\n"
      "{\"log\":\"clicks\",\"offset\":12,\"reason\":\"r\",\"raw\":\"caf\xC3\xA9\"}\n");
}

TEST(DeadLetterTest, AnExistingFileIsContinued) {
  const TempDir dir;
  for (int i = 0; i < 2; ++i) {
    DeadLetterFile file(OptionsIn(dir));
    ASSERT_TRUE(file.Append(std::vector<DeadRecord>{{1, "r", "x"}}).has_value());
  }
  const std::string text = ReadText(dir / "dead-letter/clicks-7.jsonl");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(DeadLetterTest, TheFileIsBoundedByRotation) {
  const TempDir dir;
  DeadLetterOptions options = OptionsIn(dir);
  options.max_file_bytes = 1000;
  DeadLetterFile file(options);
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(file.Append(std::vector<DeadRecord>{{i, "reason", "raw"}}).has_value());
  }
  EXPECT_LE(std::filesystem::file_size(file.path()), 1000u);
  EXPECT_LE(std::filesystem::file_size(file.path() + ".1"), 1000u);
  EXPECT_THAT(ReadText(file.path()), testing::HasSubstr("\"offset\":99,"));
  EXPECT_EQ(file.written(), 100u);
}

TEST(DeadLetterTest, NamesCannotLeaveTheDirectory) {
  const TempDir dir;
  DeadLetterOptions options = OptionsIn(dir);
  options.log = "../../etc/x y";
  EXPECT_EQ(DeadLetterFile(options).path(), dir / "dead-letter/%2E.%2F..%2Fetc%2Fx%20y-7.jsonl");
}

TEST(DeadLetterTest, WhatCannotBeWrittenIsAnIoErrorThatNamesTheFile) {
  const TempDir dir;
  WriteText(dir / "dead-letter", "a file where the directory should be");
  DeadLetterFile file(OptionsIn(dir));
  auto appended = file.Append(std::vector<DeadRecord>{{1, "r", "x"}});
  ASSERT_FALSE(appended.has_value());
  EXPECT_EQ(appended.error().code, base::ErrorCode::kIo);
  EXPECT_THAT(appended.error().message, testing::HasSubstr("clicks-7.jsonl"));
  EXPECT_EQ(file.written(), 0u);
}

}  // namespace
}  // namespace freshet::stream
