// SPDX-License-Identifier: Apache-2.0
#include "master/validation_book.h"

#include <gtest/gtest.h>

namespace freshet::master {
namespace {

using protocol::LogId;
using protocol::Span;
using protocol::SpanSet;
using protocol::ValidationChunk;

constexpr LogId kLog{1};

// One prediction per offset: right (a high logit for a positive) or wrong.
ValidationChunk Chunk(SpanSet spans, float right) {
  protocol::ValidationHistogram histogram;
  for (const Span& span : spans.spans()) {
    for (uint64_t o = span.begin; o < span.end; ++o) {
      const float label = o % 2 == 0 ? 1.0f : 0.0f;
      histogram.Add((label > 0 ? 3.0f : -3.0f) * right, label);
    }
  }
  auto delta = histogram.ToDelta();
  return {kLog, std::move(spans), delta.buckets, delta.positive, delta.negative, delta.loss_sum};
}

TEST(ValidationBook, AddsUpChunks) {
  ValidationBook book(1000);
  book.Add(Chunk({{0, 10}}, 1));
  book.Add(Chunk({{20, 30}}, 1));
  EXPECT_EQ(book.records(), 20u);
  EXPECT_EQ(book.Counted(kLog), (SpanSet{{0, 10}, {20, 30}}));
  EXPECT_DOUBLE_EQ(book.Auc(), 1.0);
  EXPECT_EQ(book.dropped_records(), 0u);
}

TEST(ValidationBook, CountsASpanOnce) {
  ValidationBook book(1000);
  book.Add(Chunk({{0, 10}}, 1));
  book.Add(Chunk({{0, 10}}, 1));  // repeated, since the answer was lost
  EXPECT_EQ(book.records(), 10u);
  EXPECT_EQ(book.dropped_records(), 10u);
}

TEST(ValidationBook, DropsAChunkOfWhichAPartWasCounted) {
  ValidationBook book(1000);
  book.Add(Chunk({{0, 10}}, 1));
  book.Add(Chunk({{5, 15}, {20, 25}}, 1));
  EXPECT_EQ(book.records(), 10u);
  EXPECT_EQ(book.dropped_records(), 15u);
  EXPECT_EQ(book.Counted(kLog), (SpanSet{{0, 10}}));
  book.Add(Chunk({{20, 25}}, 1));
  EXPECT_EQ(book.records(), 15u);
}

TEST(ValidationBook, SpansOfAnotherLogAreOthers) {
  ValidationBook book(1000);
  book.Add(Chunk({{0, 10}}, 1));
  ValidationChunk other = Chunk({{0, 10}}, 1);
  other.log = LogId(2);
  book.Add(other);
  EXPECT_EQ(book.records(), 20u);
  EXPECT_EQ(book.Counted(LogId(2)), (SpanSet{{0, 10}}));
}

TEST(ValidationBook, ADamagedChunkCountsNothing) {
  ValidationBook book(1000);
  ValidationChunk chunk = Chunk({{0, 10}}, 1);
  chunk.positive.pop_back();
  book.Add(chunk);
  EXPECT_EQ(book.records(), 0u);
  EXPECT_TRUE(book.Counted(kLog).empty());
  book.Add(Chunk({{0, 10}}, 1));
  EXPECT_EQ(book.records(), 10u);
}

TEST(ValidationBook, TheWindowForgetsTheOldestHalf) {
  ValidationBook book(200);
  book.Add(Chunk({{0, 400}}, -1));  // everything wrong
  EXPECT_DOUBLE_EQ(book.WindowAuc(), 0.0);
  for (uint64_t at = 400; at < 1000; at += 50) book.Add(Chunk({{at, at + 50}}, 1));
  EXPECT_DOUBLE_EQ(book.WindowAuc(), 1.0);
  EXPECT_LT(book.WindowLogLoss(), 0.1);
  EXPECT_LT(book.Auc(), 0.9);
  EXPECT_EQ(book.records(), 1000u);
}

}  // namespace
}  // namespace freshet::master
