// SPDX-License-Identifier: Apache-2.0
#include "ps/row_init.h"

#include <algorithm>
#include <cstring>

#include "base/random.h"

namespace freshet::ps {
namespace {

using base::Mix64;
using protocol::InitKind;
using protocol::InitSpec;

constexpr uint64_t kCounterStep = 0xD1342543DE82EF95ull;

// The i-th 64 random bits of a row.
inline uint64_t Bits(uint64_t row_seed, uint64_t i) { return Mix64(row_seed + i * kCounterStep); }

// Integers become floats exactly and are scaled by one multiplication, so no compiler option and no
// vector width can change a bit of the result.
void FillUniform(uint64_t row_seed, uint32_t begin, uint32_t end, float scale, float* weights) {
  constexpr float kStep = 0x1.0p-23f;
  const float step = scale * kStep;
  for (uint32_t j = begin; j < end; ++j) {
    const uint64_t bits = Bits(row_seed, j / 2) >> (j % 2 * 32);
    const int32_t value = static_cast<int32_t>(bits & 0xFFFFFF) - (1 << 23);
    weights[j] = static_cast<float>(value) * step;
  }
}

uint32_t SumOf16BitLanes(uint64_t bits) {
  return static_cast<uint32_t>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) +
                               (bits >> 48));
}

// The sum of eight uniform numbers: near enough to a normal one (no value beyond 4.9 deviations).
void FillNormal(uint64_t row_seed, uint32_t begin, uint32_t end, float scale, float* weights) {
  // Half of 1 / sqrt(8 (2^32 - 1) / 12), the deviation of the sum.
  constexpr float kStep = 9.3441e-06f;
  const float step = scale * kStep;
  for (uint32_t j = begin; j < end; ++j) {
    const uint32_t sum = SumOf16BitLanes(Bits(row_seed, 2 * uint64_t{j})) +
                         SumOf16BitLanes(Bits(row_seed, 2 * uint64_t{j} + 1));
    const int32_t value = 2 * static_cast<int32_t>(sum) - 8 * 0xFFFF;
    weights[j] = static_cast<float>(value) * step;
  }
}

// FNV-1a; only a name's identity matters.
uint64_t HashName(const std::string& name) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ull;
  return hash;
}

}  // namespace

RowInit::RowInit(const protocol::TableSchema& schema, uint64_t seed)
    : table_seed_(Mix64(Mix64(seed) ^ HashName(schema.name))),
      row_step_(schema.kind == protocol::TableKind::kDense ? schema.dim : 0),
      dim_(schema.dim) {
  for (const InitSpec& spec : schema.init) {
    if (spec.kind != InitKind::kZero && spec.scale > 0) specs_.push_back(spec);
  }
  std::sort(specs_.begin(), specs_.end(),
            [](const InitSpec& a, const InitSpec& b) { return a.begin_float < b.begin_float; });
}

void RowInit::Fill(protocol::Key key, float* weights) const {
  std::memset(weights, 0, dim_ * sizeof(float));
  if (specs_.empty()) return;
  const uint64_t row_seed = Mix64(table_seed_ ^ Mix64(key));
  const uint64_t first = key * row_step_;
  // Of the sorted, disjoint entries the first that ends behind the row's beginning.
  auto spec = std::upper_bound(specs_.begin(), specs_.end(), first,
                               [](uint64_t at, const InitSpec& s) { return at < s.end_float; });
  for (; spec != specs_.end() && spec->begin_float < first + dim_; ++spec) {
    const auto begin = static_cast<uint32_t>(std::max(spec->begin_float, first) - first);
    const auto end = static_cast<uint32_t>(std::min(spec->end_float, first + dim_) - first);
    if (spec->kind == InitKind::kUniform) {
      FillUniform(row_seed, begin, end, spec->scale, weights);
    } else {
      FillNormal(row_seed, begin, end, spec->scale, weights);
    }
  }
}

}  // namespace freshet::ps
