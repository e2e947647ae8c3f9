// SPDX-License-Identifier: Apache-2.0
// Optimizer: how a pushed gradient changes a row. A row is its weights, then its optimizer state, so that
// an image of rows goes on learning as if nothing had happened. Immutable after construction; belongs to
// the PS loop only because the rows do.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocol/table_schema.h"

namespace freshet::ps {

// With w = weights, g = gradient (+ l2 * w, except in ftrl), per float:
//   sgd       w -= lr g
//   momentum  v = momentum v + g;            w -= lr v                             state: v
//   adagrad   n += g^2;                      w -= lr g / (sqrt(n) + epsilon)       state: n
//   rmsprop   s = decay s + (1 - decay) g^2; w -= lr g / (sqrt(s) + epsilon)       state: s
//   adam      Kingma and Ba 2015, bias corrected by the row's own step             state: m, v, step
//   ftrl      McMahan et al. 2013, L1 and L2, per-coordinate rates                 state: z, n
//   sum       64-bit counters: w += g modulo 2^64
class Optimizer {
 public:
  // What the kernels need, computed once.
  struct Coefficients {
    protocol::OptimizerSpec spec;
    // Adam's corrections by step: 1 / (1 - beta1^t) and 1 / sqrt(1 - beta2^t).
    std::vector<float> adam_first;
    std::vector<float> adam_second;
  };

  Optimizer() = default;
  // The spec has passed ValidateTable.
  Optimizer(const protocol::OptimizerSpec& spec, uint32_t dim);

  // Writes the state that follows the weights of a new row.
  void InitState(float* state) const;

  // rows[i] learns from gradients[i], in order. Rows are aligned to 16 bytes, gradients to 4 (sum: 8).
  void Apply(std::span<float* const> rows, std::span<const float* const> gradients) const {
    kernel_(coefficients_, dim_, rows, gradients);
  }

 private:
  using Kernel = void (*)(const Coefficients&, uint32_t, std::span<float* const>,
                          std::span<const float* const>);

  Coefficients coefficients_;
  uint32_t dim_ = 0;
  uint32_t state_floats_ = 0;
  Kernel kernel_ = nullptr;
};

}  // namespace freshet::ps
