// SPDX-License-Identifier: Apache-2.0
#include "ps/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace freshet::ps {
namespace {

using protocol::OptimizerKind;
using protocol::OptimizerSpec;

struct RowOf {
  explicit RowOf(const OptimizerSpec& spec, std::vector<float> weights)
      : optimizer(spec, static_cast<uint32_t>(weights.size())), row(std::move(weights)) {
    protocol::TableSchema schema;
    schema.dim = static_cast<uint32_t>(row.size());
    schema.optimizer = spec;
    const size_t dim = row.size();
    row.resize(dim + protocol::StateFloats(schema), 99.0f);
    optimizer.InitState(row.data() + dim);
  }
  void Push(const std::vector<float>& gradient) {
    float* const rows[] = {row.data()};
    const float* const gradients[] = {gradient.data()};
    optimizer.Apply(rows, gradients);
  }
  Optimizer optimizer;
  std::vector<float> row;
};

OptimizerSpec Spec(OptimizerKind kind) {
  OptimizerSpec spec;
  spec.kind = kind;
  spec.learning_rate = 0.1f;
  return spec;
}

TEST(Optimizer, Sgd) {
  RowOf r(Spec(OptimizerKind::kSgd), {1.0f, -2.0f});
  r.Push({0.5f, 1.0f});
  EXPECT_FLOAT_EQ(r.row[0], 0.95f);
  EXPECT_FLOAT_EQ(r.row[1], -2.1f);
}

TEST(Optimizer, WeightDecayIsAddedToTheGradient) {
  OptimizerSpec spec = Spec(OptimizerKind::kSgd);
  spec.l2 = 0.5f;
  RowOf r(spec, {2.0f});
  r.Push({0.5f});  // 2 - 0.1 (0.5 + 0.5 * 2)
  EXPECT_FLOAT_EQ(r.row[0], 1.85f);
}

TEST(Optimizer, Momentum) {
  RowOf r(Spec(OptimizerKind::kMomentum), {1.0f});
  r.Push({1.0f});  // v = 1
  EXPECT_FLOAT_EQ(r.row[0], 0.9f);
  r.Push({1.0f});  // v = 1.9
  EXPECT_FLOAT_EQ(r.row[0], 0.71f);
  EXPECT_FLOAT_EQ(r.row[1], 1.9f);
}

TEST(Optimizer, Adagrad) {
  OptimizerSpec spec = Spec(OptimizerKind::kAdagrad);
  RowOf r(spec, {1.0f, 1.0f});
  r.Push({3.0f, 0.0f});  // n = 9: 1 - 0.1 * 3 / 3; a zero gradient changes nothing
  EXPECT_FLOAT_EQ(r.row[0], 0.9f);
  EXPECT_FLOAT_EQ(r.row[1], 1.0f);
  r.Push({4.0f, 0.0f});  // n = 25: 0.9 - 0.1 * 4 / 5
  EXPECT_FLOAT_EQ(r.row[0], 0.82f);
  EXPECT_FLOAT_EQ(r.row[2], 25.0f);
  spec.initial_accumulator = 16.0f;
  RowOf warm(spec, {1.0f});
  warm.Push({3.0f});  // n = 25
  EXPECT_FLOAT_EQ(warm.row[0], 0.94f);
}

TEST(Optimizer, Rmsprop) {
  RowOf r(Spec(OptimizerKind::kRmsprop), {1.0f});
  r.Push({2.0f});  // s = 0.4
  EXPECT_NEAR(r.row[0], 1.0 - 0.1 * 2 / std::sqrt(0.4), 1e-6);
  r.Push({1.0f});  // s = 0.46
  EXPECT_NEAR(r.row[0], 1.0 - 0.1 * 2 / std::sqrt(0.4) - 0.1 / std::sqrt(0.46), 1e-6);
  EXPECT_NEAR(r.row[1], 0.46, 1e-6);
}

TEST(Optimizer, AdamCorrectsItsBiasByTheRowsOwnStep) {
  OptimizerSpec spec = Spec(OptimizerKind::kAdam);
  spec.epsilon = 1e-8f;
  RowOf r(spec, {1.0f});
  double w = 1.0, m = 0, v = 0;
  for (int t = 1; t <= 5000; ++t) {
    const double g = t % 3 == 0 ? -0.5 : 0.25 * (t % 7);
    r.Push({static_cast<float>(g)});
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const double first = m / (1 - std::pow(0.9, t));
    const double second = v / (1 - std::pow(0.999, t));
    w -= 0.1 * first / (std::sqrt(second) + 1e-8);
    if (t <= 3) {
      ASSERT_NEAR(r.row[0], w, 1e-5) << t;
    }
  }
  EXPECT_NEAR(r.row[0], w, 2e-3 * std::fabs(w));
  uint32_t step;
  std::memcpy(&step, &r.row[3], sizeof step);
  EXPECT_EQ(step, 5000u);
}

// Looked up, saturated at 1, or computed: the correction is always that of the step.
TEST(Optimizer, AdamContinuesFromAnyStep) {
  for (const float beta2 : {0.9f, 0.999f, 0.99999f}) {
    OptimizerSpec spec = Spec(OptimizerKind::kAdam);
    spec.beta2 = beta2;
    for (const uint32_t step : {1u, 99u, 4096u, 32766u, 32767u, 40'000u, 3'000'000u}) {
      RowOf r(spec, {0.0f});
      r.row[1] = 0.5f;
      r.row[2] = 0.25f;
      const uint32_t before = step - 1;
      std::memcpy(&r.row[3], &before, sizeof before);
      r.Push({0.3f});
      const double m = 0.9f * 0.5 + (1 - double{0.9f}) * 0.3;
      const double v = beta2 * 0.25 + (1 - double{beta2}) * 0.09;
      const double first = m / (1 - std::pow(double{0.9f}, step));
      const double second = v / (1 - std::pow(double{beta2}, step));
      EXPECT_NEAR(r.row[0] / (-0.1 * first / std::sqrt(second)), 1.0, 1e-5) << beta2 << " " << step;
    }
  }
}

TEST(Optimizer, FirstAdamStepIsTheLearningRate) {
  RowOf r(Spec(OptimizerKind::kAdam), {1.0f, 1.0f});
  r.Push({123.0f, -0.001f});
  EXPECT_NEAR(r.row[0], 0.9, 1e-5);
  EXPECT_NEAR(r.row[1], 1.1, 1e-5);
}

double FtrlWeight(double z, double n, double power, const OptimizerSpec& spec) {
  if (std::fabs(z) <= spec.l1) return 0;
  return -(z - std::copysign(spec.l1, z)) /
         ((spec.ftrl_beta + std::pow(n, power)) / spec.learning_rate + spec.l2);
}

void CheckFtrl(float lr_power) {
  OptimizerSpec spec = Spec(OptimizerKind::kFtrl);
  spec.l1 = 0.3f;
  spec.l2 = 0.2f;
  spec.ftrl_beta = 1.5f;
  spec.lr_power = lr_power;
  RowOf r(spec, {0.0f});
  double w = 0, z = 0, n = 0;
  for (const double g : {0.25, 1.0, -0.5, 2.0, -0.125}) {
    r.Push({static_cast<float>(g)});
    const double sigma = (std::pow(n + g * g, -lr_power) - std::pow(n, -lr_power)) / 0.1;
    z += g - sigma * w;
    n += g * g;
    w = FtrlWeight(z, n, -lr_power, spec);
    ASSERT_NEAR(r.row[0], w, 1e-6) << g;
    ASSERT_NEAR(r.row[1], z, 1e-5) << g;
    ASSERT_NEAR(r.row[2], n, 1e-5) << g;
  }
  EXPECT_NE(r.row[0], 0.0f);
}

TEST(Optimizer, FtrlFollowsThePaper) { CheckFtrl(-0.5f); }
TEST(Optimizer, FtrlWithAnotherPower) { CheckFtrl(-0.75f); }

TEST(Optimizer, FtrlKeepsWeightsAtZeroUnderL1) {
  OptimizerSpec spec = Spec(OptimizerKind::kFtrl);
  spec.l1 = 1.0f;
  spec.ftrl_beta = 0.0f;
  RowOf r(spec, {0.0f, 0.0f});
  r.Push({0.5f, 0.0f});
  EXPECT_EQ(r.row[0], 0.0f);
  EXPECT_EQ(r.row[1], 0.0f);
}

TEST(Optimizer, SumAddsModulo2To64) {
  RowOf r(Spec(OptimizerKind::kSum), std::vector<float>(4, 0.0f));
  const uint64_t added[] = {UINT64_MAX, (uint64_t{1} << 53) + 1};
  std::vector<float> gradient(4);
  std::memcpy(gradient.data(), added, sizeof added);
  r.Push(gradient);
  r.Push(gradient);
  uint64_t total[2];
  std::memcpy(total, r.row.data(), sizeof total);
  EXPECT_EQ(total[0], UINT64_MAX - 1);
  EXPECT_EQ(total[1], (uint64_t{1} << 54) + 2);
}

// The special code for usual dimensions does what the general code does.
TEST(Optimizer, EveryColumnIsTreatedAlikeInEveryDimension) {
  for (int kind = 1; kind <= 6; ++kind) {
    OptimizerSpec spec = Spec(static_cast<OptimizerKind>(kind));
    spec.l2 = 0.01f;
    RowOf one(spec, {0.7f});
    for (const float g : {0.5f, -1.0f, 0.25f}) one.Push({g});
    for (const uint32_t dim : {1u, 2u, 3u, 7u, 8u, 16u, 17u, 31u, 32u, 64u, 100u}) {
      RowOf r(spec, std::vector<float>(dim, 0.7f));
      for (const float g : {0.5f, -1.0f, 0.25f}) r.Push(std::vector<float>(dim, g));
      for (uint32_t j = 0; j < dim; ++j)
        ASSERT_NEAR(r.row[j], one.row[0], 1e-6) << kind << " " << dim;
    }
  }
}

TEST(Optimizer, AppliesManyRowsEachWithItsGradient) {
  Optimizer optimizer(Spec(OptimizerKind::kSgd), 2);
  float a[] = {1, 1};
  float b[] = {2, 2};
  const float ga[] = {1, 0};
  const float gb[] = {0, 1};
  float* const rows[] = {a, b, a};
  const float* const gradients[] = {ga, gb, ga};
  optimizer.Apply(rows, gradients);
  EXPECT_FLOAT_EQ(a[0], 0.8f);
  EXPECT_FLOAT_EQ(a[1], 1.0f);
  EXPECT_FLOAT_EQ(b[0], 2.0f);
  EXPECT_FLOAT_EQ(b[1], 1.9f);
}

}  // namespace
}  // namespace freshet::ps
