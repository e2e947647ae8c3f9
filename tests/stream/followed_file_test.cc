// SPDX-License-Identifier: Apache-2.0
// FileLog over a file that grows.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/random.h"
#include "tests/stream/testing.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kHeaderSchema =
    "header: true\ncolumns:\n- {name: label, role: label}\n- {name: id, role: sparse}\n"
    "- {name: x, role: dense}\n";

class FollowedFileTest : public testing::Test {
 protected:
  void Add(const std::string& text) {
    std::ofstream file(path_, std::ios::binary | std::ios::app);
    file << text;
    ASSERT_TRUE(file.good());
  }
  void AddLines(uint64_t begin, uint64_t end) {
    std::string text;
    for (uint64_t i = begin; i < end; ++i) text += fmt::format("{},id{},{}\n", i % 2, i, i);
    Add(text);
  }
  std::unique_ptr<FileLog> Open(LogSchema schema = PlainSchema()) {
    auto log = FileLog::Open({path_, std::move(schema), 1, FileGrowth::kAppend});
    EXPECT_TRUE(log.has_value()) << (log ? "" : log.error().message);
    return log ? std::move(*log) : nullptr;
  }
  static protocol::Offset EndOf(FileLog& log) {
    auto extended = log.Extend();
    EXPECT_TRUE(extended.has_value()) << (extended ? "" : extended.error().message);
    return log.end();
  }
  static base::Error ErrorOf(FileLog& log) {
    auto extended = log.Extend();
    EXPECT_FALSE(extended.has_value());
    return extended ? base::Error{} : extended.error();
  }

  const TempDir dir_;
  const std::string path_ = dir_ / "data";
  RecordBatch batch_;
};

TEST_F(FollowedFileTest, AppendedLinesAreRecordsOnceTheyAreComplete) {
  Add("0,a,1\n1,b");
  auto log = Open();
  EXPECT_EQ(log->end(), 1u);
  Add(",2");
  EXPECT_EQ(EndOf(*log), 1u);
  Add("\n0,c,3\n1,d,");
  EXPECT_EQ(EndOf(*log), 3u);
  ASSERT_TRUE(log->Read({0, 3}, batch_).has_value());
  EXPECT_THAT(batch_.dense, ElementsAre(1, 2, 3));
  EXPECT_THAT(batch_.labels, ElementsAre(0, 1, 0));
  Add("4\n");
  EXPECT_TRUE(log->Sync().has_value());
  // A reader that was told of records looks for them.
  ASSERT_TRUE(log->Read({3, 4}, batch_).has_value());
  EXPECT_THAT(batch_.dense, ElementsAre(4));
}

TEST_F(FollowedFileTest, WhatIsNotThereYetMayBeAskedForAgain) {
  AddLines(0, 5);
  auto log = Open();
  auto read = log->Read({4, 7}, batch_);
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(read.error().message, HasSubstr("[4, 7)"));
  EXPECT_EQ(batch_.rows, 0u);
  AddLines(5, 7);
  ASSERT_TRUE(log->Read({4, 7}, batch_).has_value());
  EXPECT_THAT(batch_.dense, ElementsAre(4, 5, 6));
  EXPECT_EQ(log->Read({3, 2}, batch_).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(FollowedFileTest, AnyPiecesGiveTheRecordsOfTheWhole) {
  std::string text;
  for (int i = 0; i < 9000; ++i) {
    text += i % 53 == 0 ? "broken\n" : fmt::format("{},id{},{}\r\n", i % 2, i % 700, i);
  }
  const RecordBatch whole = Parse(text, PlainSchema());
  base::Random random(7);
  Add("");
  auto log = Open();
  EXPECT_EQ(log->end(), 0u);
  ASSERT_TRUE(log->Read({0, 0}, batch_).has_value());
  std::vector<protocol::Offset> offsets;
  std::vector<float> dense;
  protocol::Offset read = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min<size_t>(text.size() - at, 1 + random.Below(9000));
    Add(text.substr(at, size));
    at += size;
    const protocol::Offset end = EndOf(*log);
    EXPECT_EQ(end, std::count(text.begin(), text.begin() + static_cast<int64_t>(at), '\n'));
    ASSERT_TRUE(log->Read({read, end}, batch_).has_value());
    offsets.insert(offsets.end(), batch_.offsets.begin(), batch_.offsets.end());
    dense.insert(dense.end(), batch_.dense.begin(), batch_.dense.end());
    read = end;
  }
  EXPECT_EQ(offsets, whole.offsets);
  EXPECT_EQ(dense, whole.dense);
  ASSERT_TRUE(log->Read({4000, 4100}, batch_).has_value());
  EXPECT_EQ(batch_.rows + batch_.dead.size(), 100u);
}

TEST_F(FollowedFileTest, ItMayBeginEmptyAndGetItsHeaderLater) {
  Add("");
  auto log = Open(MakeSchema(kHeaderSchema));
  Add("x,la");
  EXPECT_EQ(EndOf(*log), 0u);
  Add("bel,id\n7,1,a\n");
  EXPECT_EQ(EndOf(*log), 1u);
  ASSERT_TRUE(log->Read({0, 1}, batch_).has_value());
  EXPECT_THAT(batch_.dense, ElementsAre(7));
  EXPECT_THAT(batch_.labels, ElementsAre(1));
}

TEST_F(FollowedFileTest, AHeaderThatDoesNotFitIsSaidWhenItComes) {
  Add("");
  auto log = Open(MakeSchema(kHeaderSchema));
  Add("x,y,z\n");
  EXPECT_THAT(ErrorOf(*log).message, HasSubstr("'y' is not in the schema"));
}

TEST_F(FollowedFileTest, AFileThatIsCutIsAnError) {
  AddLines(0, 1000);
  auto log = Open();
  ASSERT_EQ(truncate(path_.c_str(), 500), 0);
  EXPECT_EQ(ErrorOf(*log).code, ErrorCode::kIo);
  EXPECT_THAT(ErrorOf(*log).message, HasSubstr("data' shrank from"));
  EXPECT_FALSE(log->Read({0, 10}, batch_).has_value()) << "nor is it read again";
  EXPECT_EQ(batch_.rows, 0u);
}

TEST_F(FollowedFileTest, AFileThatIsCutAndOutgrowsItsOldSizeIsAnError) {
  AddLines(0, 1000);
  auto log = Open();
  ASSERT_EQ(truncate(path_.c_str(), 0), 0);
  AddLines(5000, 7000);
  EXPECT_EQ(ErrorOf(*log).code, ErrorCode::kIo);
  EXPECT_THAT(ErrorOf(*log).message, HasSubstr("was written anew"));
}

TEST_F(FollowedFileTest, AFileThatIsReplacedOrRemovedIsAnError) {
  AddLines(0, 100);
  auto log = Open();
  std::filesystem::copy_file(path_, dir_ / "other");
  std::ofstream(dir_ / "other", std::ios::app) << "0,a,1\n";
  std::filesystem::rename(dir_ / "other", path_);
  EXPECT_THAT(ErrorOf(*log).message, HasSubstr("was replaced while it was followed"));
  EXPECT_FALSE(log->Read({0, 10}, batch_).has_value());
  std::filesystem::remove(path_);
  EXPECT_THAT(ErrorOf(*log).message, HasSubstr("cannot be read again"));
}

TEST_F(FollowedFileTest, WhatHasAnEndIsNotFollowed) {
  WriteGzip(path_, "0,a,1\n");
  auto packed = FileLog::Open({path_, PlainSchema(), 1, FileGrowth::kAppend});
  ASSERT_FALSE(packed.has_value());
  EXPECT_EQ(packed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(packed.error().message, HasSubstr("is gzip, which cannot be followed"));
  WriteText(path_, "0,a,1\n");
  auto epochs = FileLog::Open({path_, PlainSchema(), 2, FileGrowth::kAppend});
  ASSERT_FALSE(epochs.has_value());
  EXPECT_EQ(epochs.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace freshet::stream
