// SPDX-License-Identifier: Apache-2.0
#include "ps/row_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace freshet::ps {
namespace {

constexpr uint64_t kReachBytes = (uint64_t{1} << 32) * RowArena::kHandleStep;
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
// The first rows live in small pages: a PS with a handful of rows need not clear megabytes.
constexpr uint64_t kSmallPagesBytes = uint64_t{4} << 20;
constexpr uint64_t kMinRangeBytes = uint64_t{16} << 20;

int ClassOf(size_t bytes) {
  CHECK(std::has_single_bit(bytes) && bytes >= RowArena::kMinBlockBytes);
  return std::countr_zero(bytes) - std::countr_zero(RowArena::kMinBlockBytes);
}

}  // namespace

RowArena::RowArena(RowArenaOptions options) : options_(options) {
  options_.limit_bytes = std::min(options_.limit_bytes, kReachBytes);
  // Twice the limit, so that alignment and fragments do not cost what the limit allows.
  range_bytes_ = std::clamp(std::bit_ceil(2 * options_.limit_bytes), kMinRangeBytes, kReachBytes);
  void* memory = MAP_FAILED;
  for (; range_bytes_ >= kMinRangeBytes; range_bytes_ /= 2) {
    mapping_bytes_ = range_bytes_ + kHugePageBytes;
    memory = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) break;
  }
  if (memory == MAP_FAILED) {
    mapping_bytes_ = range_bytes_ = options_.limit_bytes = 0;
    return;
  }
  options_.limit_bytes = std::min(options_.limit_bytes, range_bytes_);
  mapping_ = static_cast<std::byte*>(memory);
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  base_ = mapping_ + (kHugePageBytes - address % kHugePageBytes) % kHugePageBytes;
  // Advice only: without huge pages everything works, slower.
  (void)madvise(base_ + kSmallPagesBytes, range_bytes_ - kSmallPagesBytes, MADV_HUGEPAGE);
  // The first block is never handed out, so that handle 0 names no row.
  for (uint64_t offset = kMinBlockBytes; offset < range_bytes_; offset *= 2) {
    free_[static_cast<size_t>(ClassOf(offset))].insert(offset);
  }
}

RowArena::~RowArena() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

std::byte* RowArena::Allocate(size_t bytes) {
  const int wanted = ClassOf(bytes);
  if (used_bytes_ + bytes > (lifted_ ? range_bytes_ : options_.limit_bytes)) return nullptr;
  int best = -1;
  for (int c = wanted; c < kClasses; ++c) {
    const auto& blocks = free_[static_cast<size_t>(c)];
    if (blocks.empty()) continue;
    if (best < 0 || *blocks.begin() < *free_[static_cast<size_t>(best)].begin()) best = c;
    // A block of the right size below the high-water mark splits nothing and touches nothing new.
    if (c == wanted && *blocks.begin() < high_water_) break;
  }
  if (best < 0) return nullptr;
  auto& from = free_[static_cast<size_t>(best)];
  const uint64_t offset = *from.begin();
  from.erase(from.begin());
  for (int c = best - 1; c >= wanted; --c) {
    free_[static_cast<size_t>(c)].insert(offset + (kMinBlockBytes << c));
  }
  used_bytes_ += bytes;
  if (offset + bytes > high_water_) {
    high_water_ = offset + bytes;
    if (on_growth) on_growth();
  }
  return base_ + offset;
}

void RowArena::Free(std::byte* block, size_t bytes) {
  used_bytes_ -= bytes;
  auto offset = static_cast<uint64_t>(block - base_);
  int c = ClassOf(bytes);
  for (; c + 1 < kClasses; ++c) {
    auto& peers = free_[static_cast<size_t>(c)];
    const auto buddy = peers.find(offset ^ (kMinBlockBytes << c));
    if (buddy == peers.end()) break;
    offset = std::min(offset, *buddy);
    peers.erase(buddy);
  }
  free_[static_cast<size_t>(c)].insert(offset);
}

RowArena::Stretch RowArena::NextToTouch(size_t step_bytes, uint64_t ahead_bytes) {
  if (base_ == nullptr) return {};
  const uint64_t left = options_.limit_bytes - std::min(options_.limit_bytes, used_bytes_);
  const uint64_t end = high_water_ + std::min(ahead_bytes, left);
  const uint64_t target = std::min(range_bytes_, end) / kHugePageBytes * kHugePageBytes;
  if (touched_ >= target) return {};
  const size_t step = std::min<uint64_t>(
      std::max<uint64_t>(step_bytes, kHugePageBytes) / kHugePageBytes * kHugePageBytes,
      target - touched_);
  const Stretch stretch{base_ + touched_, step};
  touched_ += step;
  return stretch;
}

void RowArena::Touch([[maybe_unused]] const Stretch& stretch) {
#ifdef MADV_POPULATE_WRITE
  // Kernels before 5.14 refuse; then the first row of each page waits for it.
  (void)madvise(stretch.begin, stretch.bytes, MADV_POPULATE_WRITE);
#endif
}

}  // namespace freshet::ps
