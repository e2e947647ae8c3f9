// SPDX-License-Identifier: Apache-2.0
// Mlp: fully connected ReLU layers and one linear output, over weights that lie flat in the model's
// dense table: per layer W [in][out] (row-major), then b [out]; at the end w [last] (the output's
// bias is the model's). Owns scratch memory only; used by one thread.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/table_schema.h"

namespace freshet::worker {

class Mlp {
 public:
  struct Options {
    uint32_t inputs = 0;
    std::vector<uint32_t> hidden;  // at least one
    size_t begin_float = 0;        // where the weights begin in the dense table
  };

  explicit Mlp(const Options& options);

  // First float of the dense table behind the weights.
  size_t end_float() const { return end_float_; }
  void AppendInit(std::vector<protocol::InitSpec>& init) const;

  // Room for the inputs of a batch, [rows][input_stride()]; the caller fills the first `inputs`
  // floats of each row.
  float* Inputs(uint32_t rows);
  size_t input_stride() const { return input_stride_; }

  // Adds the output of each row to `logits`. `dense` and `gradients`: the whole dense table.
  void Forward(std::span<const float> dense, std::span<float> logits);
  // After Forward on the same rows: writes the gradients of all weights of this Mlp.
  void Backward(std::span<const float> dense, std::span<const float> logit_gradients,
                std::span<float> gradients);
  // After Backward: [rows][input_stride()].
  const float* input_gradients() const { return input_gradients_.data(); }

 private:
  struct Layer {
    uint32_t inputs = 0;
    uint32_t outputs = 0;
    size_t weights_at = 0;
    size_t biases_at = 0;
    Eigen::VectorXf activations;  // [rows][outputs]
    Eigen::VectorXf gradients;    // [rows][outputs], before the ReLU
  };

  void BackwardOutput(std::span<const float> dense, std::span<const float> logit_gradients,
                      std::span<float> gradients);

  size_t input_stride_;
  std::vector<Layer> layers_;
  size_t output_at_ = 0;
  size_t end_float_ = 0;
  uint32_t rows_ = 0;
  Eigen::VectorXf inputs_;
  Eigen::VectorXf input_gradients_;
};

}  // namespace freshet::worker
