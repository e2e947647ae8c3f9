// SPDX-License-Identifier: Apache-2.0
// The models behind CreateModel. Every one has a dense table as its last table.
#pragma once

#include <memory>

#include "worker/model/config.h"
#include "worker/model/model.h"

namespace freshet::worker {

// "lr": table "linear" (dim 1).
std::unique_ptr<Model> MakeLr(const ModelConfig& config, InputShape shape);
// "wide_deep": tables "wide" (dim 1) and "embedding" (dim k).
std::unique_ptr<Model> MakeWideDeep(const ModelConfig& config, InputShape shape);
// "fm": table "embedding" (dim 1 + k: first-order weight, then the vector).
std::unique_ptr<Model> MakeFm(const ModelConfig& config, InputShape shape);
// "deepfm": the same table as "fm"; the MLP reads the vectors too.
std::unique_ptr<Model> MakeDeepFm(const ModelConfig& config, InputShape shape);

}  // namespace freshet::worker
