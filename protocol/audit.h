// SPDX-License-Identifier: Apache-2.0
// The audit (invariant I1): every record adds {1, its offset, 1 if dead-lettered} to an audit row chosen
// by its offset. Any state can then be compared with its own applied set, at any moment.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "protocol/ids.h"
#include "protocol/span.h"

namespace freshet::protocol {

// {records, sum of offsets modulo 2^64, dead-lettered records, 0}: eight floats of a kSum table.
inline constexpr uint32_t kAuditCounters = 4;
inline constexpr uint32_t kAuditRows = 4096;  // per log
// Neighbours share a row, so that a batch touches few.
inline constexpr uint32_t kAuditRun = 64;

struct AuditRow {
  Key key = 0;
  std::array<uint64_t, kAuditCounters> counters = {};
};

constexpr Key AuditKey(LogId log, Offset offset) {
  return static_cast<Key>(log.value()) << 32 | (offset / kAuditRun) % kAuditRows;
}

// What a push of `span` adds; rows ascending by first offset, each key once. `dead` is ascending.
std::vector<AuditRow> AuditRowsOf(LogId log, Span span, const std::vector<Offset>& dead);

// Count and offset sum that the audit row `key` must hold when exactly `applied` was applied.
struct AuditExpectation {
  uint64_t records = 0;
  uint64_t offset_sum = 0;
};
AuditExpectation ExpectAuditRow(Key key, const SpanSet& applied);

}  // namespace freshet::protocol
