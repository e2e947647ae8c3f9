// SPDX-License-Identifier: Apache-2.0
#include "ps/memory_toucher.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <utility>
#include <vector>

namespace freshet::ps {
namespace {

constexpr size_t kMiB = 1 << 20;

// Work is done when the test says so.
class Later final : public base::Executor {
 public:
  void Run(std::function<void()> work, std::function<void()> done) override {
    queue_.emplace_back(std::move(work), std::move(done));
  }
  bool RunOne() {
    if (queue_.empty()) return false;
    const auto [work, done] = std::move(queue_.front());
    queue_.pop_front();
    work();
    done();
    return true;
  }
  size_t queued() const { return queue_.size(); }

 private:
  std::deque<std::pair<std::function<void()>, std::function<void()>>> queue_;
};

// Linux since 5.14. Before that, memory comes with the first row that needs it: then all the rest holds.
bool SystemCanPopulate() {
#ifdef MADV_POPULATE_WRITE
  const auto page = static_cast<size_t>(getpagesize());
  void* memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  const bool can = madvise(memory, page, MADV_POPULATE_WRITE) == 0;
  munmap(memory, page);
  return can;
#else
  return false;
#endif
}

size_t ResidentBytes(const RowArena& arena, size_t bytes) {
  const auto page = static_cast<size_t>(getpagesize());
  std::vector<unsigned char> pages(bytes / page);
  EXPECT_EQ(mincore(arena.base(), bytes, pages.data()), 0);
  size_t resident = 0;
  for (const unsigned char flags : pages) resident += (flags & 1) != 0 ? page : 0;
  return resident;
}

void ExpectReady(const RowArena& arena, size_t bytes) {
  EXPECT_GE(ResidentBytes(arena, bytes), SystemCanPopulate() ? bytes : 0);
}

TEST(MemoryToucher, PutsMemoryBehindBlocksBeforeTheirRowsCome) {
  Later executor;
  RowArena arena({.limit_bytes = 256 * kMiB});
  const MemoryToucher toucher(arena, &executor);
  std::byte* block = arena.Allocate(32 * kMiB);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(executor.queued(), 1u);
  while (executor.RunOne()) EXPECT_LE(executor.queued(), 1u);
  // The block lies behind the first 32 MiB; a quarter of what is in use is ready beyond it.
  ExpectReady(arena, 72 * kMiB);
  std::memset(block, 1, 32 * kMiB);
  EXPECT_LE(ResidentBytes(arena, 256 * kMiB), 80 * kMiB);
}

TEST(MemoryToucher, GoesOnWhenMoreIsTaken) {
  Later executor;
  RowArena arena({.limit_bytes = 256 * kMiB});
  const MemoryToucher toucher(arena, &executor);
  ASSERT_NE(arena.Allocate(16 * kMiB), nullptr);
  while (executor.RunOne()) {
  }
  ASSERT_NE(arena.Allocate(64 * kMiB), nullptr);
  EXPECT_EQ(executor.queued(), 1u);
  while (executor.RunOne()) {
  }
  ExpectReady(arena, 128 * kMiB);
}

TEST(MemoryToucher, LeavesASmallServerSmall) {
  Later executor;
  RowArena arena;
  const MemoryToucher toucher(arena, &executor);
  ASSERT_NE(arena.Allocate(256 << 10), nullptr);
  EXPECT_EQ(executor.queued(), 0u);
}

TEST(MemoryToucher, WithoutAnExecutorNothingIsTouched) {
  RowArena arena;
  const MemoryToucher toucher(arena, nullptr);
  EXPECT_NE(arena.Allocate(32 * kMiB), nullptr);
}

}  // namespace
}  // namespace freshet::ps
