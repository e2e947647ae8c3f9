// SPDX-License-Identifier: Apache-2.0
// ModelConfig: what `--model-config k=v,..` says, checked, with the defaults of each model filled
// in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/table_schema.h"

namespace freshet::worker {

// Keys (a key that has no effect on the model is refused):
//   dim                  embedding dimension, 16 (fm, wide_deep, deepfm)
//   hidden               widths of the hidden layers, "64-32" (wide_deep, deepfm)
//   init_scale           deviation of new embeddings, 0.01 (fm, wide_deep, deepfm)
//   optimizer            of all tables except "wide": sgd, momentum, adagrad, adam, ftrl, rmsprop
//   learning_rate        of these (0.1; adam and rmsprop 0.001)
//   dense_learning_rate  of the dense table alone. By default learning_rate; with adagrad a part of
//                        it: 0.2 for wide_deep and deepfm, 0.5 for lr and fm
//   initial_accumulator  adagrad's, of all tables (1e-6)
//   wide_optimizer, wide_learning_rate   of the table "wide" (wide_deep): ftrl, 0.1
//   l1, l2               into OptimizerSpec of all tables, so the server applies them to the rows a
//                        batch touches; the model's gradients do not contain them
struct ModelConfig {
  uint32_t dim = 0;
  std::vector<uint32_t> hidden;
  float init_scale = 0;
  protocol::OptimizerSpec sparse;
  protocol::OptimizerSpec wide;
  protocol::OptimizerSpec dense;
};

// The models of this release, in the order they are listed to users.
const std::vector<std::string>& KnownModels();

base::Result<ModelConfig> ParseModelConfig(const std::string& model,
                                           const std::map<std::string, std::string>& config);

}  // namespace freshet::worker
