// SPDX-License-Identifier: Apache-2.0
#include "protocol/table_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "protocol/audit.h"

namespace freshet::protocol {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

constexpr size_t kMaxNameBytes = 64;
// A tensor list has a handful of entries a layer; beyond this it is a damaged message.
constexpr size_t kMaxInitEntries = 4096;
// Floats of one dense table; far above any model, low enough that no product overflows.
constexpr uint64_t kMaxDenseFloats = uint64_t{1} << 40;

constexpr std::array<std::pair<const char*, OptimizerKind>, 7> kOptimizers = {{
    {"sgd", OptimizerKind::kSgd},
    {"momentum", OptimizerKind::kMomentum},
    {"adagrad", OptimizerKind::kAdagrad},
    {"adam", OptimizerKind::kAdam},
    {"ftrl", OptimizerKind::kFtrl},
    {"rmsprop", OptimizerKind::kRmsprop},
    {"sum", OptimizerKind::kSum},
}};

bool IsKnown(OptimizerKind kind) {
  return std::any_of(kOptimizers.begin(), kOptimizers.end(),
                     [kind](const auto& entry) { return entry.second == kind; });
}

bool IsNameOk(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

tl::unexpected<base::Error> Bad(const TableSchema& schema, const std::string& what) {
  std::string name = IsNameOk(schema.name) ? schema.name : "?";
  return Fail(ErrorCode::kInvalidArgument, "table '" + name + "': " + what);
}

struct Range {
  float low = 0;
  float high = 0;
};

// Both ends belong to the range; a number that is not one is outside.
bool Within(float value, Range range) { return value >= range.low && value <= range.high; }

Result<> ValidateOptimizer(const TableSchema& schema) {
  const OptimizerSpec& spec = schema.optimizer;
  constexpr Range kPositive{1e-30f, 1e30f};
  constexpr Range kNotNegative{0.0f, 1e30f};
  constexpr Range kShare{0.0f, 0.9999999f};
  if (!IsKnown(spec.kind)) return Bad(schema, "optimizer: unknown kind");
  if (spec.kind == OptimizerKind::kSum) {
    if (schema.dim % 2 != 0) return Bad(schema, "dim: must be even with the optimizer 'sum'");
    if (!schema.init.empty()) return Bad(schema, "init: 'sum' rows start at zero");
    return {};
  }
  if (!Within(spec.learning_rate, kPositive)) return Bad(schema, "learning_rate: must be above 0");
  if (!Within(spec.momentum, kShare)) return Bad(schema, "momentum: must be in [0, 1)");
  if (!Within(spec.initial_accumulator, kNotNegative)) {
    return Bad(schema, "initial_accumulator: must not be negative");
  }
  if (!Within(spec.epsilon, kPositive)) return Bad(schema, "epsilon: must be above 0");
  if (!Within(spec.beta1, kShare)) return Bad(schema, "beta1: must be in [0, 1)");
  if (!Within(spec.beta2, kShare)) return Bad(schema, "beta2: must be in [0, 1)");
  if (!Within(spec.decay, kShare)) return Bad(schema, "decay: must be in [0, 1)");
  if (!Within(spec.l1, kNotNegative)) return Bad(schema, "l1: must not be negative");
  if (!Within(spec.l2, kNotNegative)) return Bad(schema, "l2: must not be negative");
  if (!Within(spec.lr_power, Range{-1.0f, 0.0f})) {
    return Bad(schema, "lr_power: must be in [-1, 0]");
  }
  if (!Within(spec.ftrl_beta, kNotNegative)) return Bad(schema, "ftrl_beta: must not be negative");
  return {};
}

Result<> ValidateInit(const TableSchema& schema) {
  if (schema.init.size() > kMaxInitEntries) return Bad(schema, "init: too many entries");
  const uint64_t floats =
      schema.kind == TableKind::kDense ? schema.dense_rows * schema.dim : schema.dim;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const InitSpec& init : schema.init) {
    if (init.kind < InitKind::kZero || init.kind > InitKind::kNormal) {
      return Bad(schema, "init: unknown kind");
    }
    if (!Within(init.scale, Range{0.0f, 1e30f})) {
      return Bad(schema, "init: scale must not be negative");
    }
    if (init.begin_float >= init.end_float || init.end_float > floats) {
      return Bad(schema, "init: floats [" + std::to_string(init.begin_float) + ", " +
                             std::to_string(init.end_float) + ") are not within [0, " +
                             std::to_string(floats) + ")");
    }
    ranges.emplace_back(init.begin_float, init.end_float);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) return Bad(schema, "init: entries overlap");
  }
  return {};
}

}  // namespace

Result<> ValidateTable(const TableSchema& schema) {
  if (!IsNameOk(schema.name)) {
    return Bad(schema, "name: 1 to 64 characters out of a-z, 0-9 and _");
  }
  if (schema.dim < 1 || schema.dim > kMaxDim) {
    return Bad(schema, "dim: must be in [1, " + std::to_string(kMaxDim) + "]");
  }
  switch (schema.kind) {
    case TableKind::kSparse:
      if (schema.dense_rows != 0) return Bad(schema, "dense_rows: only of dense tables");
      break;
    case TableKind::kDense:
      if (schema.dense_rows < 1 || schema.dense_rows > kMaxDenseFloats / schema.dim) {
        return Bad(schema, "dense_rows: must be at least 1, and at most 2^40 floats in all");
      }
      break;
    default: return Bad(schema, "kind: unknown");
  }
  if (auto ok = ValidateOptimizer(schema); !ok) return ok;
  return ValidateInit(schema);
}

uint32_t StateFloats(const TableSchema& schema) {
  switch (schema.optimizer.kind) {
    case OptimizerKind::kSgd:
    case OptimizerKind::kSum: return 0;
    case OptimizerKind::kMomentum:
    case OptimizerKind::kAdagrad:
    case OptimizerKind::kRmsprop: return schema.dim;
    case OptimizerKind::kFtrl: return 2 * schema.dim;
    case OptimizerKind::kAdam: return 2 * schema.dim + 1;  // and the row's step
  }
  return 0;
}

Result<OptimizerKind> ParseOptimizer(const std::string& name) {
  std::string known;
  for (const auto& [text, kind] : kOptimizers) {
    if (name == text) return kind;
    known += known.empty() ? text : std::string(", ") + text;
  }
  return Fail(ErrorCode::kNotFound, "unknown optimizer '" + name + "'; known are: " + known);
}

TableSchema AuditTableSchema() {
  TableSchema schema;
  schema.name = "freshet_audit";
  schema.dim = 2 * kAuditCounters;
  schema.optimizer.kind = OptimizerKind::kSum;
  return schema;
}

}  // namespace freshet::protocol
