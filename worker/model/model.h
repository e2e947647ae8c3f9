// SPDX-License-Identifier: Apache-2.0
// Model: forward and backward of one click-through-rate model on one batch. It owns no parameters:
// they come from the parameter servers with each batch and their gradients go back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/table_schema.h"

namespace freshet::worker {

// What a log's schema offers.
struct InputShape {
  uint32_t dense_count = 0;
  uint32_t sparse_count = 0;
};

// One batch. All sparse tables of a model share the batch's distinct keys.
struct ModelInput {
  uint32_t rows = 0;
  std::span<const float> labels;          // [rows]
  std::span<const float> dense;           // [rows][dense_count]
  std::span<const uint32_t> key_indices;  // [rows][sparse_count] into the distinct keys
  uint32_t distinct_keys = 0;
  // Per table of Model::Tables(): sparse [distinct_keys][dim], dense [dense_rows][dim]. Not
  // aligned to more than 8 bytes.
  std::vector<std::span<const float>> weights;
};

// Buffers given by the caller, shaped as the weights; the model overwrites them.
struct ModelOutput {
  std::span<float> logits;  // [rows], before the sigmoid
  // Gradients of the mean log loss over the batch; empty = forward only.
  std::vector<std::span<float>> gradients;
};

// Not thread safe (keeps scratch memory between batches); one per training loop.
class Model {
 public:
  virtual ~Model() = default;
  // In a fixed order; sparse tables and at most one dense table (all tensors, flat).
  virtual const std::vector<protocol::TableSchema>& Tables() const = 0;
  virtual void Compute(const ModelInput& input, const ModelOutput& output) = 0;
};

// name: lr, fm, wide_deep, deepfm. config: see worker/model/config.h.
// kNotFound for an unknown model, kInvalidArgument for an unknown key or a bad value; both list
// what is known.
base::Result<std::unique_ptr<Model>> CreateModel(const std::string& name,
                                                 const std::map<std::string, std::string>& config,
                                                 InputShape shape);

}  // namespace freshet::worker
