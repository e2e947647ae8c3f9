// SPDX-License-Identifier: Apache-2.0
// LocalTrainer: trains a Model in one process without a network: rows in a hash map, Adagrad and
// FTRL in their plainest form. A yardstick for learning, not for speed.
#pragma once

#include <cmath>
#include <numbers>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "protocol/validation.h"
#include "worker/model/key_dedup.h"
#include "worker/model/model.h"

namespace freshet::worker {

struct LocalBatch {
  uint32_t rows = 0;
  std::vector<float> labels;
  std::vector<float> dense;
  std::vector<protocol::Key> keys;  // [rows][sparse_count]
};

class LocalTrainer {
 public:
  LocalTrainer(Model& model, uint64_t seed) : model_(model), seed_(seed) {
    for (const auto& schema : model.Tables()) tables_.push_back({schema, {}});
  }

  // Predicts, counts the predictions, then learns.
  void Step(const LocalBatch& batch, protocol::ValidationHistogram& validation) {
    dedup_.Assign(batch.keys);
    const std::vector<std::vector<protocol::Key>> keys = KeysOfTables();
    std::vector<std::vector<float>> weights;
    std::vector<std::vector<float>> gradients;
    for (size_t t = 0; t < tables_.size(); ++t) {
      weights.push_back(Pull(t, keys[t]));
      gradients.emplace_back(weights.back().size(), 1e9f);  // must be overwritten
    }
    std::vector<float> logits(batch.rows);
    ModelInput input;
    input.rows = batch.rows;
    input.labels = batch.labels;
    input.dense = batch.dense;
    input.key_indices = dedup_.indices();
    input.distinct_keys = static_cast<uint32_t>(dedup_.distinct().size());
    ModelOutput output;
    output.logits = logits;
    for (size_t t = 0; t < tables_.size(); ++t) {
      input.weights.push_back(weights[t]);
      output.gradients.push_back(gradients[t]);
    }
    model_.Compute(input, output);
    for (uint32_t r = 0; r < batch.rows; ++r) validation.Add(logits[r], batch.labels[r]);
    for (size_t t = 0; t < tables_.size(); ++t) Push(t, keys[t], gradients[t]);
  }

 private:
  struct Row {
    std::vector<float> weights;
    std::vector<float> first;   // Adagrad's sum of squares, FTRL's z
    std::vector<float> second;  // FTRL's n
  };
  struct Table {
    protocol::TableSchema schema;
    std::unordered_map<protocol::Key, Row> rows;
  };

  std::vector<std::vector<protocol::Key>> KeysOfTables() const {
    std::vector<std::vector<protocol::Key>> out;
    for (const Table& table : tables_) {
      std::vector<protocol::Key> keys(dedup_.distinct().begin(), dedup_.distinct().end());
      if (table.schema.kind == protocol::TableKind::kDense) {
        keys.resize(table.schema.dense_rows);
        for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
      }
      out.push_back(std::move(keys));
    }
    return out;
  }

  Row NewRow(size_t t, protocol::Key key) const {
    const auto& schema = tables_[t].schema;
    Row row;
    row.weights.assign(schema.dim, 0.0f);
    row.first.assign(schema.dim, schema.optimizer.kind == protocol::OptimizerKind::kAdagrad
                                     ? schema.optimizer.initial_accumulator
                                     : 0.0f);
    row.second.assign(schema.dim, 0.0f);
    base::Random random(base::Mix64(seed_ + t) ^ base::Mix64(key));
    const bool dense = schema.kind == protocol::TableKind::kDense;
    for (uint32_t i = 0; i < schema.dim; ++i) {
      const uint64_t at = dense ? key * schema.dim + i : i;
      for (const auto& init : schema.init) {
        if (at < init.begin_float || at >= init.end_float) continue;
        const double u = random.Uniform();
        const double normal = std::sqrt(-2.0 * std::log(1.0 - random.Uniform())) *
                              std::cos(2.0 * std::numbers::pi * u);
        if (init.kind == protocol::InitKind::kUniform) {
          row.weights[i] = static_cast<float>((2.0 * u - 1.0) * init.scale);
        } else if (init.kind == protocol::InitKind::kNormal) {
          row.weights[i] = static_cast<float>(normal * init.scale);
        }
      }
    }
    return row;
  }

  std::vector<float> Pull(size_t t, std::span<const protocol::Key> keys) {
    std::vector<float> out;
    for (const protocol::Key key : keys) {
      auto [found, fresh] = tables_[t].rows.try_emplace(key);
      if (fresh) found->second = NewRow(t, key);
      out.insert(out.end(), found->second.weights.begin(), found->second.weights.end());
    }
    return out;
  }

  void Push(size_t t, std::span<const protocol::Key> keys, std::span<const float> gradients) {
    const auto& spec = tables_[t].schema.optimizer;
    const uint32_t dim = tables_[t].schema.dim;
    for (size_t k = 0; k < keys.size(); ++k) {
      Row& row = tables_[t].rows.at(keys[k]);
      for (uint32_t i = 0; i < dim; ++i) {
        const float g = gradients[k * dim + i];
        switch (spec.kind) {
          case protocol::OptimizerKind::kAdagrad: Adagrad(spec, g, row, i); break;
          case protocol::OptimizerKind::kFtrl: Ftrl(spec, g, row, i); break;
          default: CHECK(false);
        }
      }
    }
  }

  static void Adagrad(const protocol::OptimizerSpec& spec, float gradient, Row& row, uint32_t i) {
    float& w = row.weights[i];
    const float g = gradient + spec.l2 * w;
    row.first[i] += g * g;
    w -= spec.learning_rate * g / (std::sqrt(row.first[i]) + spec.epsilon);
  }

  static void Ftrl(const protocol::OptimizerSpec& spec, float g, Row& row, uint32_t i) {
    float& w = row.weights[i];
    float& z = row.first[i];
    float& n = row.second[i];
    const float before = std::pow(n, -spec.lr_power);
    n += g * g;
    const float after = std::pow(n, -spec.lr_power);
    z += g - (after - before) / spec.learning_rate * w;
    const float shrunk = std::max(std::abs(z) - spec.l1, 0.0f);
    const float rate = (spec.ftrl_beta + after) / spec.learning_rate + spec.l2;
    w = shrunk == 0.0f ? 0.0f : -std::copysign(shrunk, z) / rate;
  }

  Model& model_;
  const uint64_t seed_;
  std::vector<Table> tables_;
  KeyDedup dedup_;
};

}  // namespace freshet::worker
