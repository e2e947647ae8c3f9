// SPDX-License-Identifier: Apache-2.0
#include "ps/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace freshet::ps {
namespace {

using protocol::OptimizerKind;
using Coefficients = Optimizer::Coefficients;

// Adam's corrections fall to 1 and then stay there. They are looked up until then, or for so many steps.
constexpr uint32_t kMaxAdamSteps = 1 << 15;

float FirstCorrection(float beta, uint32_t step) {
  return static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta), step)));
}

float SecondCorrection(float beta, uint32_t step) {
  return static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(static_cast<double>(beta), step)));
}

using Correction = float (*)(float beta, uint32_t step);

std::vector<float> TabulateCorrections(Correction correction, float beta) {
  std::vector<float> table = {1.0f};  // step 0 does not happen
  do {
    table.push_back(correction(beta, static_cast<uint32_t>(table.size())));
  } while (table.back() != 1.0f && table.size() < kMaxAdamSteps);
  return table;
}

inline float LookUpCorrection(const std::vector<float>& table, Correction correction, float beta,
                              uint32_t step) {
  if (step < table.size()) return table[step];
  return table.back() == 1.0f ? 1.0f : correction(beta, step);
}

// Each rule updates one row of `dim` floats; `state` begins behind the weights. The compiler turns the
// loops into vector code, for which it must not unroll the short ones first; the arrays never overlap.

struct Sgd {
  static void Row(const Coefficients& c, uint32_t dim, float* __restrict w, float*,
                  const float* __restrict gradient) {
    const float lr = c.spec.learning_rate;
    const float l2 = c.spec.l2;
#pragma GCC unroll 1
    for (uint32_t j = 0; j < dim; ++j) w[j] -= lr * (gradient[j] + l2 * w[j]);
  }
};

struct Momentum {
  static void Row(const Coefficients& c, uint32_t dim, float* __restrict w, float* __restrict v,
                  const float* __restrict gradient) {
    const float lr = c.spec.learning_rate;
    const float l2 = c.spec.l2;
    const float momentum = c.spec.momentum;
#pragma GCC unroll 1
    for (uint32_t j = 0; j < dim; ++j) {
      const float velocity = momentum * v[j] + (gradient[j] + l2 * w[j]);
      v[j] = velocity;
      w[j] -= lr * velocity;
    }
  }
};

struct Adagrad {
  static void Row(const Coefficients& c, uint32_t dim, float* __restrict w, float* __restrict n,
                  const float* __restrict gradient) {
    const float lr = c.spec.learning_rate;
    const float l2 = c.spec.l2;
    const float epsilon = c.spec.epsilon;
#pragma GCC unroll 1
    for (uint32_t j = 0; j < dim; ++j) {
      const float g = gradient[j] + l2 * w[j];
      const float sum = n[j] + g * g;
      n[j] = sum;
      w[j] -= lr * g / (std::sqrt(sum) + epsilon);
    }
  }
};

struct Rmsprop {
  static void Row(const Coefficients& c, uint32_t dim, float* __restrict w, float* __restrict s,
                  const float* __restrict gradient) {
    const float lr = c.spec.learning_rate;
    const float l2 = c.spec.l2;
    const float epsilon = c.spec.epsilon;
    const float decay = c.spec.decay;
#pragma GCC unroll 1
    for (uint32_t j = 0; j < dim; ++j) {
      const float g = gradient[j] + l2 * w[j];
      const float mean = decay * s[j] + (1.0f - decay) * g * g;
      s[j] = mean;
      w[j] -= lr * g / (std::sqrt(mean) + epsilon);
    }
  }
};

struct Adam {
  static void Row(const Coefficients& c, uint32_t dim, float* __restrict w, float* __restrict state,
                  const float* __restrict gradient) {
    float* __restrict m = state;
    float* __restrict v = state + dim;
    uint32_t step;
    std::memcpy(&step, state + 2 * dim, sizeof step);
    step += step < UINT32_MAX ? 1 : 0;
    std::memcpy(state + 2 * dim, &step, sizeof step);
    const float first = LookUpCorrection(c.adam_first, FirstCorrection, c.spec.beta1, step);
    const float second = LookUpCorrection(c.adam_second, SecondCorrection, c.spec.beta2, step);
    const float rate = c.spec.learning_rate * first;
    const float l2 = c.spec.l2;
    const float epsilon = c.spec.epsilon;
    const float beta1 = c.spec.beta1;
    const float beta2 = c.spec.beta2;
#pragma GCC unroll 1
    for (uint32_t j = 0; j < dim; ++j) {
      const float g = gradient[j] + l2 * w[j];
      const float mean = beta1 * m[j] + (1.0f - beta1) * g;
      const float square = beta2 * v[j] + (1.0f - beta2) * g * g;
      m[j] = mean;
      v[j] = square;
      w[j] -= rate * mean / (std::sqrt(square) * second + epsilon);
    }
  }
};

// `kSquareRoot`: the usual lr_power of -0.5, without calls of pow.
template <bool kSquareRoot>
struct Ftrl {
  static void Row(const Coefficients& c, uint32_t dim, float* __restrict w, float* __restrict state,
                  const float* __restrict gradient) {
    float* __restrict z = state;
    float* __restrict n = state + dim;
    const float alpha = c.spec.learning_rate;
    const float power = -c.spec.lr_power;
    const float beta = c.spec.ftrl_beta;
    const float l1 = c.spec.l1;
    const float l2 = c.spec.l2;
#pragma GCC unroll 1
    for (uint32_t j = 0; j < dim; ++j) {
      const float g = gradient[j];
      const float sum = n[j] + g * g;
      const float root = kSquareRoot ? std::sqrt(sum) : std::pow(sum, power);
      const float old_root = kSquareRoot ? std::sqrt(n[j]) : std::pow(n[j], power);
      const float sigma = (root - old_root) / alpha;
      const float linear = z[j] + g - sigma * w[j];
      z[j] = linear;
      n[j] = sum;
      const float moved = -(linear - std::copysign(l1, linear)) / ((beta + root) / alpha + l2);
      w[j] = std::fabs(linear) <= l1 ? 0.0f : moved;
    }
  }
};

struct Sum {
  static void Row(const Coefficients&, uint32_t dim, float* __restrict w, float*,
                  const float* __restrict gradient) {
    for (uint32_t j = 0; j + 1 < dim; j += 2) {
      uint64_t total;
      uint64_t added;
      std::memcpy(&total, w + j, sizeof total);
      std::memcpy(&added, gradient + j, sizeof added);
      total += added;
      std::memcpy(w + j, &total, sizeof total);
    }
  }
};

// kDim 0: any dimension.
template <class Rule, uint32_t kDim>
void ApplyRows(const Coefficients& c, uint32_t dim, std::span<float* const> rows,
               std::span<const float* const> gradients) {
  const uint32_t size = kDim != 0 ? kDim : dim;
  for (size_t i = 0; i < rows.size(); ++i) {
    Rule::Row(c, size, rows[i], rows[i] + size, gradients[i]);
  }
}

// The usual dimensions get straight code.
template <class Rule>
auto ChooseKernel(uint32_t dim) {
  switch (dim) {
    case 1: return &ApplyRows<Rule, 1>;
    case 8: return &ApplyRows<Rule, 8>;
    case 16: return &ApplyRows<Rule, 16>;
    case 17: return &ApplyRows<Rule, 17>;
    case 32: return &ApplyRows<Rule, 32>;
    case 64: return &ApplyRows<Rule, 64>;
    default: return &ApplyRows<Rule, 0>;
  }
}

}  // namespace

Optimizer::Optimizer(const protocol::OptimizerSpec& spec, uint32_t dim) : dim_(dim) {
  coefficients_.spec = spec;
  protocol::TableSchema schema;
  schema.dim = dim;
  schema.optimizer = spec;
  state_floats_ = protocol::StateFloats(schema);
  switch (spec.kind) {
    case OptimizerKind::kSgd: kernel_ = ChooseKernel<Sgd>(dim); break;
    case OptimizerKind::kMomentum: kernel_ = ChooseKernel<Momentum>(dim); break;
    case OptimizerKind::kAdagrad: kernel_ = ChooseKernel<Adagrad>(dim); break;
    case OptimizerKind::kRmsprop: kernel_ = ChooseKernel<Rmsprop>(dim); break;
    case OptimizerKind::kSum: kernel_ = ChooseKernel<Sum>(dim); break;
    case OptimizerKind::kFtrl:
      kernel_ = spec.lr_power == -0.5f ? ChooseKernel<Ftrl<true>>(dim) : &ApplyRows<Ftrl<false>, 0>;
      break;
    case OptimizerKind::kAdam:
      kernel_ = ChooseKernel<Adam>(dim);
      coefficients_.adam_first = TabulateCorrections(FirstCorrection, spec.beta1);
      coefficients_.adam_second = TabulateCorrections(SecondCorrection, spec.beta2);
      break;
  }
  CHECK(kernel_ != nullptr);
}

void Optimizer::InitState(float* state) const {
  const bool filled = coefficients_.spec.kind == OptimizerKind::kAdagrad;
  std::fill_n(state, state_floats_, filled ? coefficients_.spec.initial_accumulator : 0.0f);
}

}  // namespace freshet::ps
