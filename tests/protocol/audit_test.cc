// SPDX-License-Identifier: Apache-2.0
#include "protocol/audit.h"

#include <gtest/gtest.h>

#include <map>

#include "base/random.h"

namespace freshet::protocol {
namespace {

constexpr uint64_t kCycle = uint64_t{kAuditRun} * kAuditRows;

// Every offset by itself.
std::map<Key, AuditExpectation> CountOneByOne(LogId log, const SpanSet& applied) {
  std::map<Key, AuditExpectation> rows;
  for (const Span& span : applied.spans()) {
    for (Offset offset = span.begin; offset < span.end; ++offset) {
      AuditExpectation& row = rows[AuditKey(log, offset)];
      ++row.records;
      row.offset_sum += offset;
    }
  }
  return rows;
}

TEST(Audit, ExpectsOfEveryRowWhatItsOffsetsSayOneByOne) {
  base::Random random(3);
  const LogId log(7);
  for (int round = 0; round < 12; ++round) {
    SpanSet applied;
    for (int i = 0; i < 4; ++i) {
      const Offset begin = random.Below(3 * kCycle);
      applied.Add({begin, begin + 1 + random.Below(round % 2 == 0 ? 300 : 2 * kCycle)});
    }
    auto counted = CountOneByOne(log, applied);
    for (uint32_t row = 0; row < kAuditRows; ++row) {
      const Key key = AuditKey(log, uint64_t{row} * kAuditRun);
      const auto expected = ExpectAuditRow(key, applied);
      ASSERT_EQ(expected.records, counted[key].records) << applied.ToString() << " row " << row;
      ASSERT_EQ(expected.offset_sum, counted[key].offset_sum) << applied.ToString();
    }
  }
}

TEST(Audit, WhatPushesAddIsWhatTheirAppliedSetExpects) {
  base::Random random(5);
  const LogId log(2);
  SpanSet applied;
  std::map<Key, std::array<uint64_t, kAuditCounters>> rows;
  Offset at = 0;
  for (int i = 0; i < 400; ++i) {
    at += random.Below(3) * random.Below(5000);
    const Span span{at, at + 1 + random.Below(i % 50 == 0 ? 2 * kCycle : 2000)};
    for (const AuditRow& row : AuditRowsOf(log, span, {span.begin})) {
      for (uint32_t c = 0; c < kAuditCounters; ++c) rows[row.key][c] += row.counters[c];
    }
    applied.Add(span);
    at = span.end;
  }
  uint64_t dead = 0;
  for (const auto& [key, counters] : rows) {
    const auto expected = ExpectAuditRow(key, applied);
    EXPECT_EQ(counters[0], expected.records);
    EXPECT_EQ(counters[1], expected.offset_sum);
    dead += counters[2];
  }
  EXPECT_EQ(dead, 400u);
}

TEST(Audit, ALogAsLongAsItMayBeIsExpectedAtOnce) {
  SpanSet applied;
  applied.Add({1, kMaxOffset});
  uint64_t records = 0;
  uint64_t sum = 0;
  for (uint32_t row = 0; row < kAuditRows; ++row) {
    const auto expected = ExpectAuditRow(AuditKey(LogId(0), uint64_t{row} * kAuditRun), applied);
    records += expected.records;
    sum += expected.offset_sum;
  }
  EXPECT_EQ(records, kMaxOffset - 1);
  // Modulo 2^64: kMaxOffset * (kMaxOffset - 1) / 2.
  EXPECT_EQ(sum, (kMaxOffset / 2) * (kMaxOffset - 1));
}

TEST(Audit, ARowThatIsNoneExpectsNothing) {
  SpanSet applied;
  applied.Add({0, 10 * kCycle});
  EXPECT_EQ(ExpectAuditRow(kAuditRows, applied).records, 0u);
}

}  // namespace
}  // namespace freshet::protocol
