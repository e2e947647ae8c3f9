// SPDX-License-Identifier: Apache-2.0
#include "stream/planted_model.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"
#include "base/random.h"

namespace freshet::stream {
namespace {

using base::Mix64;
using base::Random;

constexpr uint64_t kDriftStepRecords = 4096;
constexpr double kTwo32 = 4294967296.0;

// About normal(0, 1), from the four 16-bit parts of a mixed number: their sum is bell-shaped.
float NormalOf(uint64_t mixed) {
  const uint64_t sum =
      (mixed & 0xFFFF) + ((mixed >> 16) & 0xFFFF) + ((mixed >> 32) & 0xFFFF) + (mixed >> 48);
  constexpr float kMean = 2.0f * 65535.0f;
  constexpr float kDeviation = 37837.0f;  // 65536 / sqrt(3)
  return (static_cast<float>(sum) - kMean) / kDeviation;
}

}  // namespace

std::vector<PlantedField> DefaultFields() {
  return {{.name = "user", .cardinality = 10000, .weight = 0.25, .head = 20},
          {.name = "item", .cardinality = 4000, .weight = 0.4, .head = 20, .renews = true},
          {.name = "category", .cardinality = 40, .weight = 0.65, .head = 40},
          {.name = "brand", .cardinality = 300, .weight = 0.3, .head = 30},
          {.name = "query", .cardinality = 2000, .weight = 0.25, .head = 20},
          {.name = "campaign", .cardinality = 100, .weight = 0.4, .head = 40, .drifts = true},
          {.name = "site", .cardinality = 200, .weight = 0.45, .head = 40},
          {.name = "city", .cardinality = 100, .weight = 0.3, .head = 40},
          {.name = "device", .cardinality = 8, .weight = 0.5, .head = 8},
          {.name = "position", .cardinality = 6, .weight = 0.75, .head = 6}};
}

std::vector<PlantedPair> DefaultPairs() {
  return {{.first = 2, .second = 8, .weight = 0.1}, {.first = 5, .second = 9, .weight = 0.1}};
}

PlantedModel::PlantedModel(PlantedOptions options) : options_(std::move(options)) {
  for (const PlantedField& planted : options_.fields) {
    CHECK(planted.cardinality > 0 && planted.cardinality <= kMaxCardinality);
    Field field;
    field.cells = ZipfCells(planted.cardinality, options_.zipf_exponent);
    field.seed = Mix64(options_.seed ^ Mix64(fields_.size() + 1));
    field.weight = static_cast<float>(planted.weight);
    field.inverse_head = 1.0f / static_cast<float>(std::max(1u, planted.head));
    field.drifts = planted.drifts && options_.drift_period_records > 0;
    if (planted.renews && options_.new_items_per_million > 0) {
      field.lifetime_records = std::max<uint64_t>(
          1, uint64_t{planted.cardinality} * 1'000'000 / options_.new_items_per_million);
    }
    fields_.push_back(std::move(field));
  }
  for (const PlantedPair& pair : options_.pairs) {
    CHECK(pair.first < fields_.size() && pair.second < fields_.size());
  }
}

std::vector<PlantedModel::Cell> PlantedModel::ZipfCells(uint32_t cardinality, double exponent) {
  std::vector<double> share(cardinality);
  double total = 0;
  for (uint32_t rank = 0; rank < cardinality; ++rank) {
    share[rank] = std::pow(rank + 1.0, -exponent);
    total += share[rank];
  }
  std::vector<uint32_t> poor;
  std::vector<uint32_t> rich;
  for (uint32_t rank = 0; rank < cardinality; ++rank) {
    share[rank] *= cardinality / total;
    (share[rank] < 1 ? poor : rich).push_back(rank);
  }
  std::vector<Cell> cells(cardinality);
  for (uint32_t rank = 0; rank < cardinality; ++rank) cells[rank] = {0xFFFFFFFFu, rank};
  while (!poor.empty() && !rich.empty()) {
    const uint32_t small = poor.back();
    const uint32_t large = rich.back();
    poor.pop_back();
    cells[small] = {static_cast<uint32_t>(share[small] * (kTwo32 - 1)), large};
    share[large] -= 1 - share[small];
    if (share[large] >= 1) continue;
    rich.pop_back();
    poor.push_back(large);
  }
  return cells;
}

uint64_t PlantedModel::GenerationOf(const Field& field, uint32_t rank, uint64_t record) {
  if (field.lifetime_records == 0) return 0;
  // Every rank is replaced once a lifetime, each at a moment of its own.
  const uint64_t phase = Mix64(field.seed ^ rank) % field.lifetime_records;
  return (record + phase) / field.lifetime_records;
}

float PlantedModel::WeightOf(const Field& field, uint32_t rank, uint64_t id,
                             uint64_t record) const {
  const float shrink = 1.0f / std::sqrt(1.0f + static_cast<float>(rank) * field.inverse_head);
  const uint64_t mixed = Mix64(field.seed + id);
  float normal = NormalOf(mixed);
  if (field.drifts) {
    // The angle moves in steps, so that it costs nothing and stays a function of the record.
    const uint64_t step = record / kDriftStepRecords * kDriftStepRecords;
    const double turn = static_cast<double>(step % options_.drift_period_records) /
                        static_cast<double>(options_.drift_period_records);
    const auto angle = static_cast<float>(2 * std::numbers::pi * turn);
    normal = std::cos(angle) * normal + std::sin(angle) * NormalOf(Mix64(mixed));
  }
  return field.weight * shrink * normal;
}

void PlantedModel::Draw(uint64_t record, Click& click) const {
  Random random(Mix64(options_.seed * 0x9E3779B97F4A7C15ull + record));
  click.ids.resize(fields_.size());
  auto logit = static_cast<float>(options_.bias);
  for (size_t i = 0; i < fields_.size(); ++i) {
    const Field& field = fields_[i];
    const uint64_t draw = random.Next();
    auto rank = static_cast<uint32_t>(((draw >> 32) * field.cells.size()) >> 32);
    if (static_cast<uint32_t>(draw) > field.cells[rank].threshold) rank = field.cells[rank].alias;
    const uint64_t id = rank + GenerationOf(field, rank, record) * field.cells.size();
    click.ids[i] = id;
    logit += WeightOf(field, rank, id, record);
  }
  for (size_t i = 0; i < options_.pairs.size(); ++i) {
    const PlantedPair& pair = options_.pairs[i];
    const uint64_t both = Mix64(Mix64(options_.seed + i) ^ click.ids[pair.first]) +
                          click.ids[pair.second] * 0x9E3779B97F4A7C15ull;
    logit += static_cast<float>(pair.weight) * NormalOf(Mix64(both));
  }
  const auto skewed = [&](double power) { return std::pow(random.Uniform(), power); };
  click.price_cents = 50 + static_cast<uint32_t>(skewed(2) * 1950);
  click.age_days = static_cast<uint32_t>(skewed(3) * 60);
  click.quality_thousandths = static_cast<uint32_t>(random.Below(1000));
  logit -= 0.25f * (std::log1p(static_cast<float>(click.price_cents) * 0.01f) - 1.8f);
  logit -= 0.15f * (std::log1p(static_cast<float>(click.age_days)) - 2.0f);
  logit += 0.6f * (static_cast<float>(click.quality_thousandths) * 0.001f - 0.5f);
  click.logit = logit;
  click.clicked = random.Uniform() < 1.0 / (1.0 + std::exp(-static_cast<double>(logit))) ? 1 : 0;
}

}  // namespace freshet::stream
