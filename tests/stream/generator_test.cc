// SPDX-License-Identifier: Apache-2.0
#include "stream/generator.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>

#include "protocol/validation.h"
#include "tests/stream/testing.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using testing::HasSubstr;

GeneratorOptions Small(uint64_t records) {
  GeneratorOptions options;
  options.records = records;
  return options;
}

GeneratorSummary Generate(const GeneratorOptions& options, const std::string& path) {
  auto summary = GenerateLog(options, path, {});
  EXPECT_TRUE(summary.has_value()) << (summary ? "" : summary.error().message);
  return summary ? *summary : GeneratorSummary{};
}

TEST(GeneratorTest, WritesWhatTheFreshetSchemaReads) {
  const TempDir dir;
  const GeneratorSummary summary = Generate(Small(3000), dir / "g.tsv");
  EXPECT_EQ(summary.records, 3000u);
  EXPECT_EQ(summary.bytes, std::filesystem::file_size(dir / "g.tsv"));
  auto log = OpenLog(dir / "g.tsv", *LoadSchema("freshet"));
  const RecordBatch batch = ReadAll(*log);
  EXPECT_EQ(batch.rows, 3000u);
  EXPECT_EQ(batch.dead.size(), 0u);
  double positives = 0;
  for (float label : batch.labels) positives += label;
  EXPECT_DOUBLE_EQ(positives / 3000, summary.positive_rate);
  EXPECT_EQ(batch.timestamps[0], 1'700'000'000'000);
  EXPECT_EQ(batch.timestamps[2999], 1'700'000'029'990);
  EXPECT_EQ(MakeSchema(GeneratorSchemaYaml(Small(1))).Fingerprint(),
            LoadSchema("freshet")->Fingerprint());
}

TEST(GeneratorTest, RecordIsAFunctionOfSeedAndNumber) {
  const TempDir dir;
  Generate(Small(2000), dir / "whole");
  GeneratorOptions part = Small(1500);
  Generate(part, dir / "first");
  part.first_record = 1500;
  part.records = 500;
  Generate(part, dir / "second");
  const std::string second = ReadText(dir / "second");
  const std::string body = second.substr(second.find('\n') + 1);
  EXPECT_EQ(ReadText(dir / "whole"), ReadText(dir / "first") + body);
  part.model.seed = 2;
  part.existing = ExistingFile::kReplace;
  Generate(part, dir / "second");
  EXPECT_NE(ReadText(dir / "second"), second);
}

TEST(GeneratorTest, AnExistingFileIsLeftAloneUnlessToldOtherwise) {
  const TempDir dir;
  WriteText(dir / "g", "mine");
  auto summary = GenerateLog(Small(10), dir / "g", {});
  ASSERT_FALSE(summary.has_value());
  EXPECT_EQ(summary.error().code, ErrorCode::kConflict);
  EXPECT_EQ(ReadText(dir / "g"), "mine");
  GeneratorOptions options = Small(10);
  options.existing = ExistingFile::kReplace;
  Generate(options, dir / "g");
  EXPECT_THAT(ReadText(dir / "g"), testing::StartsWith("click\ttime_ms\tuser\t"));
  EXPECT_FALSE(std::filesystem::exists(dir / "g.part"));
}

TEST(GeneratorTest, OptionsThatMakeNoSenseAreRefused) {
  const TempDir dir;
  const auto code = [&](const GeneratorOptions& options, const std::string& path) {
    auto summary = GenerateLog(options, path, {});
    return summary ? std::string("fine") : std::string(base::ErrorCodeName(summary.error().code));
  };
  EXPECT_EQ(code(Small(0), dir / "g"), "invalid argument");
  GeneratorOptions options = Small(10);
  options.model.fields[1].name = "user";
  EXPECT_EQ(code(options, dir / "g"), "invalid argument");
  options = Small(10);
  options.model.fields[1].cardinality = 0;
  EXPECT_EQ(code(options, dir / "g"), "invalid argument");
  options = Small(10);
  options.model.pairs.push_back({99, 0, 0.1});
  EXPECT_EQ(code(options, dir / "g"), "invalid argument");
  options = Small(10);
  options.model.zipf_exponent = NAN;
  EXPECT_EQ(code(options, dir / "g"), "invalid argument");
  EXPECT_EQ(code(Small(10), dir / "no/such/dir/g"), "not found");
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(GeneratorTest, ProgressEndsWithAllRecords) {
  const TempDir dir;
  std::vector<uint64_t> seen;
  auto summary =
      GenerateLog(Small(150000), dir / "g", [&](uint64_t records) { seen.push_back(records); });
  ASSERT_TRUE(summary.has_value());
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen.back(), 150000u);
  EXPECT_GT(summary->best_auc, 0.74);
  EXPECT_LT(summary->best_auc, 0.84);
  EXPECT_GT(summary->best_logloss, 0.3);
}

TEST(PlantedModelTest, IdsFollowAZipfLaw) {
  PlantedOptions options;
  options.fields = {{.name = "f", .cardinality = 1000}};
  options.zipf_exponent = 1.2;
  const PlantedModel model(options);
  std::map<uint64_t, double> count;
  Click click;
  constexpr uint64_t kDraws = 200000;
  for (uint64_t i = 0; i < kDraws; ++i) {
    model.Draw(i, click);
    count[click.ids[0]] += 1;
  }
  double total = 0;
  for (int rank = 1; rank <= 1000; ++rank) total += std::pow(rank, -1.2);
  for (int rank : {1, 2, 5, 20, 100}) {
    const double expected = kDraws * std::pow(rank, -1.2) / total;
    EXPECT_NEAR(count[static_cast<uint64_t>(rank - 1)], expected, 5 * std::sqrt(expected)) << rank;
  }
}

TEST(PlantedModelTest, LabelsAreDrawnWithThePlantedProbability) {
  const PlantedModel model({.seed = 3, .fields = DefaultFields(), .pairs = DefaultPairs()});
  double expected = 0;
  double variance = 0;
  double clicked = 0;
  Click click;
  for (uint64_t i = 0; i < 100000; ++i) {
    model.Draw(i, click);
    const double p = 1 / (1 + std::exp(-click.logit));
    expected += p;
    variance += p * (1 - p);
    clicked += click.clicked;
  }
  EXPECT_NEAR(clicked, expected, 5 * std::sqrt(variance));
}

TEST(PlantedModelTest, NewItemsAppearAtTheRateAsked) {
  PlantedOptions options;
  options.fields = {{.name = "item", .cardinality = 200, .renews = true}};
  options.zipf_exponent = 0.5;
  options.new_items_per_million = 500;
  const PlantedModel model(options);
  const auto ids_in = [&](uint64_t begin) {
    std::set<uint64_t> ids;
    Click click;
    for (uint64_t i = begin; i < begin + 10000; ++i) {
      model.Draw(i, click);
      ids.insert(click.ids[0]);
    }
    return ids;
  };
  const std::set<uint64_t> before = ids_in(0);
  uint64_t fresh = 0;
  for (uint64_t id : ids_in(200'000)) fresh += before.contains(id) ? 0 : 1;
  EXPECT_NEAR(static_cast<double>(fresh), 100, 30);  // 500 per million x 0.2 million
  options.new_items_per_million = 0;
  const PlantedModel still(options);
  Click click;
  still.Draw(100'000'000, click);
  EXPECT_LT(click.ids[0], 200u);
}

TEST(PlantedModelTest, DriftTurnsTheWeightsAndComesBack) {
  PlantedOptions options;
  options.fields = {{.name = "f", .cardinality = 1, .weight = 1.0, .drifts = true}};
  const auto mean_logit = [&](uint64_t period, uint64_t begin) {
    options.drift_period_records = period;
    const PlantedModel model(options);
    double sum = 0;
    Click click;
    for (uint64_t i = begin; i < begin + 4096; ++i) {
      model.Draw(i, click);
      sum += click.logit;
    }
    return sum / 4096;
  };
  constexpr uint64_t kPeriod = 4096 * 1000;
  const double start = mean_logit(kPeriod, 0);
  const double bias = -0.9;
  EXPECT_NEAR(mean_logit(kPeriod, kPeriod), start, 0.02);
  // Half a turn later the weight has changed its sign, whatever it was.
  EXPECT_NEAR(mean_logit(kPeriod, kPeriod / 2) - bias, -(start - bias), 0.1);
  EXPECT_NEAR(mean_logit(0, 0), mean_logit(0, kPeriod / 2), 0.02);
}

}  // namespace
}  // namespace freshet::stream
