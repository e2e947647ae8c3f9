// SPDX-License-Identifier: Apache-2.0
#include "protocol/audit.h"

#include <algorithm>

namespace freshet::protocol {
namespace {

// Sum of begin .. end-1 modulo 2^64.
uint64_t OffsetSum(Span span) {
  const unsigned __int128 sum =
      static_cast<unsigned __int128>(span.size()) * (span.begin + (span.end - 1));
  return static_cast<uint64_t>(sum / 2);
}

}  // namespace

std::vector<AuditRow> AuditRowsOf(LogId log, Span span, const std::vector<Offset>& dead) {
  std::vector<AuditRow> rows;
  rows.reserve(span.size() / kAuditRun + 2);
  auto next_dead = dead.begin();
  for (Offset at = span.begin; at < span.end;) {
    const Span run{at, std::min(span.end, (at / kAuditRun + 1) * kAuditRun)};
    const Key key = AuditKey(log, at);
    // A span longer than kAuditRows runs comes back to its first rows.
    const size_t index = (run.begin / kAuditRun) - (span.begin / kAuditRun);
    AuditRow& row = index < kAuditRows ? rows.emplace_back() : rows[index % kAuditRows];
    row.key = key;
    row.counters[0] += run.size();
    row.counters[1] += OffsetSum(run);
    while (next_dead != dead.end() && *next_dead < run.end) {
      ++row.counters[2];
      ++next_dead;
    }
    at = run.end;
  }
  return rows;
}

AuditExpectation ExpectAuditRow(Key key, const SpanSet& applied) {
  AuditExpectation expected;
  // The row's runs are [row_begin + c * kCycle, .. + kAuditRun) for every cycle c.
  constexpr uint64_t kCycle = static_cast<uint64_t>(kAuditRun) * kAuditRows;
  const uint64_t row_begin = (key & 0xFFFFFFFF) * kAuditRun;
  if (row_begin >= kCycle) return expected;  // no such row
  const auto add = [&](Span part) {
    if (part.empty()) return;
    expected.records += part.size();
    expected.offset_sum += OffsetSum(part);
  };
  for (const Span& span : applied.spans()) {
    if (span.end <= row_begin) continue;
    // First run that ends behind the span's begin, and last one that begins before its end.
    uint64_t first = span.begin / kCycle;
    if (first * kCycle + row_begin + kAuditRun <= span.begin) ++first;
    const uint64_t last = (span.end - 1 - row_begin) / kCycle;
    if (first > last) continue;
    const auto clipped = [&](uint64_t cycle) {
      const uint64_t at = cycle * kCycle + row_begin;
      return Span{std::max(at, span.begin), std::min(at + kAuditRun, span.end)};
    };
    add(clipped(first));
    if (first == last) continue;
    add(clipped(last));
    // Those in between are whole. A log of months has millions of them, so they are not walked.
    const uint64_t whole = last - first - 1;
    const Span cycles{first + 1, last};
    expected.records += whole * kAuditRun;
    expected.offset_sum += kAuditRun * (whole * row_begin + kCycle * OffsetSum(cycles)) +
                           whole * OffsetSum({0, kAuditRun});
  }
  return expected;
}

}  // namespace freshet::protocol
