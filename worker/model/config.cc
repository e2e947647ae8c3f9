// SPDX-License-Identifier: Apache-2.0
#include "worker/model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

namespace freshet::worker {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::OptimizerKind;
using protocol::OptimizerSpec;

constexpr uint32_t kMaxLayers = 16;
constexpr uint32_t kMaxWidth = 8192;
// About the squared gradient of one record in a batch of 512, so that the first occurrence of a key
// does not move it by the whole learning rate. The usual 0.1, or an FTRL beta of 1, would all but
// stop the learning: gradients of a mean over a batch are small.
constexpr float kInitialAccumulator = 1e-6f;
constexpr float kFtrlBeta = 1e-3f;
// A layer shares its weights among all records and has to go slower than the rows of single keys;
// the more so the deeper the model.
constexpr float kDenseAdagradShare = 0.5f;
constexpr float kDeepAdagradShare = 0.2f;
// One embedding component of a new key. Large enough that the products of the factorization have a
// gradient at first sight, small enough not to disturb the ranking of old keys.
constexpr float kInitScale = 0.01f;

using Config = std::map<std::string, std::string>;

const std::map<std::string, std::vector<std::string>>& KeysByModel() {
  static const std::map<std::string, std::vector<std::string>> keys = [] {
    const std::vector<std::string> all = {
        "dense_learning_rate", "initial_accumulator", "l1", "l2", "learning_rate", "optimizer"};
    auto with = [&](const std::vector<std::string>& more) {
      std::vector<std::string> out = all;
      out.insert(out.end(), more.begin(), more.end());
      std::sort(out.begin(), out.end());
      return out;
    };
    return std::map<std::string, std::vector<std::string>>{
        {"lr", all},
        {"fm", with({"dim", "init_scale"})},
        {"wide_deep",
         with({"dim", "hidden", "init_scale", "wide_learning_rate", "wide_optimizer"})},
        {"deepfm", with({"dim", "hidden", "init_scale"})}};
  }();
  return keys;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

template <class Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct FloatRange {
  float fallback;
  float least;
  float most;
};

Result<float> ReadFloat(const Config& config, const std::string& key, FloatRange range) {
  const auto found = config.find(key);
  if (found == config.end()) return range.fallback;
  const auto value = ParseNumber<float>(found->second);
  if (!value || !(*value >= range.least && *value <= range.most)) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("model-config: {}={} is not a number from {} to {}", key, found->second,
                            range.least, range.most));
  }
  return *value;
}

Result<uint32_t> ReadDim(const Config& config) {
  const auto found = config.find("dim");
  if (found == config.end()) return 16u;
  const auto value = ParseNumber<uint32_t>(found->second);
  // One float beside the vector holds the first-order weight.
  if (!value || *value < 1 || *value > protocol::kMaxDim - 1) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("model-config: dim={} is not an integer from 1 to {}", found->second,
                            protocol::kMaxDim - 1));
  }
  return *value;
}

Result<std::vector<uint32_t>> ReadHidden(const Config& config) {
  const auto found = config.find("hidden");
  if (found == config.end()) return std::vector<uint32_t>{64, 32};
  std::vector<uint32_t> widths;
  std::string_view rest = found->second;
  while (true) {
    const size_t cut = rest.find('-');
    const auto width = ParseNumber<uint32_t>(rest.substr(0, cut));
    if (!width || *width < 1 || *width > kMaxWidth || widths.size() == kMaxLayers) {
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("model-config: hidden={} is not one to {} widths from 1 to {} joined "
                              "by '-' (for example 64-32)",
                              found->second, kMaxLayers, kMaxWidth));
    }
    widths.push_back(*width);
    if (cut == std::string_view::npos) return widths;
    rest.remove_prefix(cut + 1);
  }
}

Result<OptimizerKind> ReadOptimizer(const Config& config, const std::string& key,
                                    OptimizerKind fallback) {
  const auto found = config.find(key);
  if (found == config.end()) return fallback;
  auto kind = protocol::ParseOptimizer(found->second);
  if (!kind) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("model-config: {}: {}", key, kind.error().message));
  }
  if (*kind == OptimizerKind::kSum) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("model-config: {}=sum counts and does not learn; take adagrad", key));
  }
  return *kind;
}

OptimizerSpec DefaultSpec(OptimizerKind kind) {
  OptimizerSpec spec;
  spec.kind = kind;
  spec.initial_accumulator = kInitialAccumulator;
  spec.ftrl_beta = kFtrlBeta;
  if (kind == OptimizerKind::kAdam || kind == OptimizerKind::kRmsprop) {
    spec.learning_rate = 0.001f;
    spec.epsilon = 1e-8f;
  }
  return spec;
}

// What all tables share; the learning rates follow.
struct Shared {
  float l1 = 0;
  float l2 = 0;
  float initial_accumulator = 0;
};

Result<Shared> ReadShared(const Config& config) {
  constexpr float kMost = 1e6f;
  const auto l1 = ReadFloat(config, "l1", {0, 0, kMost});
  if (!l1) return tl::unexpected(l1.error());
  const auto l2 = ReadFloat(config, "l2", {0, 0, kMost});
  if (!l2) return tl::unexpected(l2.error());
  const auto accumulator =
      ReadFloat(config, "initial_accumulator", {kInitialAccumulator, 0, kMost});
  if (!accumulator) return tl::unexpected(accumulator.error());
  return Shared{*l1, *l2, *accumulator};
}

Result<OptimizerSpec> ReadSpec(const Config& config, OptimizerKind kind,
                               const std::string& rate_key, const Shared& shared) {
  constexpr float kLeastRate = 1e-9f;
  constexpr float kMostRate = 1e3f;
  OptimizerSpec spec = DefaultSpec(kind);
  const auto rate = ReadFloat(config, rate_key, {spec.learning_rate, kLeastRate, kMostRate});
  if (!rate) return tl::unexpected(rate.error());
  spec.learning_rate = *rate;
  spec.l1 = shared.l1;
  spec.l2 = shared.l2;
  spec.initial_accumulator = shared.initial_accumulator;
  return spec;
}

// `dense_share`: the dense table's learning rate by default, as a part of the sparse tables'.
Result<> ReadOptimizers(const Config& config, float dense_share, ModelConfig& out) {
  const auto shared = ReadShared(config);
  if (!shared) return tl::unexpected(shared.error());
  const auto kind = ReadOptimizer(config, "optimizer", OptimizerKind::kAdagrad);
  if (!kind) return tl::unexpected(kind.error());
  const auto sparse = ReadSpec(config, *kind, "learning_rate", *shared);
  if (!sparse) return tl::unexpected(sparse.error());
  out.sparse = *sparse;
  const bool own_rate = config.contains("dense_learning_rate");
  const auto dense =
      ReadSpec(config, *kind, own_rate ? "dense_learning_rate" : "learning_rate", *shared);
  if (!dense) return tl::unexpected(dense.error());
  out.dense = *dense;
  if (!own_rate && *kind == OptimizerKind::kAdagrad) out.dense.learning_rate *= dense_share;
  const auto wide_kind = ReadOptimizer(config, "wide_optimizer", OptimizerKind::kFtrl);
  if (!wide_kind) return tl::unexpected(wide_kind.error());
  const auto wide = ReadSpec(config, *wide_kind, "wide_learning_rate", *shared);
  if (!wide) return tl::unexpected(wide.error());
  out.wide = *wide;
  return {};
}

}  // namespace

const std::vector<std::string>& KnownModels() {
  static const std::vector<std::string> names = {"lr", "fm", "wide_deep", "deepfm"};
  return names;
}

Result<ModelConfig> ParseModelConfig(const std::string& model, const Config& config) {
  const auto keys = KeysByModel().find(model);
  if (keys == KeysByModel().end()) {
    return Fail(ErrorCode::kNotFound,
                fmt::format("unknown model '{}'; known: {}", model, Joined(KnownModels())));
  }
  for (const auto& [key, value] : config) {
    if (!std::binary_search(keys->second.begin(), keys->second.end(), key)) {
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("model-config: unknown key '{}' for model {}; known: {}", key, model,
                              Joined(keys->second)));
    }
  }
  ModelConfig out;
  const auto dim = ReadDim(config);
  if (!dim) return tl::unexpected(dim.error());
  out.dim = *dim;
  auto hidden = ReadHidden(config);
  if (!hidden) return tl::unexpected(hidden.error());
  out.hidden = std::move(*hidden);
  const auto init_scale = ReadFloat(config, "init_scale", {kInitScale, 0, 10});
  if (!init_scale) return tl::unexpected(init_scale.error());
  out.init_scale = *init_scale;
  const bool deep = model == "wide_deep" || model == "deepfm";
  const auto optimizers =
      ReadOptimizers(config, deep ? kDeepAdagradShare : kDenseAdagradShare, out);
  if (!optimizers) return tl::unexpected(optimizers.error());
  return out;
}

}  // namespace freshet::worker
