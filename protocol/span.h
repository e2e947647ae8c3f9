// SPDX-License-Identifier: Apache-2.0
// Span and SpanSet: which offsets of a log. The applied set (rule G2), done and gaps are SpanSets.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "protocol/ids.h"

namespace freshet::protocol {

// Half-open range [begin, end) of offsets of one log.
struct Span {
  Offset begin = 0;
  Offset end = 0;

  constexpr uint64_t size() const { return end - begin; }
  constexpr bool empty() const { return begin >= end; }
  constexpr bool operator==(const Span&) const = default;
};

enum class Overlap : uint8_t { kDisjoint, kContained, kPartial };

// A set of offsets as sorted, disjoint, merged, non-empty spans. Value type, not thread safe.
// Add is O(spans); sets are small (a watermark and a few spans above it).
class SpanSet {
 public:
  SpanSet() = default;
  SpanSet(std::initializer_list<Span> spans);

  // Adds every offset of `span`; an empty span changes nothing.
  void Add(Span span);
  void Add(const SpanSet& other);
  void Remove(Span span);

  // How `span` (non-empty) relates to the set: what a push is judged by (rule G5).
  Overlap Compare(Span span) const;
  bool Contains(Offset offset) const;

  SpanSet Intersect(const SpanSet& other) const;
  // The offsets of `within` that are not in the set.
  SpanSet Gaps(Span within) const;

  // The lowest offset that is not in the set, counted from 0.
  Offset Watermark() const;
  // Number of offsets.
  uint64_t Count() const;
  bool empty() const { return spans_.empty(); }
  const std::vector<Span>& spans() const { return spans_; }

  bool operator==(const SpanSet&) const = default;
  std::string ToString() const;

  // From untrusted spans: false (and an empty set) unless they are sorted, disjoint, merged, non-empty.
  static bool FromSpans(std::vector<Span> spans, SpanSet* out);

 private:
  std::vector<Span> spans_;
};

// Applied sets of one partition: per log, in order of the log's id. Missing = empty.
struct LogSpanSet {
  LogId log;
  SpanSet set;
  bool operator==(const LogSpanSet&) const = default;
};

class AppliedSets {
 public:
  const SpanSet& Of(LogId log) const;
  SpanSet& Mutable(LogId log);
  void Merge(const AppliedSets& other);
  const std::vector<LogSpanSet>& logs() const { return logs_; }
  std::vector<LogSpanSet>& logs() { return logs_; }
  bool operator==(const AppliedSets& other) const;

 private:
  std::vector<LogSpanSet> logs_;
};

}  // namespace freshet::protocol
