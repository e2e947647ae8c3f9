// SPDX-License-Identifier: Apache-2.0
#include "stream/record_parser.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/random.h"
#include "tests/stream/testing.h"

namespace freshet::stream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

LogSchema OneColumn(const std::string& settings) {
  return MakeSchema("columns:\n- {name: y, role: label}\n- {name: c, " + settings + "}\n");
}

TEST(RecordParserTest, LabelsComeFromThresholdOrAreZeroAndOne) {
  const RecordBatch stars = Parse("3.5,a\n4.0,a\n5,a\n-1,a\n4e0,a\n",
                                  MakeSchema("columns:\n- {name: y, role: label, threshold: 4.0}\n"
                                             "- {name: c, role: sparse}\n"));
  EXPECT_THAT(stars.labels, ElementsAre(0, 1, 1, 0, 1));
  const RecordBatch clicks = Parse("0,a\n1,a\n1.0,a\n2,a\n,a\nyes,a\n", OneColumn("role: sparse"));
  EXPECT_THAT(clicks.labels, ElementsAre(0, 1, 1));
  ASSERT_EQ(clicks.dead.size(), 3u);
  EXPECT_THAT(clicks.dead[0].reason, HasSubstr("must be 0 or 1, not '2'"));
  EXPECT_THAT(clicks.dead[1].reason, HasSubstr("column 'y': no label"));
  EXPECT_THAT(clicks.dead[2].reason, HasSubstr("column 'y': bad number 'yes'"));
}

TEST(RecordParserTest, DenseTransformsGiveTheseNumbers) {
  EXPECT_THAT(Parse("0,-2.5\n0,\n0,1e3\n", OneColumn("role: dense")).dense,
              ElementsAre(-2.5f, 0.0f, 1000.0f));
  const RecordBatch logs =
      Parse("0,0\n0,1\n0,-1\n0,\n0,99999\n0,0.5\n", OneColumn("role: dense, log1p: true"));
  EXPECT_THAT(logs.dense, ElementsAre(0.0f, std::log1p(1.0f), -std::log1p(1.0f), 0.0f,
                                      static_cast<float>(std::log1p(99999.0)),
                                      static_cast<float>(std::log1p(0.5))));
  EXPECT_THAT(
      Parse("0,-5\n0,5\n0,50\n0,\n", OneColumn("role: dense, clip: {min: 1, max: 10}")).dense,
      ElementsAre(1.0f, 5.0f, 10.0f, 0.0f));
}

TEST(RecordParserTest, BucketizedColumnsAreSparse) {
  const RecordBatch batch =
      Parse("0,17\n0,18\n0,24.9\n0,25\n0,\n", OneColumn("role: dense, bucketize: [18, 25]"));
  EXPECT_EQ(batch.dense_count, 0u);
  ASSERT_EQ(batch.sparse.size(), 5u);
  EXPECT_EQ(batch.sparse[1], batch.sparse[2]);
  const std::set<uint64_t> keys(batch.sparse.begin(), batch.sparse.end());
  EXPECT_EQ(keys.size(), 4u);  // below 18, 18 to 25, from 25, missing
}

TEST(RecordParserTest, LogSquaredBucketsKeepSmallNumbersApart) {
  Column column;
  column.bucket = BucketKind::kLogSquared;
  const auto bucket = [&](double value) { return BucketOf(column, value); };
  EXPECT_EQ(bucket(-3), -3);
  EXPECT_EQ(bucket(-0.5), -1);
  EXPECT_EQ(bucket(0), 0);
  EXPECT_EQ(bucket(2), 2);
  EXPECT_EQ(bucket(2.5), 2);
  EXPECT_EQ(bucket(3), 4);      // ln(3)^2 = 1.2
  EXPECT_EQ(bucket(100), 24);   // 21.2
  EXPECT_EQ(bucket(1382), 55);  // 52.3
  EXPECT_EQ(bucket(-1e300), -1'000'000);
}

TEST(RecordParserTest, EqualValuesOfTwoColumnsHaveDifferentKeysAndMissingIsAValue) {
  const LogSchema schema = MakeSchema(
      "columns:\n- {name: y, role: label}\n- {name: a, role: sparse}\n- {name: b, role: sparse}\n");
  const RecordBatch batch = Parse("0,7,7\n0,,\n0,7,7\n", schema);
  ASSERT_EQ(batch.sparse.size(), 6u);
  const std::set<uint64_t> keys(batch.sparse.begin(), batch.sparse.begin() + 4);
  EXPECT_EQ(keys.size(), 4u);
  EXPECT_EQ(batch.sparse[0], batch.sparse[4]);
  EXPECT_EQ(batch.sparse[1], batch.sparse[5]);
}

TEST(RecordParserTest, KeysDependOnTheNameOfAColumnNotOnItsPlace) {
  const RecordBatch first = Parse("0,u1\n", OneColumn("role: sparse"));
  const RecordBatch second =
      Parse("u1,0,z\n", MakeSchema("columns:\n- {name: C, role: sparse}\n- {name: y, role: label}\n"
                                   "- {name: z, role: ignored}\n"));
  EXPECT_EQ(first.sparse[0], second.sparse[0]);
  // A written key must never change: stored models are addressed by it.
  EXPECT_EQ(first.sparse[0], 1351940888729060649ull);
}

TEST(RecordParserTest, TimestampsAreUnixMilliseconds) {
  EXPECT_THAT(
      Parse("0,964982703\n0,\n", MakeSchema("columns:\n- {name: y, role: label}\n"
                                            "- {name: t, role: timestamp, hour_of_day: true}\n"))
          .timestamps,
      ElementsAre(964982703000, 0));
  EXPECT_EQ(ParseTimestampMs("1.5", TimestampFormat::kUnixSeconds), 1500);
  EXPECT_EQ(ParseTimestampMs("-1", TimestampFormat::kUnixSeconds), -1000);
  EXPECT_EQ(ParseTimestampMs("1700000000123", TimestampFormat::kUnixMillis), 1700000000123);
  EXPECT_EQ(ParseTimestampMs("14102100", TimestampFormat::kYymmddhh), 1413849600000);
  EXPECT_EQ(ParseTimestampMs("14102123", TimestampFormat::kYymmddhh), 1413849600000 + 23 * 3600000);
  for (const char* bad : {"14130100", "14022900", "14102124", "1410210", "x"}) {
    EXPECT_EQ(ParseTimestampMs(bad, TimestampFormat::kYymmddhh), std::nullopt) << bad;
  }
  EXPECT_EQ(ParseTimestampMs("9223372036854775807", TimestampFormat::kUnixSeconds), std::nullopt);
  EXPECT_EQ(ParseTimestampMs("1e300", TimestampFormat::kUnixMillis), std::nullopt);
}

TEST(RecordParserTest, HourOfDayIsTheSameKeyEveryDay) {
  const LogSchema schema = MakeSchema(
      "columns:\n- {name: y, role: label}\n"
      "- {name: t, role: timestamp, format: yymmddhh, hour_of_day: true}\n");
  const RecordBatch batch = Parse("0,14102105\n0,14102205\n0,14102206\n", schema);
  EXPECT_EQ(batch.sparse[0], batch.sparse[1]);
  EXPECT_NE(batch.sparse[0], batch.sparse[2]);
}

TEST(RecordParserTest, NumbersAreReadExactly) {
  const auto number = [](std::string_view text) {
    double value = NAN;
    return ParseNumber(text, value) ? value : NAN;
  };
  EXPECT_EQ(number("0.1"), 0.1);
  EXPECT_EQ(number("-123.456"), -123.456);
  EXPECT_EQ(number("123456789012345"), 123456789012345.0);
  EXPECT_EQ(number("1234567890123456789"), 1234567890123456789.0);
  EXPECT_EQ(number("0.000000000000001"), 1e-15);
  EXPECT_EQ(number(".5"), 0.5);
  EXPECT_EQ(number("5."), 5.0);
  EXPECT_EQ(number("+5"), 5.0);
  EXPECT_EQ(number(" 5 "), 5.0);
  EXPECT_EQ(number("1.5e-3"), 0.0015);
  for (const char* bad : {"", " ", "-", ".", "+", "+-5", "1.2.3", "1e", "nan", "inf", "-inf",
                          "0x10", "1e999", "5 5", "--5", "1,5"}) {
    EXPECT_TRUE(std::isnan(number(bad))) << bad;
  }
}

TEST(RecordParserTest, RandomNumbersRoundTrip) {
  base::Random random(7);
  for (int i = 0; i < 20000; ++i) {
    const double scale = std::pow(10.0, static_cast<double>(random.Below(20)) - 10);
    const double expected = (random.Uniform() - 0.5) * scale;
    char text[64];
    std::snprintf(text, sizeof(text), i % 2 == 0 ? "%.17g" : "%.6f", expected);
    double value = 0;
    ASSERT_TRUE(ParseNumber(text, value)) << text;
    ASSERT_EQ(value, std::strtod(text, nullptr)) << text;
  }
}

TEST(RecordParserTest, QuotedFieldsMayHoldDelimitersAndDoubledQuotes) {
  const RecordBatch batch = Parse(
      "0,\"a,b\",1\n0,\"say "
      "\"\"hi\"\"\",2\n0,\"plain\",3\n0,plain,3\n0,pl\"ain,\"4\"\n0,\"\",5\n0,,5\n",
      PlainSchema());
  EXPECT_EQ(batch.rows, 7u);
  EXPECT_THAT(batch.dense, ElementsAre(1, 2, 3, 3, 4, 5, 5));
  EXPECT_EQ(batch.sparse[2], batch.sparse[3]);
  EXPECT_EQ(batch.sparse[5], batch.sparse[6]);
  EXPECT_EQ(batch.sparse[0], Parse("0|a,b|1\n", MakeSchema("delimiter: '|'\ncolumns:\n"
                                                           "- {name: y, role: label}\n"
                                                           "- {name: id, role: sparse}\n"
                                                           "- {name: x, role: dense}\n"))
                                 .sparse[0]);
}

TEST(RecordParserTest, BrokenQuotesAreNamed) {
  const RecordBatch batch = Parse("0,a,1\n0,\"a,1\n0,\"a\"b,1\n0,\"\n", PlainSchema());
  EXPECT_EQ(batch.rows, 1u);
  ASSERT_EQ(batch.dead.size(), 3u);
  EXPECT_THAT(batch.dead[0].reason, HasSubstr("the quote of column 2 does not end"));
  EXPECT_THAT(batch.dead[1].reason, HasSubstr("text behind the quotes of column 2"));
}

TEST(RecordParserTest, WithoutQuotesAQuoteIsText) {
  const LogSchema schema =
      MakeSchema("quotes: false\ncolumns:\n- {name: y, role: label}\n- {name: id, role: sparse}\n");
  EXPECT_EQ(Parse("0,\"a\n1,b\"\n", schema).rows, 2u);
}

TEST(RecordParserTest, TextThatIsNotUtf8IsDeadAndUtf8IsNot) {
  const std::string text = std::string("0,gr\xC3\xBC\xC3\x9F,1\n0,\xFF\xFE,1\n0,\xC0\x80,1\n0,a") +
                           '\0' + "b,1\n0,\xED\xA0\x80,1\n0,\xF0\x9F\x98\x80,1\n0,x\xC3,1\n";
  const TempDir dir;
  // Behind the first 64 KiB, where a NUL byte makes a record dead instead of the file binary.
  std::string padding;
  for (int i = 0; i < 12000; ++i) padding += "0,a,1\n";
  WriteText(dir / "data", padding + text);
  auto log = OpenLog(dir / "data", PlainSchema());
  RecordBatch batch;
  ASSERT_TRUE(log->Read({12000, log->end()}, batch).has_value());
  EXPECT_THAT(batch.offsets, ElementsAre(12000, 12005));
  ASSERT_EQ(batch.dead.size(), 5u);
  EXPECT_EQ(batch.dead[0].reason, "not UTF-8");
  EXPECT_EQ(batch.dead[1].reason, "not UTF-8");
  EXPECT_EQ(batch.dead[2].reason, "binary data (a NUL byte)");
  EXPECT_EQ(batch.dead[3].reason, "not UTF-8");
  EXPECT_EQ(batch.dead[4].reason, "not UTF-8");
}

TEST(RecordParserTest, ColumnsAreFoundWhateverTheLengthOfTheLine) {
  // Field and line ends at every place of the blocks in which a line is scanned.
  for (size_t length = 0; length < 200; ++length) {
    const std::string value(length, 'v');
    const RecordBatch batch = Parse("1," + value + ",2.5\n0," + value + ",3", PlainSchema());
    ASSERT_EQ(batch.rows, 2u) << length;
    ASSERT_THAT(batch.dense, ElementsAre(2.5f, 3.0f)) << length;
    ASSERT_EQ(batch.sparse[0], batch.sparse[1]) << length;
  }
}

TEST(RecordParserTest, WrongColumnCountsAreNamed) {
  const RecordBatch batch = Parse("0,a,1\n0,a\n0,a,1,\n\n", PlainSchema());
  ASSERT_EQ(batch.dead.size(), 3u);
  EXPECT_EQ(batch.dead[0].reason, "2 columns instead of 3");
  EXPECT_EQ(batch.dead[1].reason, "4 columns instead of 3");
  EXPECT_EQ(batch.dead[2].reason, "empty line");
}

TEST(RecordParserTest, NumbersBeyondAFloatAreDead) {
  const RecordBatch batch = Parse("0,a,1e39\n0,a,1e38\n", PlainSchema());
  EXPECT_THAT(batch.dense, ElementsAre(1e38f));
  ASSERT_EQ(batch.dead.size(), 1u);
  EXPECT_THAT(batch.dead[0].reason, HasSubstr("number too large"));
}

}  // namespace
}  // namespace freshet::stream
