// SPDX-License-Identifier: Apache-2.0
#include "protocol/validation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/random.h"

namespace freshet::protocol {
namespace {

struct Prediction {
  float logit;
  float label;
};

// Labels drawn with the probability of the true logit; predictions with noise on it.
std::vector<Prediction> RandomPredictions(uint64_t seed, size_t count, double spread) {
  base::Random random(seed);
  std::vector<Prediction> out;
  for (size_t i = 0; i < count; ++i) {
    const double truth = (random.Uniform() + random.Uniform() + random.Uniform() - 1.5) * spread;
    const bool positive = random.Chance(1.0 / (1.0 + std::exp(-truth)));
    const double noise = (random.Uniform() - 0.5) * spread;
    out.push_back({static_cast<float>(truth + noise), positive ? 1.0f : 0.0f});
  }
  return out;
}

double ExactAuc(std::vector<Prediction> all) {
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.logit < b.logit; });
  double right = 0;
  double negatives = 0;
  double positives = 0;
  for (size_t i = 0; i < all.size();) {
    size_t end = i;
    double tied_positive = 0;
    double tied_negative = 0;
    for (; end < all.size() && all[end].logit == all[i].logit; ++end) {
      (all[end].label > 0.5f ? tied_positive : tied_negative) += 1;
    }
    right += tied_positive * (negatives + 0.5 * tied_negative);
    positives += tied_positive;
    negatives += tied_negative;
    i = end;
  }
  return right / (positives * negatives);
}

ValidationHistogram Fill(const std::vector<Prediction>& all) {
  ValidationHistogram out;
  for (const Prediction& one : all) out.Add(one.logit, one.label);
  return out;
}

TEST(ValidationTest, AucIsWithinOneThousandthOfTheExactOne) {
  for (const double spread : {0.05, 0.5, 2.0, 6.0}) {
    const auto all = RandomPredictions(7, 50000, spread);
    EXPECT_NEAR(Fill(all).Auc(), ExactAuc(all), 1e-3) << "spread " << spread;
  }
}

TEST(ValidationTest, LogLossIsTheMeanOfTheExactLosses) {
  const auto all = RandomPredictions(8, 20000, 3.0);
  double sum = 0;
  for (const Prediction& one : all) {
    const double p = 1.0 / (1.0 + std::exp(-double{one.logit}));
    sum -= one.label > 0.5f ? std::log(p) : std::log(1.0 - p);
  }
  EXPECT_NEAR(Fill(all).LogLoss(), sum / 20000.0, 1e-9);
}

TEST(ValidationTest, LossOfExtremeLogitsIsFiniteAndBounded) {
  ValidationHistogram h;
  h.Add(90.0f, 0.0f);
  EXPECT_NEAR(h.LogLoss(), 90.0, 1e-9);
  h.Clear();
  h.Add(90.0f, 1.0f);
  EXPECT_NEAR(h.LogLoss(), 0.0, 1e-9);
  h.Add(std::numeric_limits<float>::infinity(), 0.0f);
  h.Add(-std::numeric_limits<float>::infinity(), 0.0f);
  EXPECT_NEAR(h.LogLoss(), 100.0 / 3.0, 1e-9);
}

TEST(ValidationTest, NotANumberCountsAsTheWorstPrediction) {
  ValidationHistogram h;
  h.Add(std::nanf(""), 1.0f);
  h.Add(std::nanf(""), 0.0f);
  EXPECT_EQ(h.records(), 2u);
  EXPECT_EQ(h.Auc(), 0.0);
  EXPECT_EQ(h.LogLoss(), 100.0);
}

TEST(ValidationTest, EmptyOrOneClassGivesOneHalf) {
  ValidationHistogram h;
  EXPECT_EQ(h.Auc(), 0.5);
  EXPECT_EQ(h.LogLoss(), 0.0);
  h.Add(3.0f, 1.0f);
  EXPECT_EQ(h.Auc(), 0.5);
  EXPECT_EQ(h.positives(), 1u);
}

TEST(ValidationTest, TiesCountHalf) {
  ValidationHistogram h;
  h.Add(1.0f, 1.0f);
  h.Add(1.0f, 0.0f);
  EXPECT_EQ(h.Auc(), 0.5);
}

TEST(ValidationTest, MergedPartsEqualTheWhole) {
  const auto all = RandomPredictions(9, 9000, 2.0);
  const ValidationHistogram whole = Fill(all);
  ValidationHistogram merged;
  ValidationHistogram from_deltas;
  for (size_t begin = 0; begin < all.size(); begin += 1000) {
    const auto part = Fill({all.begin() + begin, all.begin() + begin + 1000});
    merged.Merge(part);
    EXPECT_TRUE(from_deltas.Add(part.ToDelta()));
  }
  for (const auto& other : {merged, from_deltas}) {
    EXPECT_EQ(other.records(), whole.records());
    EXPECT_EQ(other.positives(), whole.positives());
    EXPECT_EQ(other.Auc(), whole.Auc());
    EXPECT_NEAR(other.LogLoss(), whole.LogLoss(), 1e-12);
  }
}

TEST(ValidationTest, DeltaCarriesOnlyBucketsThatAreUsed) {
  ValidationHistogram h;
  EXPECT_TRUE(h.ToDelta().buckets.empty());
  h.Add(0.0f, 1.0f);
  h.Add(0.0f, 0.0f);
  h.Add(-50.0f, 0.0f);
  const auto delta = h.ToDelta();
  EXPECT_EQ(delta.buckets, (std::vector<uint16_t>{0, 2048}));
  EXPECT_EQ(delta.positive, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(delta.negative, (std::vector<uint32_t>{1, 1}));
}

TEST(ValidationTest, CountsBeyondThirtyTwoBitsSurviveTheDelta) {
  ValidationHistogram h;
  const uint32_t most = std::numeric_limits<uint32_t>::max();
  ASSERT_TRUE(h.Add({{5, 5}, {most, most}, {0, 7}, 1.0}));
  ValidationHistogram copy;
  ASSERT_TRUE(copy.Add(h.ToDelta()));
  EXPECT_EQ(copy.positives(), 2ull * most);
  EXPECT_EQ(copy.records(), 2ull * most + 7);
}

TEST(ValidationTest, MalformedDeltaIsRefusedAndAddsNothing) {
  const double nan = std::nan("");
  const ValidationHistogram::Delta malformed[] = {
      {{1, 2}, {1}, {1, 1}, 0.5}, {{1}, {1}, {}, 0.5},
      {{}, {1}, {1}, 0.5},        {{1, 4096}, {1, 1}, {0, 0}, 0.5},
      {{65535}, {1}, {0}, 0.5},   {{1}, {1}, {0}, nan},
      {{1}, {1}, {0}, -0.5},      {{1}, {1}, {0}, 101.0},
      {{}, {}, {}, 1.0},          {{1}, {1}, {0}, HUGE_VAL},
  };
  ValidationHistogram h;
  for (const auto& delta : malformed) EXPECT_FALSE(h.Add(delta));
  EXPECT_EQ(h.records(), 0u);
  EXPECT_EQ(h.LogLoss(), 0.0);
  EXPECT_TRUE(h.ToDelta().buckets.empty());
}

}  // namespace
}  // namespace freshet::protocol
