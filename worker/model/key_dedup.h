// SPDX-License-Identifier: Apache-2.0
// KeyDedup: the distinct keys of a batch, in the order of their first occurrence, and for each
// occurrence the index of its key. Keeps its memory between batches: no allocation once the largest
// batch was seen. Used by one thread; the spans it gives are valid until the next Assign.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "protocol/ids.h"

namespace freshet::worker {

class KeyDedup {
 public:
  // Replaces the result of the call before. At most 2^30 keys.
  void Assign(std::span<const protocol::Key> keys);

  std::span<const protocol::Key> distinct() const { return {distinct_.data(), distinct_count_}; }
  // One per key given to Assign, in its order.
  std::span<const uint32_t> indices() const { return {indices_.data(), key_count_}; }

 private:
  // A slot belongs to the current batch only if it carries the current generation, so that nothing
  // has to be cleared between batches.
  struct Slot {
    protocol::Key key = 0;
    uint32_t generation = 0;
    uint32_t index = 0;
  };

  void Prepare(size_t keys);

  std::vector<Slot> slots_;  // a power of two, at least twice the keys
  uint32_t shift_ = 63;      // 64 - log2(slots)
  uint32_t generation_ = 0;
  size_t distinct_count_ = 0;
  size_t key_count_ = 0;
  std::vector<protocol::Key> distinct_;
  std::vector<uint32_t> indices_;
};

}  // namespace freshet::worker
