// SPDX-License-Identifier: Apache-2.0
#include "worker/model/key_dedup.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace freshet::worker {
namespace {

constexpr size_t kMinSlots = 64;
constexpr size_t kMaxKeys = size_t{1} << 30;
// Far enough ahead that a slot arrives from the second or third cache level in time.
constexpr size_t kPrefetchKeys = 16;

// The high bits choose the slot. Keys are hashes already, but small integers spread as well.
inline size_t SlotOf(protocol::Key key, uint32_t shift) {
  return static_cast<size_t>(((key ^ (key >> 32)) * 0x9E3779B97F4A7C15ull) >> shift);
}

}  // namespace

void KeyDedup::Prepare(size_t keys) {
  CHECK(keys <= kMaxKeys);
  const size_t wanted = std::max(kMinSlots, std::bit_ceil(2 * keys));
  if (slots_.size() < wanted) {
    slots_.assign(wanted, Slot{});
    shift_ = 64 - static_cast<uint32_t>(std::countr_zero(wanted));
    generation_ = 0;
  }
  if (++generation_ == 0) {  // The counter went round: old stamps would look new.
    std::fill(slots_.begin(), slots_.end(), Slot{});
    generation_ = 1;
  }
  if (indices_.size() < keys) {
    indices_.resize(keys);
    distinct_.resize(keys);
  }
}

void KeyDedup::Assign(std::span<const protocol::Key> keys) {
  Prepare(keys.size());
  const size_t count = keys.size();
  const size_t mask = slots_.size() - 1;
  const uint32_t generation = generation_;
  const uint32_t shift = shift_;
  Slot* const slots = slots_.data();
  protocol::Key* const distinct = distinct_.data();
  uint32_t* const indices = indices_.data();
  uint32_t distinct_count = 0;
  for (size_t i = 0; i < count; ++i) {
    if (i + kPrefetchKeys < count) {
      __builtin_prefetch(&slots[SlotOf(keys[i + kPrefetchKeys], shift)], 1);
    }
    const protocol::Key key = keys[i];
    size_t at = SlotOf(key, shift);
    while (slots[at].generation == generation && slots[at].key != key) at = (at + 1) & mask;
    Slot& slot = slots[at];
    if (slot.generation != generation) {
      slot = {key, generation, distinct_count};
      distinct[distinct_count++] = key;
    }
    indices[i] = slot.index;
  }
  key_count_ = count;
  distinct_count_ = distinct_count;
}

}  // namespace freshet::worker
