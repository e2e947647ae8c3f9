// SPDX-License-Identifier: Apache-2.0
// TableSchema: what a row of a table is and how it learns. Declared by a worker, kept by the master in
// the view, the same everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "protocol/ids.h"

namespace freshet::protocol {

enum class OptimizerKind : uint8_t {
  kSgd = 1,
  kMomentum = 2,
  kAdagrad = 3,
  kAdam = 4,
  kFtrl = 5,
  kRmsprop = 6,
  // Rows hold dim/2 unsigned 64-bit counters in the bytes of dim floats; a push adds modulo 2^64.
  // Exact where floats are not: the audit (I1) lives in such a table. dim must be even.
  kSum = 7
};

// One set of numbers for all kinds; each kind reads what it needs (see ps/optimizer.h).
struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kAdagrad;
  float learning_rate = 0.1f;
  float momentum = 0.9f;             // momentum
  float initial_accumulator = 0.0f;  // adagrad
  float epsilon = 1e-10f;            // adagrad, adam, rmsprop
  float beta1 = 0.9f;                // adam
  float beta2 = 0.999f;              // adam
  float decay = 0.9f;                // rmsprop
  float l1 = 0.0f;                   // ftrl
  float l2 = 0.0f;                   // ftrl; weight decay added to the gradient in the others
  float lr_power = -0.5f;            // ftrl
  float ftrl_beta = 1.0f;            // ftrl

  static auto Fields(auto& self, auto&& f) {
    return f(self.kind, self.learning_rate, self.momentum, self.initial_accumulator, self.epsilon,
             self.beta1, self.beta2, self.decay, self.l1, self.l2, self.lr_power, self.ftrl_beta);
  }
  bool operator==(const OptimizerSpec&) const = default;
};

enum class InitKind : uint8_t { kZero = 1, kUniform = 2, kNormal = 3 };

// How a row starts: a function of (seed, table, key) only, so that a replay gives the same row.
// kUniform: in [-scale, scale); kNormal: mean 0, deviation scale.
// In a sparse table the floats [begin_float, end_float) of every row; in a dense table the floats
// [begin_float, end_float) of the whole tensor (float i is column i % dim of row i / dim).
// What no entry covers starts at zero.
struct InitSpec {
  InitKind kind = InitKind::kZero;
  float scale = 0.0f;
  uint64_t begin_float = 0;
  uint64_t end_float = 0;

  static auto Fields(auto& self, auto&& f) {
    return f(self.kind, self.scale, self.begin_float, self.end_float);
  }
  bool operator==(const InitSpec&) const = default;
};

enum class TableKind : uint8_t {
  kSparse = 1,  // any 64-bit key
  kDense = 2    // keys 0 .. dense_rows-1: a tensor cut into rows
};

struct TableSchema {
  std::string name;  // [a-z0-9_]{1,64}, unique in the cluster
  TableKind kind = TableKind::kSparse;
  uint32_t dim = 1;  // floats of weights in a row, 1 .. kMaxDim
  uint64_t dense_rows = 0;
  OptimizerSpec optimizer;
  std::vector<InitSpec> init;

  static auto Fields(auto& self, auto&& f) {
    return f(self.name, self.kind, self.dim, self.dense_rows, self.optimizer, self.init);
  }
  bool operator==(const TableSchema&) const = default;
};

inline constexpr uint32_t kMaxDim = 4096;
inline constexpr size_t kMaxTables = 256;

// kInvalidArgument with a message that names the table and the field.
base::Result<> ValidateTable(const TableSchema& schema);

// A table as the master registered it.
struct Table {
  TableId id;
  TableSchema schema;

  static auto Fields(auto& self, auto&& f) { return f(self.id, self.schema); }
  bool operator==(const Table&) const = default;
};

// Floats of optimizer state beside the weights of one row.
uint32_t StateFloats(const TableSchema& schema);

// Name of an optimizer as users write it ("adagrad"); kNotFound lists the known ones.
base::Result<OptimizerKind> ParseOptimizer(const std::string& name);

// The table every cluster has: {count, sum of offsets, dead-lettered, 0} per audit row (I1).
inline constexpr TableId kAuditTable{0};
TableSchema AuditTableSchema();

// The partition of a key. `partitions` is fixed when the cluster is created.
// The high bits choose the partition; a shard's index hashes the key with another salt. This is
// hash * partitions >> 64 in steps that a compiler can do for many keys at once.
constexpr PartitionId PartitionOf(TableId table, Key key, uint32_t partitions) {
  const uint64_t hash = base::Mix64(key ^ (uint64_t{table.value()} << 48));
  const uint64_t low = (hash & 0xFFFFFFFF) * partitions >> 32;
  return PartitionId(static_cast<uint16_t>(((hash >> 32) * partitions + low) >> 32));
}

}  // namespace freshet::protocol
