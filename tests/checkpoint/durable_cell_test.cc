// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/durable_cell.h"

#include <gtest/gtest.h>

#include "tests/checkpoint/testing.h"

namespace freshet::checkpoint {
namespace {

using base::ErrorCode;
using testing::TempDir;

std::unique_ptr<DurableCell> OpenCell(const TempDir& dir) {
  auto cell = DurableCell::Open({.directory = dir.path() + "/master", .name = "master"});
  EXPECT_TRUE(cell) << cell.error().message;
  return cell ? std::move(*cell) : nullptr;
}

TEST(DurableCell, IsNotFoundUntilWrittenThenHoldsTheLastBlob) {
  const TempDir dir;
  const auto cell = OpenCell(dir);
  EXPECT_EQ(cell->Read().error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(cell->Write(""));
  EXPECT_EQ(*cell->Read(), "");
  for (const size_t bytes : {1, 3000, 200000, 10}) {
    const std::string blob(bytes, static_cast<char>('a' + bytes % 7));
    ASSERT_TRUE(cell->Write(blob));
    EXPECT_EQ(*cell->Read(), blob);
  }
}

TEST(DurableCell, SurvivesReopening) {
  const TempDir dir;
  const std::string blob("view\0 7", 7);
  ASSERT_TRUE(OpenCell(dir)->Write(blob));
  EXPECT_EQ(*OpenCell(dir)->Read(), blob);
}

TEST(DurableCell, SecondOwnerIsAConflictThatNamesTheDirectory) {
  const TempDir dir;
  const auto cell = OpenCell(dir);
  const auto second = DurableCell::Open({.directory = dir.path() + "/master", .name = "master"});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_NE(second.error().message.find(dir.path()), std::string::npos);
}

TEST(DurableCell, OtherNameIsRefused) {
  const TempDir dir;
  OpenCell(dir).reset();
  const auto other = DurableCell::Open({.directory = dir.path() + "/master", .name = "other"});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kInvalidArgument);
}

TEST(DurableCell, DamagedBlobIsCorrupt) {
  const TempDir dir;
  const std::string blob = "a blob that is easily found in the file";
  ASSERT_TRUE(OpenCell(dir)->Write(blob));
  const std::string file = dir.path() + "/master/data.mdb";
  std::string bytes = testing::ReadFile(file);
  const size_t at = bytes.find(blob);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 5] ^= 1;
  testing::WriteFile(file, bytes);
  EXPECT_EQ(OpenCell(dir)->Read().error().code, ErrorCode::kCorrupt);
}

TEST(DurableCell, TooLargeABlobIsRefusedAndTheOldOneStays) {
  const TempDir dir;
  const auto cell = OpenCell(dir);
  ASSERT_TRUE(cell->Write("old"));
  const auto written = cell->Write(std::string(DurableCell::kMaxBytes + 1, 'x'));
  EXPECT_EQ(written.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(*cell->Read(), "old");
}

}  // namespace
}  // namespace freshet::checkpoint
