// SPDX-License-Identifier: Apache-2.0
#include "ps/row_arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "base/random.h"

namespace freshet::ps {
namespace {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;

TEST(RowArena, BlocksAreAlignedToTheirSizeAndNeverTheBase) {
  RowArena arena({.limit_bytes = 64 * kMiB});
  for (size_t bytes = kKiB; bytes <= 2 * kMiB; bytes *= 2) {
    std::byte* block = arena.Allocate(bytes);
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % bytes, 0u);
    EXPECT_NE(block, arena.base());
    std::memset(block, 0xAB, bytes);
  }
}

TEST(RowArena, CountsAndStopsExactlyAtItsLimit) {
  RowArena arena({.limit_bytes = 16 * kMiB});
  std::vector<std::byte*> blocks;
  while (std::byte* block = arena.Allocate(kMiB)) blocks.push_back(block);
  EXPECT_EQ(blocks.size(), 16u);
  EXPECT_EQ(arena.used_bytes(), 16 * kMiB);
  EXPECT_EQ(arena.Allocate(kKiB), nullptr);
  arena.Free(blocks.back(), kMiB);
  EXPECT_EQ(arena.used_bytes(), 15 * kMiB);
  EXPECT_NE(arena.Allocate(kKiB), nullptr);
}

TEST(RowArena, FreedNeighboursBecomeLargeBlocksAgain) {
  RowArena arena({.limit_bytes = 16 * kMiB});
  std::vector<std::byte*> small;
  for (size_t i = 0; i < 16 * kKiB; ++i) small.push_back(arena.Allocate(kKiB));
  EXPECT_EQ(arena.Allocate(kKiB), nullptr);
  for (std::byte* block : small) arena.Free(block, kKiB);
  EXPECT_EQ(arena.used_bytes(), 0u);
  EXPECT_NE(arena.Allocate(16 * kMiB), nullptr);
}

TEST(RowArena, LiveBlocksNeverOverlap) {
  RowArena arena({.limit_bytes = 32 * kMiB});
  base::Random random(3);
  std::map<std::byte*, size_t> live;
  for (int round = 0; round < 20'000; ++round) {
    if (live.empty() || random.Chance(0.55)) {
      const size_t bytes = kKiB << random.Below(9);
      std::byte* block = arena.Allocate(bytes);
      if (block == nullptr) continue;
      const auto [at, fresh] = live.emplace(block, bytes);
      ASSERT_TRUE(fresh);
      const auto after = std::next(at);
      ASSERT_TRUE(after == live.end() || block + bytes <= after->first);
      ASSERT_TRUE(at == live.begin() || std::prev(at)->first + std::prev(at)->second <= block);
    } else {
      auto at = std::next(live.begin(), static_cast<ptrdiff_t>(random.Below(live.size())));
      arena.Free(at->first, at->second);
      live.erase(at);
    }
  }
}

TEST(RowArena, TouchesAheadInBoundedStepsAndThenStops) {
  RowArena arena({.limit_bytes = 64 * kMiB});
  ASSERT_NE(arena.Allocate(4 * kMiB), nullptr);
  size_t touched = 0;
  for (;;) {
    const auto stretch = arena.NextToTouch(2 * kMiB, 8 * kMiB);
    if (stretch.bytes == 0) break;
    EXPECT_LE(stretch.bytes, 2 * kMiB);
    touched += stretch.bytes;
  }
  EXPECT_GE(touched, 8 * kMiB);
  EXPECT_LE(touched, 32 * kMiB);
}

TEST(RowArena, TouchingKeepsWhatIsThere) {
  RowArena arena({.limit_bytes = 16 * kMiB});
  std::byte* block = arena.Allocate(kMiB);
  std::memset(block, 0x5A, kMiB);
  for (;;) {
    const auto stretch = arena.NextToTouch(4 * kMiB, 64 * kMiB);
    if (stretch.bytes == 0) break;
    RowArena::Touch(stretch);
  }
  for (size_t i = 0; i < kMiB; i += 999) ASSERT_EQ(block[i], std::byte{0x5A});
}

TEST(RowArena, WhatIsReadBackMayExceedTheLimit) {
  RowArena arena({.limit_bytes = 16 * kMiB});
  ASSERT_NE(arena.Allocate(16 * kMiB), nullptr);
  EXPECT_EQ(arena.Allocate(kMiB), nullptr);
  std::byte* more = nullptr;
  {
    const RowArena::NoLimit no_limit(arena);
    more = arena.Allocate(kMiB);
  }
  ASSERT_NE(more, nullptr);
  EXPECT_EQ(arena.Allocate(kMiB), nullptr);
  EXPECT_EQ(arena.used_bytes(), 17 * kMiB);
  arena.Free(more, kMiB);
  EXPECT_EQ(arena.Allocate(kMiB), nullptr);
}

}  // namespace
}  // namespace freshet::ps
