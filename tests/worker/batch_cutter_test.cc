// SPDX-License-Identifier: Apache-2.0
#include "worker/batch_cutter.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace freshet::worker {
namespace {

using protocol::Lease;
using protocol::Offset;
using protocol::Span;

std::vector<Span> Batches(const Lease& lease, uint32_t batch_size) {
  std::vector<Span> batches;
  for (Offset at = lease.span.begin; at < lease.span.end; at = batches.back().end) {
    batches.push_back(NextBatch(lease, at, batch_size));
  }
  return batches;
}

Lease LeaseOf(Span span, std::vector<Offset> cuts = {}) {
  return {protocol::LeaseId(1), protocol::LogId(0), span, std::move(cuts)};
}

TEST(BatchCutter, EndsBatchesAtMultiplesOfTheirSize) {
  EXPECT_EQ(Batches(LeaseOf({5, 27}), 10), (std::vector<Span>{{5, 10}, {10, 20}, {20, 27}}));
  EXPECT_EQ(Batches(LeaseOf({10, 20}), 10), (std::vector<Span>{{10, 20}}));
  EXPECT_EQ(Batches(LeaseOf({3, 6}), 1), (std::vector<Span>{{3, 4}, {4, 5}, {5, 6}}));
}

TEST(BatchCutter, NoBatchCrossesACut) {
  EXPECT_EQ(Batches(LeaseOf({0, 20}, {3, 4, 15}), 10),
            (std::vector<Span>{{0, 3}, {3, 4}, {4, 10}, {10, 15}, {15, 20}}));
}

// Rule G16: wherever a lease begins, its batches end where those of another lease of the log end, so that
// what two workers push of the same offsets is equal or contained, once the first batch is over.
TEST(BatchCutter, WhereBatchesEndDoesNotDependOnTheLease) {
  base::Random random(5);
  for (int round = 0; round < 300; ++round) {
    const auto batch_size = static_cast<uint32_t>(1 + random.Below(12));
    std::vector<Offset> cuts;
    for (Offset o = 1; o < 100; ++o) {
      if (random.Chance(0.1)) cuts.push_back(o);
    }
    const Offset begin = random.Below(99);
    std::vector<Offset> expected;
    for (const Span& batch : Batches(LeaseOf({0, 100}, cuts), batch_size)) {
      EXPECT_LE(batch.size(), batch_size);
      if (batch.end > begin) expected.push_back(batch.end);
    }
    std::vector<Offset> ends;
    for (const Span& batch : Batches(LeaseOf({begin, 100}, cuts), batch_size)) {
      EXPECT_FALSE(batch.empty());
      ends.push_back(batch.end);
    }
    EXPECT_EQ(ends, expected);
  }
}

}  // namespace
}  // namespace freshet::worker
