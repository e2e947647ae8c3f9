// SPDX-License-Identifier: Apache-2.0
#include "worker/model/model.h"

#include <fmt/format.h>

#include "worker/model/config.h"
#include "worker/model/models.h"

namespace freshet::worker {
namespace {

// Floats of one dense table; keeps a mistyped width from asking the servers for gigabytes.
constexpr uint64_t kMaxDenseFloats = uint64_t{1} << 26;

uint64_t MlpFloats(const ModelConfig& config, InputShape shape) {
  uint64_t inputs = uint64_t{shape.sparse_count} * config.dim + shape.dense_count;
  uint64_t floats = 0;
  for (const uint32_t outputs : config.hidden) {
    floats += (inputs + 1) * outputs;
    inputs = outputs;
  }
  return floats + inputs;
}

}  // namespace

base::Result<std::unique_ptr<Model>> CreateModel(const std::string& name,
                                                 const std::map<std::string, std::string>& config,
                                                 InputShape shape) {
  auto parsed = ParseModelConfig(name, config);
  if (!parsed) return tl::unexpected(parsed.error());
  if (shape.dense_count == 0 && shape.sparse_count == 0) {
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      "the schema has neither dense nor sparse columns: nothing to learn from");
  }
  if (name == "lr") return MakeLr(*parsed, shape);
  if (name == "fm") return MakeFm(*parsed, shape);
  const uint64_t floats = MlpFloats(*parsed, shape) + shape.dense_count + 1;
  if (floats > kMaxDenseFloats) {
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      fmt::format("model-config: dim and hidden give {} dense weights; at most {}",
                                  floats, kMaxDenseFloats));
  }
  if (name == "wide_deep") return MakeWideDeep(*parsed, shape);
  return MakeDeepFm(*parsed, shape);
}

}  // namespace freshet::worker
