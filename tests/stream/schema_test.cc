// SPDX-License-Identifier: Apache-2.0
#include "stream/schema.h"

#include <gmock/gmock.h>

#include "tests/stream/testing.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string ErrorOf(const std::string& yaml) {
  auto schema = ParseSchema(yaml, "my.yaml");
  if (schema) return "no error";
  EXPECT_EQ(schema.error().code, ErrorCode::kInvalidArgument);
  return schema.error().message;
}

constexpr char kLabel[] = "- {name: y, role: label}\n";

TEST(SchemaTest, EveryKeyIsRead) {
  const LogSchema schema = MakeSchema(R"(
name: mine
delimiter: pipe
header: true
quotes: false
extra_columns: ignore
columns:
  - {name: stars, role: label, threshold: 3.5}
  - {name: price, role: dense, log1p: true, clip: {min: 0, max: 1000}}
  - {name: age, role: dense, bucketize: [18, 25, 35]}
  - {name: count, role: dense, bucketize: log_squared, keep_dense: true}
  - {name: user, role: sparse}
  - {name: when, role: timestamp, format: unix_ms, hour_of_day: true}
  - {name: note, role: ignored, optional: true}
)");
  EXPECT_EQ(schema.name(), "mine");
  EXPECT_EQ(schema.delimiter(), '|');
  EXPECT_TRUE(schema.header());
  EXPECT_FALSE(schema.quotes());
  EXPECT_EQ(schema.extra_columns(), ExtraColumns::kIgnore);
  EXPECT_EQ(schema.dense_count(), 2u);   // price, count
  EXPECT_EQ(schema.sparse_count(), 4u);  // age, count, user, hour of when
  ASSERT_EQ(schema.columns().size(), 7u);
  EXPECT_EQ(schema.columns()[0].threshold, 3.5);
  EXPECT_EQ(schema.columns()[1].clip_min, 0.0);
  EXPECT_EQ(schema.columns()[1].clip_max, 1000.0);
  EXPECT_THAT(schema.columns()[2].boundaries, ElementsAre(18, 25, 35));
  EXPECT_EQ(schema.columns()[3].bucket, BucketKind::kLogSquared);
  EXPECT_TRUE(schema.columns()[6].optional);
}

TEST(SchemaTest, UnknownKeyIsRefusedWithFileLineAndNearestName) {
  EXPECT_THAT(ErrorOf("delimeter: tab\ncolumns: []\n"),
              AllOf(StartsWith("my.yaml:1: unknown key 'delimeter'"),
                    HasSubstr("did you mean 'delimiter'?")));
  EXPECT_THAT(ErrorOf("columns:\n- name: y\n  role: label\n  treshold: 4\n"),
              AllOf(StartsWith("my.yaml:4: unknown key 'treshold' in a column"),
                    HasSubstr("did you mean 'threshold'?")));
  EXPECT_THAT(ErrorOf("columns:\n- {name: y, role: dense, clip: {mx: 4}}\n"),
              HasSubstr("unknown key 'mx' in clip, did you mean 'max'?"));
  EXPECT_THAT(ErrorOf("columns:\n- {name: y, role: lable}\n"),
              HasSubstr("my.yaml:2: 'lable' is no role, did you mean 'label'?"));
}

TEST(SchemaTest, LabelIsNeededOnce) {
  EXPECT_THAT(ErrorOf("columns:\n- {name: a, role: sparse}\n"),
              HasSubstr("no column has role: label"));
  EXPECT_THAT(ErrorOf("columns:\n- {name: a, role: label}\n- {name: b, role: label}\n"),
              HasSubstr("my.yaml:3: 'a' and 'b' are both labels"));
  EXPECT_THAT(ErrorOf(std::string("columns:\n") + kLabel), HasSubstr("nothing to learn"));
}

TEST(SchemaTest, ColumnNamesAreOncePerSchemaWhateverTheirCase) {
  EXPECT_THAT(ErrorOf(std::string("columns:\n") + kLabel +
                      "- {name: id, role: sparse}\n- {name: ID, role: dense}\n"),
              HasSubstr("my.yaml:4: column 'ID' appears twice"));
}

TEST(SchemaTest, DelimitersThatCouldBePartOfAValueAreRefused) {
  for (const char* bad : {"ab", "5", "x", "'.'", "'-'", "'\"'", "\"\\n\"", "''"}) {
    EXPECT_THAT(ErrorOf(std::string("delimiter: ") + bad + "\ncolumns: []\n"),
                StartsWith("my.yaml:1: bad delimiter"))
        << bad;
  }
  for (const auto& [text, expected] : {std::pair{"tab", '\t'}, {"\"\\t\"", '\t'}, {"';'", ';'}}) {
    const LogSchema schema = MakeSchema(std::string("delimiter: ") + text + "\ncolumns:\n" +
                                        kLabel + "- {name: id, role: sparse}\n");
    EXPECT_EQ(schema.delimiter(), expected);
  }
}

TEST(SchemaTest, SettingsMustFitTheRole) {
  const auto with = [](const std::string& column) {
    return ErrorOf(std::string("header: true\ncolumns:\n") + kLabel + "- {name: c, " + column +
                   "}\n");
  };
  EXPECT_THAT(with("role: sparse, log1p: true"), HasSubstr("need role: dense"));
  EXPECT_THAT(with("role: dense, threshold: 1"), HasSubstr("threshold needs role: label"));
  EXPECT_THAT(with("role: dense, format: unix"), HasSubstr("format needs role: timestamp"));
  EXPECT_THAT(with("role: sparse, optional: true"), HasSubstr("optional is for ignored columns"));
  EXPECT_THAT(with("role: dense, keep_dense: true"), HasSubstr("keep_dense is for a column with"));
  EXPECT_THAT(with("role: dense, bucketize: [1], log1p: true"), HasSubstr("log1p has no effect"));
  EXPECT_THAT(with("role: dense, bucketize: []"), HasSubstr("at least one boundary"));
  EXPECT_THAT(with("role: dense, bucketize: [1, 1]"), HasSubstr("must ascend: 1 comes after 1"));
  EXPECT_THAT(with("role: dense, bucketize: [1, x]"), HasSubstr("must be a number, not 'x'"));
  EXPECT_THAT(with("role: dense, bucketize: log"), HasSubstr("a list of numbers or log_squared"));
  EXPECT_THAT(with("role: dense, clip: {min: 2, max: 1}"), HasSubstr("clip min 2 is above max 1"));
  EXPECT_THAT(with("role: dense, log1p: maybe"), HasSubstr("must be true or false, not 'maybe'"));
  EXPECT_THAT(with("log1p: true"), HasSubstr("column 'c' has no role"));
  EXPECT_THAT(ErrorOf("extra_columns: ignore\ncolumns:\n- {name: y, role: label}\n"),
              HasSubstr("extra_columns: ignore needs header: true"));
}

TEST(SchemaTest, WhatIsNoSchemaIsNamed) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("the schema is empty"));
  EXPECT_THAT(ErrorOf("- a\n"), HasSubstr("must be a map of keys"));
  EXPECT_THAT(ErrorOf("columns: 5\n"), HasSubstr("columns must be a list"));
  EXPECT_THAT(ErrorOf("columns: [\n"), HasSubstr("not YAML"));
  EXPECT_THAT(ErrorOf("columns: []\n"), HasSubstr("there are no columns"));
  EXPECT_THAT(ErrorOf("header: true\nheader: true\n"),
              HasSubstr("my.yaml:2: key 'header' appears"));
  EXPECT_THAT(ErrorOf("columns:\n- {role: label}\n"), HasSubstr("a column has no name"));
}

TEST(SchemaTest, RangesOfColumnsAreSpelledOut) {
  const LogSchema schema =
      MakeSchema(std::string("columns:\n") + kLabel + "- {name: C8..C11, role: sparse}\n");
  std::vector<std::string> names;
  for (const Column& column : schema.columns()) names.push_back(column.name);
  EXPECT_THAT(names, ElementsAre("y", "C8", "C9", "C10", "C11"));
  EXPECT_THAT(ErrorOf("columns:\n- {name: C3..C1, role: sparse}\n"), HasSubstr("is no range"));
  EXPECT_THAT(ErrorOf("columns:\n- {name: C1..D3, role: sparse}\n"), HasSubstr("is no range"));
  EXPECT_THAT(ErrorOf("columns:\n- {name: C0..C4294967295, role: sparse}\n"),
              HasSubstr("more than 4096 columns"));
}

TEST(SchemaTest, BuiltinSchemasHaveTheShapesOfTheirData) {
  struct Shape {
    const char* name;
    size_t columns;
    uint32_t dense;
    uint32_t sparse;
  };
  for (const Shape& shape :
       {Shape{"criteo", 40, 13, 39}, Shape{"criteo-csv", 41, 13, 39}, Shape{"movielens", 4, 0, 2},
        Shape{"avazu", 24, 0, 22}, Shape{"freshet", 15, 3, 10}}) {
    auto schema = LoadSchema(shape.name);
    ASSERT_TRUE(schema.has_value()) << schema.error().message;
    EXPECT_EQ(schema->name(), shape.name);
    EXPECT_EQ(schema->columns().size(), shape.columns) << shape.name;
    EXPECT_EQ(schema->dense_count(), shape.dense) << shape.name;
    EXPECT_EQ(schema->sparse_count(), shape.sparse) << shape.name;
  }
  EXPECT_EQ(BuiltinSchemaNames().size(), 5u);
}

TEST(SchemaTest, NamesAndFilesThatAreNotThereAreNotFound) {
  auto schema = LoadSchema("movilens");
  ASSERT_FALSE(schema.has_value());
  EXPECT_EQ(schema.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(schema.error().message, HasSubstr("no schema 'movilens', did you mean 'movielens'?"));
  schema = LoadSchema("./missing.yaml");
  ASSERT_FALSE(schema.has_value());
  EXPECT_EQ(schema.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(schema.error().message, HasSubstr("./missing.yaml"));
  const TempDir dir;
  schema = LoadSchema(dir.path());
  ASSERT_FALSE(schema.has_value());
  EXPECT_THAT(schema.error().message, HasSubstr(dir.path()));
}

TEST(SchemaTest, AFileIsReadAsTheBuiltinItCopies) {
  const TempDir dir;
  WriteText(dir / "s.yaml", BuiltinSchemaYaml("criteo"));
  auto schema = LoadSchema(dir / "s.yaml");
  ASSERT_TRUE(schema.has_value()) << schema.error().message;
  EXPECT_EQ(schema->Fingerprint(), LoadSchema("criteo")->Fingerprint());
}

TEST(SchemaTest, FingerprintIsAboutFeaturesOnly) {
  const std::string head = std::string("columns:\n") + kLabel;
  const uint64_t base = MakeSchema(head + "- {name: a, role: sparse}\n").Fingerprint();
  EXPECT_EQ(base, MakeSchema("delimiter: tab\nheader: true\n" + head +
                             "- {name: n, role: ignored}\n- {name: A, role: sparse}\n")
                      .Fingerprint());
  EXPECT_EQ(LoadSchema("criteo")->Fingerprint(), LoadSchema("criteo-csv")->Fingerprint());
  EXPECT_NE(base, MakeSchema(head + "- {name: b, role: sparse}\n").Fingerprint());
  EXPECT_NE(base, MakeSchema(head + "- {name: a, role: dense}\n").Fingerprint());
  EXPECT_NE(MakeSchema(head + "- {name: a, role: dense}\n").Fingerprint(),
            MakeSchema(head + "- {name: a, role: dense, log1p: true}\n").Fingerprint());
  EXPECT_NE(MakeSchema(head + "- {name: a, role: dense, bucketize: [1, 2]}\n").Fingerprint(),
            MakeSchema(head + "- {name: a, role: dense, bucketize: [1, 3]}\n").Fingerprint());
}

}  // namespace
}  // namespace freshet::stream
