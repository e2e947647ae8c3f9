// SPDX-License-Identifier: Apache-2.0
#include "protocol/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace freshet::protocol {
namespace {

constexpr size_t kKiB = 1024;

TEST(BufferPool, GivesTheMemoryOfAReleasedBufferToTheNextOfItsSize) {
  BufferPool pool;
  Buffer first = pool.Allocate(200 * kKiB);
  const std::byte* memory = first.data();
  EXPECT_EQ(first.size(), 200 * kKiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u);
  const Buffer shared = first;
  first = {};
  // Still in use by the other one.
  EXPECT_NE(pool.Allocate(200 * kKiB).data(), memory);
  EXPECT_EQ(pool.kept_bytes(), 256 * kKiB);
}

TEST(BufferPool, BuffersInUseNeverShareMemory) {
  BufferPool pool;
  std::vector<Buffer> buffers;
  for (size_t size :
       {4 * kKiB, 5 * kKiB, 8 * kKiB, 8 * kKiB + 1, 300 * kKiB, size_t{0}, size_t{7}}) {
    for (int round = 0; round < 2; ++round) {
      buffers.push_back(pool.Allocate(size));
      ASSERT_EQ(buffers.back().size(), size);
      std::memset(buffers.back().mutable_data(), static_cast<int>(buffers.size()), size);
    }
    buffers.erase(buffers.end() - 1);  // its memory goes to the next of its size
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    for (const std::byte byte : buffers[i].bytes()) ASSERT_EQ(byte, buffers[i].bytes()[0]);
  }
}

TEST(BufferPool, KeepsNoMoreThanItsBound) {
  BufferPool pool({.max_kept_bytes = 64 * kKiB});
  std::vector<Buffer> buffers;
  for (int i = 0; i < 10; ++i) buffers.push_back(pool.Allocate(16 * kKiB));
  buffers.clear();
  EXPECT_EQ(pool.kept_bytes(), 64 * kKiB);
  const Buffer large = pool.Allocate(1024 * kKiB);
  EXPECT_EQ(pool.kept_bytes(), 64 * kKiB);
}

TEST(BufferPool, BuffersAreReleasedOnAnyThreadAndAfterThePoolHasGone) {
  std::vector<Buffer> late;
  {
    BufferPool pool;
    for (int round = 0; round < 200; ++round) {
      std::vector<Buffer> buffers;
      for (int i = 0; i < 8; ++i) {
        buffers.push_back(pool.Allocate(32 * kKiB));
        std::memset(buffers.back().mutable_data(), i, buffers.back().size());
      }
      std::thread([mine = std::move(buffers)]() mutable { mine.clear(); }).join();
    }
    EXPECT_EQ(pool.kept_bytes(), 8 * 32 * kKiB);
    late.push_back(pool.Allocate(32 * kKiB));
  }
  std::memset(late.front().mutable_data(), 1, late.front().size());
}

}  // namespace
}  // namespace freshet::protocol
