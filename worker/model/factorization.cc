// SPDX-License-Identifier: Apache-2.0
// fm and deepfm: a factorization machine, with or without an MLP over the same vectors.
//   logit = bias + dense . w + sum_f w_f + 1/2 sum_j [(sum_f v_fj)^2 - sum_f v_fj^2] (+ MLP)
#include <Eigen/Core>
#include <algorithm>
#include <optional>

#include "worker/model/dense_part.h"
#include "worker/model/mlp.h"
#include "worker/model/models.h"

namespace freshet::worker {
namespace {

using protocol::TableSchema;

// Rows arrive from the second cache level or beyond: ask for them some keys ahead.
constexpr size_t kPrefetchKeys = 12;

class FactorizationModel : public Model {
 public:
  FactorizationModel(InputShape shape, std::vector<TableSchema> tables, std::optional<Mlp> mlp)
      : shape_(shape),
        tables_(std::move(tables)),
        mlp_(std::move(mlp)),
        dim_(tables_.front().dim - 1),
        squares_(dim_) {}

  const std::vector<TableSchema>& Tables() const override { return tables_; }

  void Compute(const ModelInput& input, const ModelOutput& output) override {
    CheckShapes(tables_, shape_, input, output);
    const std::span<const float> dense = input.weights.back();
    part().Forward(input, dense, output.logits);
    if (sums_.size() < size_t{input.rows} * dim_) sums_.resize(size_t{input.rows} * dim_);
    float* const mlp_inputs = mlp_ ? mlp_->Inputs(input.rows) : nullptr;
    // The usual dimensions are compiled with their loops unrolled.
    switch (dim_) {
      case 8: Gather<8>(input, output.logits, mlp_inputs); break;
      case 16: Gather<16>(input, output.logits, mlp_inputs); break;
      case 32: Gather<32>(input, output.logits, mlp_inputs); break;
      default: Gather<0>(input, output.logits, mlp_inputs); break;
    }
    if (mlp_) mlp_->Forward(dense, output.logits);
    if (!output.gradients.empty()) Backward(input, output);
  }

 private:
  DensePart part() const { return {shape_.dense_count}; }

  void Backward(const ModelInput& input, const ModelOutput& output) {
    if (logit_gradients_.size() < input.rows) logit_gradients_.resize(input.rows);
    const std::span<float> g(logit_gradients_.data(), input.rows);
    LogitGradients(output.logits, input.labels, g);
    const std::span<float> dense_gradients = output.gradients.back();
    part().Backward(input, g, dense_gradients);
    size_t end = part().floats();
    if (mlp_) {
      mlp_->Backward(input.weights.back(), g, dense_gradients);
      end = mlp_->end_float();
    }
    std::fill(dense_gradients.begin() + static_cast<ptrdiff_t>(end), dense_gradients.end(), 0.0f);
    switch (dim_) {
      case 8: Scatter<8>(input, g, output.gradients[0]); break;
      case 16: Scatter<16>(input, g, output.gradients[0]); break;
      case 32: Scatter<32>(input, g, output.gradients[0]); break;
      default: Scatter<0>(input, g, output.gradients[0]); break;
    }
  }

  // One pass over the occurrences: first order, pairwise sums and the MLP's inputs. kDim 0: any dim.
  template <uint32_t kDim>
  void Gather(const ModelInput& input, std::span<float> logits, float* mlp_inputs) {
    const uint32_t dim = kDim == 0 ? dim_ : kDim;
    const uint32_t fields = shape_.sparse_count;
    const float* const weights = input.weights[0].data();
    const uint32_t* index = input.key_indices.data();
    const uint32_t* const end = index + input.key_indices.size();
    float* __restrict squares = squares_.data();
    for (uint32_t r = 0; r < input.rows; ++r) {
      float* __restrict sums = sums_.data() + size_t{r} * dim;
      float* __restrict x = mlp_ ? mlp_inputs + r * mlp_->input_stride() : nullptr;
      std::fill_n(sums, dim, 0.0f);
      std::fill_n(squares, dim, 0.0f);
      float first_order = 0;
      for (uint32_t f = 0; f < fields; ++f, ++index) {
        if (index + kPrefetchKeys < end) {
          const float* ahead = weights + size_t{index[kPrefetchKeys]} * (dim + 1);
          __builtin_prefetch(ahead);
          __builtin_prefetch(ahead + dim);
        }
        const float* __restrict row = weights + size_t{*index} * (dim + 1);
        first_order += row[0];
        for (uint32_t j = 0; j < dim; ++j) {
          const float v = row[1 + j];
          sums[j] += v;
          squares[j] += v * v;
        }
        if (x != nullptr) {
          std::copy_n(row + 1, dim, x);
          x += dim;
        }
      }
      if (x != nullptr && shape_.dense_count > 0) {
        std::copy_n(input.dense.data() + size_t{r} * shape_.dense_count, shape_.dense_count, x);
      }
      const Eigen::Map<const Eigen::ArrayXf> s(sums, dim);
      const Eigen::Map<const Eigen::ArrayXf> q(squares, dim);
      logits[r] += first_order + 0.5f * (s * s - q).sum();
    }
  }

  // d/dv_f = g * (S - v_f) + the MLP's. Over all occurrences of a key the second term is its vector
  // times the sum of g, which is the gradient of its first-order weight: one pass over the distinct
  // keys at the end instead of one more load per occurrence.
  template <uint32_t kDim>
  void Scatter(const ModelInput& input, std::span<const float> g, std::span<float> gradients) {
    const uint32_t dim = kDim == 0 ? dim_ : kDim;
    const uint32_t fields = shape_.sparse_count;
    std::fill(gradients.begin(), gradients.end(), 0.0f);
    const uint32_t* index = input.key_indices.data();
    float* __restrict scaled = squares_.data();
    for (uint32_t r = 0; r < input.rows; ++r) {
      const float* __restrict sums = sums_.data() + size_t{r} * dim;
      for (uint32_t j = 0; j < dim; ++j) scaled[j] = g[r] * sums[j];
      const float* __restrict x =
          mlp_ ? mlp_->input_gradients() + r * mlp_->input_stride() : nullptr;
      for (uint32_t f = 0; f < fields; ++f, ++index) {
        float* __restrict to = gradients.data() + size_t{*index} * (dim + 1);
        to[0] += g[r];
        if (x != nullptr) {
          for (uint32_t j = 0; j < dim; ++j) to[1 + j] += scaled[j] + x[j];
          x += dim;
        } else {
          for (uint32_t j = 0; j < dim; ++j) to[1 + j] += scaled[j];
        }
      }
    }
    const float* __restrict row = input.weights[0].data();
    float* __restrict to = gradients.data();
    for (uint32_t k = 0; k < input.distinct_keys; ++k, row += dim + 1, to += dim + 1) {
      for (uint32_t j = 0; j < dim; ++j) to[1 + j] -= to[0] * row[1 + j];
    }
  }

  const InputShape shape_;
  const std::vector<TableSchema> tables_;
  std::optional<Mlp> mlp_;
  const uint32_t dim_;
  std::vector<float> squares_;          // [dim], scratch of one row
  std::vector<float> sums_;             // [rows][dim]
  std::vector<float> logit_gradients_;  // [rows]
};

TableSchema EmbeddingTable(const ModelConfig& config) {
  TableSchema table = SparseTable("embedding", config.dim + 1, config.sparse);
  table.init = {{protocol::InitKind::kNormal, config.init_scale, 1, config.dim + 1}};
  return table;
}

}  // namespace

std::unique_ptr<Model> MakeFm(const ModelConfig& config, InputShape shape) {
  const DensePart part{shape.dense_count};
  std::vector<TableSchema> tables = {EmbeddingTable(config),
                                     DenseTable(part.floats(), config.dense)};
  return std::make_unique<FactorizationModel>(shape, std::move(tables), std::nullopt);
}

std::unique_ptr<Model> MakeDeepFm(const ModelConfig& config, InputShape shape) {
  const DensePart part{shape.dense_count};
  Mlp mlp({shape.sparse_count * config.dim + shape.dense_count, config.hidden, part.floats()});
  TableSchema dense = DenseTable(mlp.end_float(), config.dense);
  mlp.AppendInit(dense.init);
  std::vector<TableSchema> tables = {EmbeddingTable(config), std::move(dense)};
  return std::make_unique<FactorizationModel>(shape, std::move(tables), std::move(mlp));
}

}  // namespace freshet::worker
