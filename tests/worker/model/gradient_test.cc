// SPDX-License-Identifier: Apache-2.0
// Every model against a plain implementation in double precision: logits directly, gradients of
// every table by central differences.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "worker/model/model.h"

namespace freshet::worker {
namespace {

using Tensors = std::vector<std::vector<double>>;

struct Case {
  std::string model;
  InputShape shape;
  uint32_t dim;
  std::vector<uint32_t> hidden;
};

struct Records {
  uint32_t rows = 0;
  uint32_t distinct_keys = 0;
  std::vector<float> labels;
  std::vector<float> dense;
  std::vector<uint32_t> indices;
};

bool IsFactorization(const Case& c) { return c.model == "fm" || c.model == "deepfm"; }
bool IsDeep(const Case& c) { return c.model == "wide_deep" || c.model == "deepfm"; }

double RunMlp(const Case& c, const std::vector<double>& dense, std::vector<double> x) {
  size_t at = 1 + c.shape.dense_count;
  for (const uint32_t outputs : c.hidden) {
    std::vector<double> out(outputs);
    const double* biases = &dense[at + x.size() * outputs];
    for (uint32_t j = 0; j < outputs; ++j) {
      double sum = biases[j];
      for (size_t i = 0; i < x.size(); ++i) sum += x[i] * dense[at + i * outputs + j];
      out[j] = std::max(sum, 0.0);
    }
    at += (x.size() + 1) * outputs;
    x = out;
  }
  double logit = 0;
  for (size_t i = 0; i < x.size(); ++i) logit += x[i] * dense[at + i];
  return logit;
}

double ReferenceLogit(const Case& c, const Tensors& weights, const Records& records, uint32_t r) {
  const std::vector<double>& dense = weights.back();
  const uint32_t row_floats = IsFactorization(c) ? c.dim + 1 : 1;
  double logit = dense[0];
  std::vector<std::vector<double>> vectors;
  for (uint32_t f = 0; f < c.shape.sparse_count; ++f) {
    const size_t key = records.indices[r * c.shape.sparse_count + f];
    logit += weights[0][key * row_floats];
    const auto table = weights.begin() + (IsFactorization(c) ? 0 : 1);
    const size_t begin = IsFactorization(c) ? key * row_floats + 1 : key * c.dim;
    if (c.model == "lr") continue;
    vectors.emplace_back(table->begin() + begin, table->begin() + begin + c.dim);
  }
  if (IsFactorization(c)) {
    double pairs = 0;
    for (size_t a = 0; a < vectors.size(); ++a) {
      for (size_t b = a + 1; b < vectors.size(); ++b) {
        for (uint32_t j = 0; j < c.dim; ++j) pairs += vectors[a][j] * vectors[b][j];
      }
    }
    logit += pairs / std::max<double>(1.0, c.shape.sparse_count - 1.0);
  }
  std::vector<double> x;
  for (const auto& vector : vectors) x.insert(x.end(), vector.begin(), vector.end());
  for (uint32_t d = 0; d < c.shape.dense_count; ++d) {
    x.push_back(records.dense[r * c.shape.dense_count + d]);
    logit += x.back() * dense[1 + d];
  }
  return IsDeep(c) ? logit + RunMlp(c, dense, x) : logit;
}

double ReferenceLoss(const Case& c, const Tensors& weights, const Records& records) {
  double sum = 0;
  for (uint32_t r = 0; r < records.rows; ++r) {
    const double z = ReferenceLogit(c, weights, records, r);
    const double margin = records.labels[r] > 0.5f ? z : -z;
    sum += std::max(-margin, 0.0) + std::log1p(std::exp(-std::abs(margin)));
  }
  return sum / records.rows;
}

Records DrawRecords(const Case& c, uint32_t rows, base::Random& random) {
  Records out;
  out.rows = rows;
  out.distinct_keys = c.shape.sparse_count == 0 ? 0 : rows;  // some keys occur in several records
  for (uint32_t r = 0; r < rows; ++r) {
    out.labels.push_back(random.Chance(0.4) ? 1.0f : 0.0f);
    for (uint32_t d = 0; d < c.shape.dense_count; ++d) {
      out.dense.push_back(static_cast<float>(random.Uniform() * 2 - 1));
    }
    for (uint32_t f = 0; f < c.shape.sparse_count; ++f) {
      out.indices.push_back(static_cast<uint32_t>(random.Below(out.distinct_keys)));
    }
  }
  return out;
}

std::map<std::string, std::string> ConfigOf(const Case& c) {
  std::map<std::string, std::string> config;
  if (c.model != "lr") config["dim"] = std::to_string(c.dim);
  if (!IsDeep(c)) return config;
  config["hidden"] = fmt::format("{}", fmt::join(c.hidden, "-"));
  return config;
}

// Weights and gradients as a message would hold them: at addresses that are 4 modulo 64.
struct Buffers {
  std::vector<std::vector<float>> weights;
  std::vector<std::vector<float>> gradients;
  Tensors exact;

  std::span<float> Weights(size_t t) { return std::span(weights[t]).subspan(1); }
  std::span<float> Gradients(size_t t) { return std::span(gradients[t]).subspan(1); }
};

Buffers DrawBuffers(const Model& model, uint32_t distinct_keys, base::Random& random) {
  Buffers out;
  for (const auto& table : model.Tables()) {
    const bool sparse = table.kind == protocol::TableKind::kSparse;
    const size_t floats = (sparse ? distinct_keys : table.dense_rows) * table.dim;
    out.weights.emplace_back(floats + 1);
    out.gradients.emplace_back(floats + 1, 1e9f);  // the model must overwrite it
    out.exact.emplace_back(floats);
    for (size_t i = 0; i < floats; ++i) {
      out.weights.back()[i + 1] = static_cast<float>(random.Uniform() * 0.8 - 0.4);
      out.exact.back()[i] = out.weights.back()[i + 1];
    }
  }
  return out;
}

std::vector<float> Compute(Model& model, const Records& records, Buffers& buffers,
                           bool with_gradients) {
  std::vector<float> logits(records.rows);
  ModelInput input;
  input.rows = records.rows;
  input.labels = records.labels;
  input.dense = records.dense;
  input.key_indices = records.indices;
  input.distinct_keys = records.distinct_keys;
  ModelOutput output;
  output.logits = logits;
  for (size_t t = 0; t < buffers.weights.size(); ++t) {
    input.weights.push_back(buffers.Weights(t));
    if (with_gradients) output.gradients.push_back(buffers.Gradients(t));
  }
  model.Compute(input, output);
  return logits;
}

class GradientTest : public testing::TestWithParam<Case> {
 protected:
  void CheckBatch(Model& model, uint32_t rows, base::Random& random) {
    const Case& c = GetParam();
    const Records records = DrawRecords(c, rows, random);
    Buffers buffers = DrawBuffers(model, records.distinct_keys, random);
    const std::vector<float> logits = Compute(model, records, buffers, true);
    for (uint32_t r = 0; r < rows; ++r) {
      EXPECT_NEAR(logits[r], ReferenceLogit(c, buffers.exact, records, r), 2e-5) << "row " << r;
    }
    EXPECT_EQ(Compute(model, records, buffers, false), logits) << "forward only differs";
    for (size_t t = 0; t < buffers.exact.size(); ++t) {
      double largest = 0;
      for (size_t i = 0; i < buffers.exact[t].size(); ++i) {
        constexpr double kStep = 1e-6;
        const double at = buffers.exact[t][i];
        buffers.exact[t][i] = at + kStep;
        const double above = ReferenceLoss(c, buffers.exact, records);
        buffers.exact[t][i] = at - kStep;
        const double below = ReferenceLoss(c, buffers.exact, records);
        buffers.exact[t][i] = at;
        const double expected = (above - below) / (2 * kStep);
        largest = std::max(largest, std::abs(expected));
        EXPECT_NEAR(buffers.Gradients(t)[i], expected, 1e-6 + 1e-4 * std::abs(expected))
            << model.Tables()[t].name << " float " << i;
      }
      if (!buffers.exact[t].empty()) {
        EXPECT_GT(largest, 1e-4) << model.Tables()[t].name << " has no gradient to compare";
      }
    }
  }
};

TEST_P(GradientTest, LogitsAndGradientsAgreeWithDoublePrecision) {
  const Case& c = GetParam();
  auto model = CreateModel(c.model, ConfigOf(c), c.shape);
  ASSERT_TRUE(model.has_value()) << model.error().message;
  base::Random random(3);
  // Growing and shrinking batches: scratch memory of an earlier batch must not shine through.
  for (const uint32_t rows : {7u, 19u, 1u, 5u}) CheckBatch(**model, rows, random);
}

TEST_P(GradientTest, BatchWithoutRowsHasZeroGradients) {
  const Case& c = GetParam();
  auto model = CreateModel(c.model, ConfigOf(c), c.shape);
  ASSERT_TRUE(model.has_value());
  base::Random random(4);
  const Records none;
  Buffers buffers = DrawBuffers(**model, 0, random);
  EXPECT_TRUE(Compute(**model, none, buffers, true).empty());
  for (const float gradient : buffers.Gradients(buffers.gradients.size() - 1)) {
    EXPECT_EQ(gradient, 0.0f);
  }
}

std::string NameOf(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return fmt::format("{}_dense{}_sparse{}_dim{}_layers{}", c.model, c.shape.dense_count,
                     c.shape.sparse_count, c.dim, c.hidden.size());
}

INSTANTIATE_TEST_SUITE_P(
    Models, GradientTest,
    testing::Values(Case{"lr", {3, 4}, 1, {}}, Case{"lr", {0, 2}, 1, {}}, Case{"lr", {2, 0}, 1, {}},
                    Case{"fm", {3, 4}, 8, {}}, Case{"fm", {0, 2}, 5, {}}, Case{"fm", {1, 1}, 3, {}},
                    Case{"fm", {2, 3}, 16, {}}, Case{"fm", {2, 3}, 32, {}},
                    Case{"wide_deep", {3, 4}, 5, {6, 5}}, Case{"wide_deep", {0, 2}, 8, {7}},
                    Case{"wide_deep", {2, 0}, 4, {5, 3}}, Case{"deepfm", {3, 4}, 5, {7, 5, 4}},
                    Case{"deepfm", {0, 2}, 16, {9, 6}}, Case{"deepfm", {4, 3}, 8, {6}},
                    Case{"deepfm", {3, 0}, 2, {4}}),
    NameOf);

}  // namespace
}  // namespace freshet::worker
