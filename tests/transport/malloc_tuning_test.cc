// SPDX-License-Identifier: Apache-2.0
#include "transport/malloc_tuning.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdlib>

namespace freshet::transport {
namespace {

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

TEST(MallocTuning, BlocksOfTheSizeOfFramesComeFromTheHeap) {
  TuneMallocForFrames();
  const auto mapped_before = mallinfo2().hblks;
  void* block = std::malloc(4 << 20);
  EXPECT_EQ(mallinfo2().hblks, mapped_before);
  std::free(block);
}

#endif

}  // namespace
}  // namespace freshet::transport
