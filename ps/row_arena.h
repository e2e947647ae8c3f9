// SPDX-License-Identifier: Apache-2.0
// RowArena: the memory of all rows and indexes of one PS, in huge pages. It reserves one range of
// addresses, so that a row is named by 32 bits (its distance from the base in 16-byte steps), and hands
// out blocks of a power of two, aligned to their size (buddy allocator). Belongs to the PS loop. At its
// limit Allocate says no; it never aborts for want of memory. Touch is for any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>

namespace freshet::ps {

struct RowArenaOptions {
  // Bytes that may be in use at once; at most 64 GiB, the reach of a handle.
  uint64_t limit_bytes = uint64_t{64} << 30;
};

// 0 names no row.
using RowHandle = uint32_t;

class RowArena {
 public:
  static constexpr size_t kMinBlockBytes = 1024;
  static constexpr size_t kHandleStep = 16;

  // If the system refuses to reserve the range, a smaller one is taken and the limit with it.
  explicit RowArena(RowArenaOptions options = {});
  ~RowArena();
  RowArena(const RowArena&) = delete;
  RowArena& operator=(const RowArena&) = delete;

  // `bytes`: a power of two >= kMinBlockBytes. The bytes are not cleared. nullptr at the limit.
  std::byte* Allocate(size_t bytes);
  void Free(std::byte* block, size_t bytes);

  // While there is one, the limit is that of the range, about twice as much: what was within the limit
  // once can be read back, however its indexes grow meanwhile.
  class NoLimit {
   public:
    explicit NoLimit(RowArena& arena) : arena_(arena) { arena_.lifted_ = true; }
    ~NoLimit() { arena_.lifted_ = false; }
    NoLimit(const NoLimit&) = delete;
    NoLimit& operator=(const NoLimit&) = delete;

   private:
    RowArena& arena_;
  };

  // First touch of fresh memory is slow, so some is to be prepared before it is needed: the next stretch,
  // at most `step_bytes`, of what is not prepared yet up to `ahead_bytes` behind the highest block.
  struct Stretch {
    std::byte* begin = nullptr;
    size_t bytes = 0;  // 0 = enough is ready
  };
  Stretch NextToTouch(size_t step_bytes, uint64_t ahead_bytes);
  // Has memory put behind it and leaves the content alone, so rows that lie there already are safe.
  static void Touch(const Stretch& stretch);
  // Called when a block reaches further than all before.
  std::function<void()> on_growth;

  std::byte* base() const { return base_; }
  uint64_t used_bytes() const { return used_bytes_; }
  uint64_t limit_bytes() const { return options_.limit_bytes; }

 private:
  static constexpr int kClasses = 27;  // 1 KiB << 0 .. 26 = 64 GiB

  RowArenaOptions options_;
  std::byte* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  std::byte* base_ = nullptr;
  uint64_t range_bytes_ = 0;
  uint64_t used_bytes_ = 0;
  bool lifted_ = false;
  uint64_t high_water_ = 0;  // no block ever reached beyond
  uint64_t touched_ = 0;     // everything below is backed by memory
  // Offsets of free blocks by size class; the lowest is taken first, so that use stays dense.
  std::array<std::set<uint64_t>, kClasses> free_;
};

}  // namespace freshet::ps
