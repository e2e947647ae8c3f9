// SPDX-License-Identifier: Apache-2.0
#include "worker/model/dense_part.h"

#include <Eigen/Core>
#include <algorithm>
#include <utility>

#include "base/check.h"

namespace freshet::worker {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Eigen::Index;

}  // namespace

void DensePart::Forward(const ModelInput& input, std::span<const float> dense,
                        std::span<float> logits) const {
  std::fill(logits.begin(), logits.end(), dense[0]);
  if (columns == 0) return;
  const Eigen::Map<const Matrix> x(input.dense.data(), input.rows, columns);
  const Eigen::Map<const Eigen::VectorXf> w(dense.data() + 1, columns);
  Eigen::Map<Eigen::VectorXf>(logits.data(), input.rows).noalias() += x * w;
}

void DensePart::Backward(const ModelInput& input, std::span<const float> logit_gradients,
                         std::span<float> gradients) const {
  const Eigen::Map<const Eigen::VectorXf> g(logit_gradients.data(), input.rows);
  gradients[0] = g.sum();
  if (columns == 0) return;
  const Eigen::Map<const Matrix> x(input.dense.data(), input.rows, columns);
  Eigen::Map<Eigen::VectorXf>(gradients.data() + 1, columns).noalias() = x.transpose() * g;
}

protocol::TableSchema DenseTable(size_t floats, const protocol::OptimizerSpec& optimizer) {
  protocol::TableSchema table;
  table.name = "dense";
  table.kind = protocol::TableKind::kDense;
  table.dim = kDenseDim;
  table.dense_rows = (floats + kDenseDim - 1) / kDenseDim;
  table.optimizer = optimizer;
  return table;
}

protocol::TableSchema SparseTable(std::string name, uint32_t dim,
                                  const protocol::OptimizerSpec& optimizer) {
  protocol::TableSchema table;
  table.name = std::move(name);
  table.dim = dim;
  table.optimizer = optimizer;
  return table;
}

void CheckShapes(const std::vector<protocol::TableSchema>& tables, InputShape shape,
                 const ModelInput& input, const ModelOutput& output) {
  const size_t rows = input.rows;
  CHECK(input.labels.size() == rows || output.gradients.empty());
  CHECK(input.dense.size() == rows * shape.dense_count);
  CHECK(input.key_indices.size() == rows * shape.sparse_count);
  CHECK(output.logits.size() == rows);
  CHECK(input.weights.size() == tables.size());
  CHECK(output.gradients.empty() || output.gradients.size() == tables.size());
  uint32_t last = 0;
  for (const uint32_t index : input.key_indices) last = std::max(last, index);
  CHECK(input.key_indices.empty() || last < input.distinct_keys);
  for (size_t t = 0; t < tables.size(); ++t) {
    const bool sparse = tables[t].kind == protocol::TableKind::kSparse;
    const size_t floats = (sparse ? input.distinct_keys : tables[t].dense_rows) * tables[t].dim;
    CHECK(input.weights[t].size() == floats);
    CHECK(output.gradients.empty() || output.gradients[t].size() == floats);
  }
}

void LogitGradients(std::span<const float> logits, std::span<const float> labels,
                    std::span<float> out) {
  const auto rows = static_cast<Index>(logits.size());
  const Eigen::Map<const Eigen::ArrayXf> z(logits.data(), rows);
  const Eigen::Map<const Eigen::ArrayXf> y(labels.data(), rows);
  const float scale = 1.0f / static_cast<float>(std::max<Index>(rows, 1));
  Eigen::Map<Eigen::ArrayXf>(out.data(), rows) = ((1.0f + (-z).exp()).inverse() - y) * scale;
}

}  // namespace freshet::worker
