// SPDX-License-Identifier: Apache-2.0
// Deterministic chance: the same seed gives the same numbers on every machine. Not for secrets.
#pragma once

#include <cstdint>

namespace freshet::base {

// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
// Also a good mixer of a 64-bit value: every input bit reaches every output bit.
constexpr uint64_t Mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// SplitMix64 as a generator. Not thread safe; cheap to copy.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    const uint64_t out = Mix64(state_);
    state_ += 0x9E3779B97F4A7C15ull;
    return out;
  }
  // Uniform in [0, bound); bound > 0. The bias (< bound / 2^64) does not matter here.
  uint64_t Below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * bound) >> 64);
  }
  // Uniform in [0, 1).
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  // True with probability p.
  bool Chance(double p) { return Uniform() < p; }

 private:
  uint64_t state_;
};

}  // namespace freshet::base
