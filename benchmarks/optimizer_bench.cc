// SPDX-License-Identifier: Apache-2.0
// Time a row of each optimizer, on rows that are in the cache: what is left when memory is free.
// The argument is the dimension.
#include <benchmark/benchmark.h>

#include <bit>
#include <string>
#include <vector>

#include "base/random.h"
#include "ps/optimizer.h"

namespace freshet::ps {
namespace {

using protocol::OptimizerKind;

constexpr size_t kRows = 64;

void UpdateRows(benchmark::State& state, OptimizerKind kind) {
  protocol::TableSchema schema;
  schema.dim = static_cast<uint32_t>(state.range(0));
  schema.optimizer.kind = kind;
  const Optimizer optimizer(schema.optimizer, schema.dim);
  const size_t stride = (schema.dim + protocol::StateFloats(schema) + 15) / 16 * 16;
  std::vector<float> memory(kRows * stride + 16);
  // Rows of 16 floats begin on cache lines, as in the arena.
  auto* first = reinterpret_cast<float*>((std::bit_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
  std::vector<float> gradients(kRows * schema.dim);
  base::Random random(1);
  for (float& g : gradients) g = static_cast<float>(random.Uniform() - 0.5);
  std::vector<float*> rows;
  std::vector<const float*> row_gradients;
  for (size_t i = 0; i < kRows; ++i) {
    rows.push_back(first + i * stride);
    optimizer.InitState(rows.back() + schema.dim);
    row_gradients.push_back(&gradients[i * schema.dim]);
  }
  for (auto _ : state) {
    optimizer.Apply(rows, row_gradients);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kRows));
  state.counters["per_row"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kRows,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void Dimensions(benchmark::internal::Benchmark* bench) {
  for (const int64_t dim : {1, 8, 16, 17, 32, 64, 100}) bench->Arg(dim);
}

BENCHMARK_CAPTURE(UpdateRows, sgd, OptimizerKind::kSgd)->Apply(Dimensions);
BENCHMARK_CAPTURE(UpdateRows, momentum, OptimizerKind::kMomentum)->Apply(Dimensions);
BENCHMARK_CAPTURE(UpdateRows, adagrad, OptimizerKind::kAdagrad)->Apply(Dimensions);
BENCHMARK_CAPTURE(UpdateRows, adam, OptimizerKind::kAdam)->Apply(Dimensions);
BENCHMARK_CAPTURE(UpdateRows, ftrl, OptimizerKind::kFtrl)->Apply(Dimensions);
BENCHMARK_CAPTURE(UpdateRows, rmsprop, OptimizerKind::kRmsprop)->Apply(Dimensions);
BENCHMARK_CAPTURE(UpdateRows, sum, OptimizerKind::kSum)->Arg(8)->Arg(16);

}  // namespace
}  // namespace freshet::ps

BENCHMARK_MAIN();
