// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace freshet::worker {

// False if one of them is infinite or no number. One bad gradient would spoil its row, or with a dense row
// the whole model, for good.
inline bool AllFinite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7F800000;
  uint32_t bad = 0;  // no early return: this way the loop is a few vector instructions
  for (const float value : values) {
    bad |= (std::bit_cast<uint32_t>(value) & kExponent) == kExponent ? 1u : 0u;
  }
  return bad == 0;
}

}  // namespace freshet::worker
