// SPDX-License-Identifier: Apache-2.0
// lr and wide_deep: a linear model over all columns, with or without an MLP over embeddings beside
// it.
#include <Eigen/Core>
#include <algorithm>
#include <optional>

#include "worker/model/dense_part.h"
#include "worker/model/mlp.h"
#include "worker/model/models.h"

namespace freshet::worker {
namespace {

using protocol::TableSchema;

class WideModel : public Model {
 public:
  // dim 0: no deep part.
  WideModel(InputShape shape, std::vector<TableSchema> tables, std::optional<Mlp> mlp, uint32_t dim)
      : shape_(shape), tables_(std::move(tables)), mlp_(std::move(mlp)), dim_(dim) {}

  const std::vector<TableSchema>& Tables() const override { return tables_; }

  void Compute(const ModelInput& input, const ModelOutput& output) override {
    CheckShapes(tables_, shape_, input, output);
    const std::span<const float> dense = input.weights.back();
    dense_part().Forward(input, dense, output.logits);
    AddWide(input, output.logits);
    if (mlp_) {
      GatherInputs(input);
      mlp_->Forward(dense, output.logits);
    }
    if (output.gradients.empty()) return;
    if (logit_gradients_.size() < input.rows) logit_gradients_.resize(input.rows);
    const std::span<float> g(logit_gradients_.data(), input.rows);
    LogitGradients(output.logits, input.labels, g);
    WideGradients(input, g, output.gradients[0]);
    const std::span<float> dense_gradients = output.gradients.back();
    dense_part().Backward(input, g, dense_gradients);
    size_t end = dense_part().floats();
    if (mlp_) {
      mlp_->Backward(dense, g, dense_gradients);
      ScatterGradients(input, output.gradients[1]);
      end = mlp_->end_float();
    }
    std::fill(dense_gradients.begin() + static_cast<ptrdiff_t>(end), dense_gradients.end(), 0.0f);
  }

 private:
  DensePart dense_part() const { return {shape_.dense_count}; }

  void AddWide(const ModelInput& input, std::span<float> logits) const {
    const float* weights = input.weights[0].data();
    const uint32_t* index = input.key_indices.data();
    for (uint32_t r = 0; r < input.rows; ++r) {
      float sum = 0;
      for (uint32_t f = 0; f < shape_.sparse_count; ++f) sum += weights[*index++];
      logits[r] += sum;
    }
  }

  void WideGradients(const ModelInput& input, std::span<const float> g,
                     std::span<float> gradients) const {
    std::fill(gradients.begin(), gradients.end(), 0.0f);
    const uint32_t* index = input.key_indices.data();
    for (uint32_t r = 0; r < input.rows; ++r) {
      for (uint32_t f = 0; f < shape_.sparse_count; ++f) gradients[*index++] += g[r];
    }
  }

  void GatherInputs(const ModelInput& input) {
    const float* weights = input.weights[1].data();
    const uint32_t* index = input.key_indices.data();
    float* row = mlp_->Inputs(input.rows);
    for (uint32_t r = 0; r < input.rows; ++r, row += mlp_->input_stride()) {
      float* at = row;
      for (uint32_t f = 0; f < shape_.sparse_count; ++f, at += dim_) {
        std::copy_n(weights + size_t{*index++} * dim_, dim_, at);
      }
      std::copy_n(input.dense.data() + size_t{r} * shape_.dense_count, shape_.dense_count, at);
    }
  }

  void ScatterGradients(const ModelInput& input, std::span<float> gradients) const {
    std::fill(gradients.begin(), gradients.end(), 0.0f);
    const uint32_t* index = input.key_indices.data();
    const float* row = mlp_->input_gradients();
    for (uint32_t r = 0; r < input.rows; ++r, row += mlp_->input_stride()) {
      const float* from = row;
      for (uint32_t f = 0; f < shape_.sparse_count; ++f, from += dim_) {
        float* __restrict to = gradients.data() + size_t{*index++} * dim_;
        for (uint32_t j = 0; j < dim_; ++j) to[j] += from[j];
      }
    }
  }

  const InputShape shape_;
  const std::vector<TableSchema> tables_;
  std::optional<Mlp> mlp_;
  const uint32_t dim_;
  std::vector<float> logit_gradients_;
};

}  // namespace

std::unique_ptr<Model> MakeLr(const ModelConfig& config, InputShape shape) {
  const DensePart part{shape.dense_count};
  std::vector<TableSchema> tables = {SparseTable("linear", 1, config.sparse),
                                     DenseTable(part.floats(), config.dense)};
  return std::make_unique<WideModel>(shape, std::move(tables), std::nullopt, 0);
}

std::unique_ptr<Model> MakeWideDeep(const ModelConfig& config, InputShape shape) {
  const DensePart part{shape.dense_count};
  Mlp mlp({shape.sparse_count * config.dim + shape.dense_count, config.hidden, part.floats()});
  TableSchema embedding = SparseTable("embedding", config.dim, config.sparse);
  embedding.init = {{protocol::InitKind::kNormal, config.init_scale, 0, config.dim}};
  TableSchema dense = DenseTable(mlp.end_float(), config.dense);
  mlp.AppendInit(dense.init);
  std::vector<TableSchema> tables = {SparseTable("wide", 1, config.wide), std::move(embedding),
                                     std::move(dense)};
  return std::make_unique<WideModel>(shape, std::move(tables), std::move(mlp), config.dim);
}

}  // namespace freshet::worker
