// SPDX-License-Identifier: Apache-2.0
// Samples/s of the models (forward and backward, without parameter transport) and keys/s of
// KeyDedup. 39 sparse fields x dim 16, 13 dense columns, batches of 512, several batches in
// rotation.
#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "worker/model/key_dedup.h"
#include "worker/model/model.h"

namespace freshet::worker {
namespace {

constexpr uint32_t kRows = 512;
constexpr InputShape kShape{13, 39};
constexpr size_t kBatches = 16;

// Skewed ids, as click logs have them: some fields with a handful of values, some with millions.
std::vector<protocol::Key> DrawKeys(base::Random& random) {
  std::vector<protocol::Key> keys;
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t f = 0; f < kShape.sparse_count; ++f) {
      const double values = std::pow(10.0, 1.0 + 6.0 * f / kShape.sparse_count);
      const auto id = static_cast<uint64_t>(std::pow(values, random.Uniform()));
      keys.push_back(base::Mix64(base::Mix64(f) + id));
    }
  }
  return keys;
}

struct Batch {
  std::vector<float> labels;
  std::vector<float> dense;
  std::vector<uint32_t> indices;
  std::vector<std::vector<float>> weights;
  std::vector<std::vector<float>> gradients;
  std::vector<float> logits;
  ModelInput input;
  ModelOutput output;
};

Batch DrawBatch(const Model& model, base::Random& random) {
  Batch batch;
  KeyDedup dedup;
  dedup.Assign(DrawKeys(random));
  batch.indices.assign(dedup.indices().begin(), dedup.indices().end());
  for (uint32_t r = 0; r < kRows; ++r) batch.labels.push_back(random.Chance(0.25) ? 1.0f : 0.0f);
  for (uint32_t i = 0; i < kRows * kShape.dense_count; ++i) {
    batch.dense.push_back(static_cast<float>(random.Uniform()));
  }
  batch.input.distinct_keys = static_cast<uint32_t>(dedup.distinct().size());
  for (const auto& table : model.Tables()) {
    const bool sparse = table.kind == protocol::TableKind::kSparse;
    const size_t rows = sparse ? batch.input.distinct_keys : table.dense_rows;
    std::vector<float> weights(rows * table.dim);
    for (float& w : weights) w = static_cast<float>(random.Uniform() * 0.1 - 0.05);
    batch.gradients.emplace_back(weights.size());
    batch.weights.push_back(std::move(weights));
  }
  batch.logits.resize(kRows);
  return batch;
}

void Point(Batch& batch) {
  batch.input.rows = kRows;
  batch.input.labels = batch.labels;
  batch.input.dense = batch.dense;
  batch.input.key_indices = batch.indices;
  batch.output.logits = batch.logits;
  for (const auto& weights : batch.weights) batch.input.weights.push_back(weights);
  for (auto& gradients : batch.gradients) batch.output.gradients.push_back(gradients);
}

void RunModel(benchmark::State& state, const std::string& name, const std::string& hidden) {
  std::map<std::string, std::string> config;
  if (!hidden.empty()) config["hidden"] = hidden;
  auto model = CreateModel(name, config, kShape);
  CHECK(model.has_value());
  base::Random random(1);
  std::vector<Batch> batches;
  for (size_t b = 0; b < kBatches; ++b) batches.push_back(DrawBatch(**model, random));
  for (Batch& batch : batches) Point(batch);
  size_t next = 0;
  for (auto _ : state) {
    Batch& batch = batches[next++ % kBatches];
    (*model)->Compute(batch.input, batch.output);
    benchmark::DoNotOptimize(batch.logits.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kRows);
  state.counters["distinct_keys"] = batches[0].input.distinct_keys;
}

BENCHMARK_CAPTURE(RunModel, lr, "lr", "");
BENCHMARK_CAPTURE(RunModel, fm, "fm", "");
BENCHMARK_CAPTURE(RunModel, wide_deep_128_64, "wide_deep", "128-64");
BENCHMARK_CAPTURE(RunModel, deepfm_128_64, "deepfm", "128-64");
BENCHMARK_CAPTURE(RunModel, wide_deep_400_400_400, "wide_deep", "400-400-400");
BENCHMARK_CAPTURE(RunModel, deepfm_400_400_400, "deepfm", "400-400-400");

std::vector<std::vector<protocol::Key>> DrawKeyBatches() {
  base::Random random(2);
  std::vector<std::vector<protocol::Key>> out;
  for (size_t b = 0; b < kBatches; ++b) out.push_back(DrawKeys(random));
  return out;
}

void RunKeyDedup(benchmark::State& state) {
  const auto batches = DrawKeyBatches();
  KeyDedup dedup;
  size_t next = 0;
  for (auto _ : state) {
    dedup.Assign(batches[next++ % kBatches]);
    benchmark::DoNotOptimize(dedup.indices().data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(batches[0].size()));
}
BENCHMARK(RunKeyDedup);

void RunUnorderedMap(benchmark::State& state) {
  const auto batches = DrawKeyBatches();
  std::unordered_map<protocol::Key, uint32_t> map;
  std::vector<uint32_t> indices;
  std::vector<protocol::Key> distinct;
  size_t next = 0;
  for (auto _ : state) {
    map.clear();
    indices.clear();
    distinct.clear();
    for (const protocol::Key key : batches[next++ % kBatches]) {
      const auto [found, fresh] = map.try_emplace(key, static_cast<uint32_t>(distinct.size()));
      if (fresh) distinct.push_back(key);
      indices.push_back(found->second);
    }
    benchmark::DoNotOptimize(indices.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(batches[0].size()));
}
BENCHMARK(RunUnorderedMap);

}  // namespace
}  // namespace freshet::worker

BENCHMARK_MAIN();
