// SPDX-License-Identifier: Apache-2.0
#include "worker/model/mlp.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace freshet::worker {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Stride = Eigen::OuterStride<>;
using MatrixMap = Eigen::Map<Matrix, Eigen::Unaligned, Stride>;
using ConstMatrixMap = Eigen::Map<const Matrix, Eigen::Unaligned, Stride>;
using VectorMap = Eigen::Map<Eigen::VectorXf>;
using ConstVectorMap = Eigen::Map<const Eigen::VectorXf>;

// Rows of the input begin on a cache line.
constexpr size_t kFloatsPerLine = 16;

void Grow(Eigen::VectorXf& buffer, size_t floats) {
  if (static_cast<size_t>(buffer.size()) < floats) {
    buffer.setZero(static_cast<Eigen::Index>(floats));
  }
}

void Relu(float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) values[i] = values[i] > 0.0f ? values[i] : 0.0f;
}

struct MaskedRows {
  float* gradients;          // [rows][width]: in: behind the ReLU, out: before it
  const float* activations;  // [rows][width]
  uint32_t rows;
  uint32_t width;
};

// The ReLU's backward pass; sums the rows into `bias_gradients` on the way.
void MaskAndSum(const MaskedRows& in, float* __restrict bias_gradients) {
  std::fill_n(bias_gradients, in.width, 0.0f);
  for (uint32_t r = 0; r < in.rows; ++r) {
    float* __restrict gradient = in.gradients + size_t{r} * in.width;
    const float* __restrict activation = in.activations + size_t{r} * in.width;
    for (uint32_t j = 0; j < in.width; ++j) {
      const float value = activation[j] > 0.0f ? gradient[j] : 0.0f;
      gradient[j] = value;
      bias_gradients[j] += value;
    }
  }
}

}  // namespace

Mlp::Mlp(const Options& options)
    : input_stride_((options.inputs + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine) {
  CHECK(!options.hidden.empty());
  size_t at = options.begin_float;
  uint32_t inputs = options.inputs;
  for (const uint32_t outputs : options.hidden) {
    Layer layer;
    layer.inputs = inputs;
    layer.outputs = outputs;
    layer.weights_at = at;
    layer.biases_at = at + size_t{inputs} * outputs;
    at = layer.biases_at + outputs;
    inputs = outputs;
    layers_.push_back(std::move(layer));
  }
  output_at_ = at;
  end_float_ = at + inputs;
}

void Mlp::AppendInit(std::vector<protocol::InitSpec>& init) const {
  // He for the layers before a ReLU, Glorot for the output; biases start at zero.
  for (const Layer& layer : layers_) {
    const float scale = std::sqrt(6.0f / static_cast<float>(layer.inputs));
    init.push_back({protocol::InitKind::kUniform, scale, layer.weights_at, layer.biases_at});
  }
  const float scale = std::sqrt(6.0f / static_cast<float>(layers_.back().outputs + 1));
  init.push_back({protocol::InitKind::kUniform, scale, output_at_, end_float_});
}

float* Mlp::Inputs(uint32_t rows) {
  rows_ = rows;
  Grow(inputs_, rows * input_stride_);
  return inputs_.data();
}

void Mlp::Forward(std::span<const float> dense, std::span<float> logits) {
  const float* input = inputs_.data();
  size_t stride = input_stride_;
  for (Layer& layer : layers_) {
    Grow(layer.activations, size_t{rows_} * layer.outputs);
    const ConstMatrixMap x(input, rows_, layer.inputs, Stride(stride));
    const ConstMatrixMap w(dense.data() + layer.weights_at, layer.inputs, layer.outputs,
                           Stride(layer.outputs));
    MatrixMap out(layer.activations.data(), rows_, layer.outputs, Stride(layer.outputs));
    const float* biases = dense.data() + layer.biases_at;
    for (uint32_t r = 0; r < rows_; ++r) {
      std::copy_n(biases, layer.outputs, layer.activations.data() + size_t{r} * layer.outputs);
    }
    out.noalias() += x * w;
    Relu(layer.activations.data(), size_t{rows_} * layer.outputs);
    input = layer.activations.data();
    stride = layer.outputs;
  }
  const Layer& last = layers_.back();
  const ConstMatrixMap h(last.activations.data(), rows_, last.outputs, Stride(last.outputs));
  const ConstVectorMap w(dense.data() + output_at_, last.outputs);
  VectorMap(logits.data(), rows_).noalias() += h * w;
}

void Mlp::BackwardOutput(std::span<const float> dense, std::span<const float> logit_gradients,
                         std::span<float> gradients) {
  Layer& last = layers_.back();
  Grow(last.gradients, size_t{rows_} * last.outputs);
  const float* __restrict w = dense.data() + output_at_;
  float* __restrict w_gradients = gradients.data() + output_at_;
  float* __restrict bias_gradients = gradients.data() + last.biases_at;
  std::fill_n(w_gradients, last.outputs, 0.0f);
  std::fill_n(bias_gradients, last.outputs, 0.0f);
  for (uint32_t r = 0; r < rows_; ++r) {
    const float* __restrict h = last.activations.data() + size_t{r} * last.outputs;
    float* __restrict out = last.gradients.data() + size_t{r} * last.outputs;
    const float g = logit_gradients[r];
    for (uint32_t j = 0; j < last.outputs; ++j) {
      const float value = h[j] > 0.0f ? g * w[j] : 0.0f;
      out[j] = value;
      bias_gradients[j] += value;
      w_gradients[j] += g * h[j];
    }
  }
}

void Mlp::Backward(std::span<const float> dense, std::span<const float> logit_gradients,
                   std::span<float> gradients) {
  BackwardOutput(dense, logit_gradients, gradients);
  Grow(input_gradients_, rows_ * input_stride_);
  for (size_t l = layers_.size(); l-- > 0;) {
    Layer& layer = layers_[l];
    const bool first = l == 0;
    Layer* const below = first ? nullptr : &layers_[l - 1];
    const float* const x_data = first ? inputs_.data() : below->activations.data();
    const size_t x_stride = first ? input_stride_ : layer.inputs;
    if (!first) Grow(below->gradients, size_t{rows_} * layer.inputs);
    float* const x_gradients = first ? input_gradients_.data() : below->gradients.data();
    const ConstMatrixMap x(x_data, rows_, layer.inputs, Stride(x_stride));
    const ConstMatrixMap w(dense.data() + layer.weights_at, layer.inputs, layer.outputs,
                           Stride(layer.outputs));
    const ConstMatrixMap g(layer.gradients.data(), rows_, layer.outputs, Stride(layer.outputs));
    MatrixMap dw(gradients.data() + layer.weights_at, layer.inputs, layer.outputs,
                 Stride(layer.outputs));
    dw.noalias() = x.transpose() * g;
    MatrixMap dx(x_gradients, rows_, layer.inputs, Stride(x_stride));
    dx.noalias() = g * w.transpose();
    if (!first) {
      MaskAndSum({x_gradients, x_data, rows_, layer.inputs}, gradients.data() + below->biases_at);
    }
  }
}

}  // namespace freshet::worker
