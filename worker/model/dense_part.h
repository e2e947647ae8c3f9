// SPDX-License-Identifier: Apache-2.0
// DensePart: the head of every model's dense table: float 0 is the bias, then one weight per dense
// column. Also what all models do alike with logits, gradients and schemas. No state; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "protocol/table_schema.h"
#include "worker/model/model.h"

namespace freshet::worker {

inline constexpr uint32_t kDenseDim = 64;

struct DensePart {
  uint32_t columns = 0;

  size_t floats() const { return size_t{1} + columns; }
  // Sets the logits to bias + dense columns.
  void Forward(const ModelInput& input, std::span<const float> dense,
               std::span<float> logits) const;
  // Writes the gradients of this part.
  void Backward(const ModelInput& input, std::span<const float> logit_gradients,
                std::span<float> gradients) const;
};

// The table "dense" for `floats` floats, cut into rows of kDenseDim.
protocol::TableSchema DenseTable(size_t floats, const protocol::OptimizerSpec& optimizer);
protocol::TableSchema SparseTable(std::string name, uint32_t dim,
                                  const protocol::OptimizerSpec& optimizer);

// Aborts unless every span has the length its table and the batch ask for.
void CheckShapes(const std::vector<protocol::TableSchema>& tables, InputShape shape,
                 const ModelInput& input, const ModelOutput& output);

// Gradient of the mean log loss by logit: (sigmoid(logit) - label) / rows.
void LogitGradients(std::span<const float> logits, std::span<const float> labels,
                    std::span<float> out);

}  // namespace freshet::worker
