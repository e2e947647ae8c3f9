// SPDX-License-Identifier: Apache-2.0
#include "stream/file_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "base/random.h"
#include "tests/stream/testing.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Record i: label i % 2, id i, x i. Every `broken`-th line (0 = none) has a column too few.
std::string Numbered(uint64_t count, uint64_t broken = 0, const char* newline = "\n") {
  std::string text;
  for (uint64_t i = 0; i < count; ++i) {
    const bool bad = broken > 0 && i % broken == broken - 1;
    text += bad ? fmt::format("{},{}", i % 2, i) : fmt::format("{},id{},{}", i % 2, i, i);
    text += newline;
  }
  return text;
}

void ExpectSame(const RecordBatch& a, const RecordBatch& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.offsets, b.offsets);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.dense, b.dense);
  EXPECT_EQ(a.sparse, b.sparse);
  EXPECT_EQ(a.timestamps, b.timestamps);
  ASSERT_EQ(a.dead.size(), b.dead.size());
  for (size_t i = 0; i < a.dead.size(); ++i) {
    EXPECT_EQ(a.dead[i].offset, b.dead[i].offset);
    EXPECT_EQ(a.dead[i].reason, b.dead[i].reason);
    EXPECT_EQ(a.dead[i].raw, b.dead[i].raw);
  }
}

void Append(const RecordBatch& part, RecordBatch& all) {
  all.rows += part.rows;
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(all.offsets, part.offsets);
  append(all.labels, part.labels);
  append(all.dense, part.dense);
  append(all.sparse, part.sparse);
  append(all.timestamps, part.timestamps);
  append(all.dead, part.dead);
}

TEST(FileLogTest, RecordsAreNumberedLines) {
  const TempDir dir;
  WriteText(dir / "data", "1,a,1\n0,b,2\n1,c,3");
  auto log = OpenLog(dir / "data", PlainSchema());
  EXPECT_EQ(log->end(), 3u);
  RecordBatch batch;
  ASSERT_TRUE(log->Read({1, 3}, batch).has_value());
  EXPECT_EQ(batch.span, (protocol::Span{1, 3}));
  EXPECT_THAT(batch.offsets, ElementsAre(1, 2));
  EXPECT_THAT(batch.labels, ElementsAre(0, 1));
  EXPECT_THAT(batch.dense, ElementsAre(2, 3));
  ASSERT_TRUE(log->Read({2, 2}, batch).has_value());
  EXPECT_EQ(batch.rows, 0u);
  EXPECT_THAT(batch.offsets, IsEmpty());
}

TEST(FileLogTest, LineEndsAndTheLastNewlineDoNotMatter) {
  const RecordBatch unix_lines = Parse("1,a,1\n0,b,2\n", PlainSchema());
  ExpectSame(unix_lines, Parse("1,a,1\r\n0,b,2\r\n", PlainSchema()));
  ExpectSame(unix_lines, Parse("1,a,1\r\n0,b,2", PlainSchema()));
  ExpectSame(unix_lines, Parse("\xEF\xBB\xBF"
                               "1,a,1\n0,b,2",
                               PlainSchema()));
}

TEST(FileLogTest, BeyondTheEndIsRefused) {
  const TempDir dir;
  WriteText(dir / "data", Numbered(5));
  auto log = OpenLog(dir / "data", PlainSchema());
  RecordBatch batch;
  for (const protocol::Span span : {protocol::Span{3, 6}, {6, 6}, {4, 3}, {0, ~0ull}}) {
    auto read = log->Read(span, batch);
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(log->Read({0, 5}, batch).has_value());
}

TEST(FileLogTest, EpochsRepeatTheFile) {
  const TempDir dir;
  WriteText(dir / "data", Numbered(10, 4));
  auto once = OpenLog(dir / "data", PlainSchema());
  auto log = OpenLog(dir / "data", PlainSchema(), 3);
  EXPECT_EQ(log->end(), 30u);
  EXPECT_EQ(log->records_per_epoch(), 10u);
  RecordBatch batch;
  ASSERT_TRUE(log->Read({8, 22}, batch).has_value());
  EXPECT_THAT(batch.offsets, ElementsAre(8, 9, 10, 11, 12, 14, 15, 16, 18, 19, 20, 21));
  EXPECT_THAT(batch.dense, ElementsAre(8, 9, 0, 1, 2, 4, 5, 6, 8, 9, 0, 1));
  ASSERT_EQ(batch.dead.size(), 2u);
  EXPECT_EQ(batch.dead[0].offset, 13u);
  EXPECT_EQ(batch.dead[1].offset, 17u);
  ASSERT_TRUE(log->Read({20, 30}, batch).has_value());
  const RecordBatch first = ReadAll(*once);
  EXPECT_EQ(batch.sparse, first.sparse);
  EXPECT_FALSE(log->Read({29, 31}, batch).has_value());
  auto none = FileLog::Open({dir / "data", PlainSchema(), 0});
  EXPECT_FALSE(none.has_value());
  auto endless = FileLog::Open({dir / "data", PlainSchema(), ~0ull});
  EXPECT_FALSE(endless.has_value());
}

TEST(FileLogTest, ReadIsParsedAndDeadWithTheRightOffsets) {
  const TempDir dir;
  WriteText(dir / "data", Numbered(10000, 100));
  auto log = OpenLog(dir / "data", PlainSchema());
  uint64_t parsed = 0;
  std::vector<protocol::Offset> dead;
  RecordBatch batch;
  for (protocol::Offset begin = 0; begin < 10000; begin += 250) {
    ASSERT_TRUE(log->Read({begin, begin + 250}, batch).has_value());
    EXPECT_EQ(batch.rows + batch.dead.size(), 250u);
    parsed += batch.rows;
    for (const DeadRecord& record : batch.dead) {
      dead.push_back(record.offset);
      EXPECT_EQ(record.raw, fmt::format("{},{}", record.offset % 2, record.offset));
    }
    for (uint32_t i = 0; i < batch.rows; ++i) {
      ASSERT_EQ(batch.dense[i], static_cast<float>(batch.offsets[i]));
    }
  }
  EXPECT_EQ(parsed, 9900u);
  ASSERT_EQ(dead.size(), 100u);
  for (size_t i = 0; i < dead.size(); ++i) EXPECT_EQ(dead[i], 100 * i + 99);
}

class AnyChunking : public testing::TestWithParam<std::string> {};

TEST_P(AnyChunking, GivesTheSameRecords) {
  const TempDir dir;
  const std::string path = dir / "data";
  const bool header = GetParam() == "header";
  const std::string text =
      (header ? "label,id,x\n" : "") + Numbered(5000, 37, GetParam() == "crlf" ? "\r\n" : "\n");
  if (GetParam() == "gzip") {
    WriteGzip(path, text);
  } else {
    WriteText(path, text);
  }
  LogSchema schema = header ? MakeSchema(
                                  "header: true\ncolumns:\n- {name: label, role: label}\n"
                                  "- {name: id, role: sparse}\n- {name: x, role: dense}\n")
                            : PlainSchema();
  auto log = OpenLog(path, schema, 2);
  ASSERT_EQ(log->end(), 10000u);
  const RecordBatch whole = ReadAll(*log);
  EXPECT_EQ(whole.dead.size(), 270u);
  base::Random random(11);
  RecordBatch part;
  for (int round = 0; round < 4; ++round) {
    RecordBatch all;
    for (protocol::Offset at = 0; at < log->end();) {
      const auto end = std::min<protocol::Offset>(log->end(), at + 1 + random.Below(3000));
      ASSERT_TRUE(log->Read({at, end}, part).has_value());
      Append(part, all);
      at = end;
    }
    ExpectSame(whole, all);
  }
  for (int jump = 0; jump < 30; ++jump) {
    const protocol::Offset begin = random.Below(9000);
    const protocol::Offset end = begin + random.Below(1000);
    ASSERT_TRUE(log->Read({begin, end}, part).has_value());
    EXPECT_EQ(part.rows + part.dead.size(), end - begin);
    for (uint32_t i = 0; i < part.rows; ++i) {
      ASSERT_EQ(part.dense[i], static_cast<float>(part.offsets[i] % 5000));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, AnyChunking, testing::Values("plain", "crlf", "header", "gzip"));

TEST(FileLogTest, TheLineIndexIsRightAcrossItsBlocks) {
  // Lines of many lengths, empty ones among them, against a plain count.
  base::Random random(5);
  std::string text;
  std::vector<uint64_t> starts = {0};
  for (int i = 0; i < 30000; ++i) {
    text += std::string(random.Chance(0.3) ? 0 : random.Below(120), 'x') + "\n";
    starts.push_back(text.size());
  }
  LineIndex index;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min<size_t>(text.size() - at, 1 + random.Below(20000));
    index.Append(text.data() + at, size);
    at += size;
  }
  EXPECT_EQ(index.lines(), 30000u);
  for (uint64_t entry = 0; entry * kLinesPerIndexEntry < 30000; ++entry) {
    ASSERT_EQ(index.EntryStart(entry), starts[entry * kLinesPerIndexEntry]) << entry;
  }
}

TEST(FileLogTest, LinesBeyondTheLimitAreDeadAndTheNextOneIsNot) {
  const TempDir dir;
  const std::string limit(kMaxLineBytes - 4, 'v');
  const std::string text = "0,a,1\n0," + limit + "v,1\n1,b,2\n0," + std::string(5 << 20, 'w') +
                           "\n1,c,3\n0," + std::string(3 << 20, 'z');
  WriteText(dir / "data", text);
  WriteText(dir / "fits", "0,a,1\n0," + limit + ",1\n1,b,2");
  auto log = OpenLog(dir / "data", PlainSchema());
  EXPECT_EQ(log->end(), 6u);
  const RecordBatch batch = ReadAll(*log);
  EXPECT_THAT(batch.offsets, ElementsAre(0, 2, 4));
  ASSERT_EQ(batch.dead.size(), 3u);
  EXPECT_THAT(batch.dead[1].reason, HasSubstr("longer than 1048576 bytes"));
  EXPECT_EQ(batch.dead[1].raw, "0," + std::string(kMaxDeadRawBytes - 2, 'w'));
  auto fits = OpenLog(dir / "fits", PlainSchema());
  EXPECT_EQ(ReadAll(*fits).rows, 3u);
}

TEST(FileLogTest, AnyBytesAreRecordsOrDead) {
  const TempDir dir;
  base::Random random(3);
  constexpr std::string_view kLikely = "01,,,\"\"\r\n\n..-ab \xC3\xA9\xFF";
  for (int round = 0; round < 40; ++round) {
    std::string text = Numbered(12000).substr(0, 70 << 10) + "\n";
    for (int i = 0; i < 5000; ++i) {
      const bool any = random.Chance(0.05);
      text += any ? static_cast<char>(random.Below(256)) : kLikely[random.Below(kLikely.size())];
    }
    WriteText(dir / "data", text);
    auto log = OpenLog(dir / "data", PlainSchema());
    const auto newlines = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
    EXPECT_EQ(log->end(), newlines + (text.back() == '\n' ? 0 : 1));
    const RecordBatch batch = ReadAll(*log);
    EXPECT_EQ(batch.rows + batch.dead.size(), log->end());
  }
}

TEST(FileLogTest, WhatCannotBeOpenedIsNamed) {
  const TempDir dir;
  base::Error error = OpenError(dir / "missing.csv", PlainSchema());
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_THAT(error.message, HasSubstr("missing.csv"));
  error = OpenError(dir.path(), PlainSchema());
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("is a directory"));
  WriteText(dir / "empty", "");
  error = OpenError(dir / "empty", PlainSchema());
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("has no records; it is empty"));
  error = OpenError(dir / "empty", *LoadSchema("movielens"));
  EXPECT_THAT(error.message, HasSubstr("has no records"));
  WriteText(dir / "header", "userId,movieId,rating,timestamp\n");
  error = OpenError(dir / "header", *LoadSchema("movielens"));
  EXPECT_THAT(error.message, HasSubstr("there is only a header"));
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  error = OpenError(dir / "pipe", PlainSchema());
  EXPECT_THAT(error.message, HasSubstr("is no regular file"));
}

TEST(FileLogTest, BinaryAndMisfitFilesAreRefusedAtOnce) {
  const TempDir dir;
  WriteText(dir / "binary", std::string("0,a,1\n\0\1\2", 9));
  base::Error error = OpenError(dir / "binary", PlainSchema());
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("is binary (a NUL byte at byte 6)"));
  WriteText(dir / "columns", Numbered(2000));
  error = OpenError(dir / "columns", *LoadSchema("criteo"));
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("none of the first 1000 records"));
  EXPECT_THAT(error.message, HasSubstr("1 columns instead of 40"));
  EXPECT_THAT(error.message, HasSubstr("0,id0,0"));
}

TEST(FileLogTest, HeadersAreMatchedByName) {
  const TempDir dir;
  const auto write = [&](const std::string& text) { WriteText(dir / "r.csv", text); };
  const LogSchema schema = *LoadSchema("movielens");
  write("userId,movieId,rating,timestamp\n1,2,4.0,7\n");
  const RecordBatch expected = ReadAll(*OpenLog(dir / "r.csv", schema));
  write("Timestamp,RATING,\"movieid\",userID\r\n7,4.0,2,1\r\n");
  ExpectSame(expected, ReadAll(*OpenLog(dir / "r.csv", schema)));
  write("\xEF\xBB\xBFuserId,movieId,rating,timestamp\n1,2,4.0,7\n");
  ExpectSame(expected, ReadAll(*OpenLog(dir / "r.csv", schema)));
  write("userId,rating,timestamp\n1,4.0,7\n");
  base::Error error = OpenError(dir / "r.csv", schema);
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("r.csv"));
  EXPECT_THAT(error.message, HasSubstr("column 'movieId' is missing"));
  write("userId,movieId,rating,timestamp,title\n1,2,4.0,7,x\n");
  EXPECT_THAT(OpenError(dir / "r.csv", schema).message,
              HasSubstr("its column 5 'title' is not in the schema"));
  write("userId,movieId,rating,timestamp,userid\n1,2,4.0,7,x\n");
  EXPECT_THAT(OpenError(dir / "r.csv", schema).message,
              HasSubstr("column 'userId' is there twice"));
  write("1,2,4.0,7\n1,3,4.0,7\n");
  EXPECT_THAT(OpenError(dir / "r.csv", schema).message, HasSubstr("'1' is not in the schema"));
}

TEST(FileLogTest, ExtraColumnsMayBeIgnored) {
  const TempDir dir;
  WriteText(dir / "d.csv", "z,label,more,id\nq,1,w,5\n");
  auto log = OpenLog(dir / "d.csv",
                     MakeSchema("header: true\nextra_columns: ignore\ncolumns:\n"
                                "- {name: label, role: label}\n- {name: id, role: sparse}\n"));
  EXPECT_THAT(ReadAll(*log).labels, ElementsAre(1));
}

TEST(FileLogTest, CriteoCsvWorksWithAndWithoutId) {
  const TempDir dir;
  std::string columns;
  std::string values;
  for (int i = 1; i <= 13; ++i) columns += fmt::format(",I{}", i), values += fmt::format(",{}", i);
  for (int i = 1; i <= 26; ++i) columns += fmt::format(",C{}", i), values += fmt::format(",c{}", i);
  WriteText(dir / "a", "label" + columns + "\n1" + values + "\n");
  WriteText(dir / "b", "Id,Label" + columns + "\n77,1" + values + "\n");
  const RecordBatch without = ReadAll(*OpenLog(dir / "a", *LoadSchema("criteo-csv")));
  EXPECT_EQ(without.dense.size(), 13u);
  EXPECT_EQ(without.sparse.size(), 39u);
  ExpectSame(without, ReadAll(*OpenLog(dir / "b", *LoadSchema("criteo-csv"))));
  std::string tabs = "1" + values + "\n";
  std::replace(tabs.begin(), tabs.end(), ',', '\t');
  WriteText(dir / "c", tabs);
  ExpectSame(without, ReadAll(*OpenLog(dir / "c", *LoadSchema("criteo"))));
}

TEST(FileLogTest, GzipOfSeveralMembersIsOneText) {
  const TempDir dir;
  WriteGzip(dir / "data.gz", Numbered(100));
  WriteGzip(dir / "data.gz", Numbered(50), "ab");
  WriteText(dir / "data", Numbered(100) + Numbered(50));
  ExpectSame(ReadAll(*OpenLog(dir / "data", PlainSchema())),
             ReadAll(*OpenLog(dir / "data.gz", PlainSchema())));
}

TEST(FileLogTest, DamagedGzipIsCorrupt) {
  const TempDir dir;
  WriteGzip(dir / "data.gz", Numbered(20000));
  std::string packed = ReadText(dir / "data.gz");
  WriteText(dir / "cut.gz", packed.substr(0, packed.size() / 2));
  base::Error error = OpenError(dir / "cut.gz", PlainSchema());
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  EXPECT_THAT(error.message, HasSubstr("it ends in the middle"));
  packed[packed.size() / 2] ^= 0x55;
  WriteText(dir / "bad.gz", packed);
  error = OpenError(dir / "bad.gz", PlainSchema());
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  EXPECT_THAT(error.message, HasSubstr("bad.gz"));
}

TEST(FileLogTest, AFileThatChangesWhileItIsOpenIsAnErrorThatNamesIt) {
  const TempDir dir;
  const std::string path = dir / "data";
  RecordBatch batch;
  const auto error_after = [&](auto change) {
    WriteText(path, Numbered(200000));
    auto log = OpenLog(path, PlainSchema());
    EXPECT_TRUE(log->Read({0, 10}, batch).has_value());
    change();
    auto read = log->Read({150000, 150010}, batch);
    EXPECT_FALSE(read.has_value());
    EXPECT_EQ(batch.rows, 0u);
    return read ? base::Error{} : read.error();
  };
  base::Error error = error_after([&] { ASSERT_EQ(truncate(path.c_str(), 5000), 0); });
  EXPECT_EQ(error.code, ErrorCode::kIo);
  EXPECT_THAT(error.message, HasSubstr("data' shrank from"));
  error = error_after([&] { std::ofstream(path, std::ios::app) << "0,a,1\n"; });
  EXPECT_THAT(error.message, HasSubstr("changed while it was being read"));
  error = error_after([&] {
    WriteText(dir / "other", Numbered(200000));
    std::filesystem::rename(dir / "other", path);
  });
  EXPECT_THAT(error.message, HasSubstr("changed while it was being read"));
  error = error_after([&] { std::filesystem::remove(path); });
  EXPECT_THAT(error.message, HasSubstr("cannot be read again"));
  EXPECT_EQ(error.code, ErrorCode::kIo);
}

}  // namespace
}  // namespace freshet::stream
