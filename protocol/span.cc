// SPDX-License-Identifier: Apache-2.0
#include "protocol/span.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace freshet::protocol {
namespace {

// First span that ends at or after `offset` (so that it could merge with one that begins there).
auto FirstEndingAt(std::vector<Span>& spans, Offset offset) {
  return std::lower_bound(spans.begin(), spans.end(), offset,
                          [](const Span& s, Offset o) { return s.end < o; });
}

// First span that ends after `offset`.
auto FirstEndingAfter(const std::vector<Span>& spans, Offset offset) {
  return std::upper_bound(spans.begin(), spans.end(), offset,
                          [](Offset o, const Span& s) { return o < s.end; });
}

}  // namespace

SpanSet::SpanSet(std::initializer_list<Span> spans) {
  for (const Span& span : spans) Add(span);
}

void SpanSet::Add(Span span) {
  if (span.empty()) return;
  // The common case: the next batch directly behind the last one.
  if (!spans_.empty() && spans_.back().end == span.begin) {
    spans_.back().end = span.end;
    return;
  }
  const auto first = FirstEndingAt(spans_, span.begin);
  auto last = first;
  while (last != spans_.end() && last->begin <= span.end) {
    span.begin = std::min(span.begin, last->begin);
    span.end = std::max(span.end, last->end);
    ++last;
  }
  if (first == last) {
    spans_.insert(first, span);
  } else {
    *first = span;
    spans_.erase(first + 1, last);
  }
}

void SpanSet::Add(const SpanSet& other) {
  for (const Span& span : other.spans_) Add(span);
}

void SpanSet::Remove(Span span) {
  if (span.empty()) return;
  std::vector<Span> kept;
  kept.reserve(spans_.size() + 1);
  for (const Span& s : spans_) {
    if (s.end <= span.begin || s.begin >= span.end) {
      kept.push_back(s);
      continue;
    }
    if (s.begin < span.begin) kept.push_back({s.begin, span.begin});
    if (s.end > span.end) kept.push_back({span.end, s.end});
  }
  spans_ = std::move(kept);
}

Overlap SpanSet::Compare(Span span) const {
  CHECK(!span.empty());
  const auto it = FirstEndingAfter(spans_, span.begin);
  if (it == spans_.end() || it->begin >= span.end) return Overlap::kDisjoint;
  if (it->begin <= span.begin && it->end >= span.end) return Overlap::kContained;
  return Overlap::kPartial;
}

bool SpanSet::Contains(Offset offset) const {
  const auto it = FirstEndingAfter(spans_, offset);
  return it != spans_.end() && it->begin <= offset;
}

SpanSet SpanSet::Intersect(const SpanSet& other) const {
  SpanSet out;
  auto a = spans_.begin();
  auto b = other.spans_.begin();
  while (a != spans_.end() && b != other.spans_.end()) {
    const Span common{std::max(a->begin, b->begin), std::min(a->end, b->end)};
    if (!common.empty()) out.spans_.push_back(common);
    if (a->end < b->end) {
      ++a;
    } else {
      ++b;
    }
  }
  return out;
}

SpanSet SpanSet::Gaps(Span within) const {
  SpanSet out;
  Offset at = within.begin;
  for (auto it = FirstEndingAfter(spans_, within.begin); it != spans_.end(); ++it) {
    if (it->begin >= within.end) break;
    if (it->begin > at) out.spans_.push_back({at, it->begin});
    at = it->end;
  }
  if (at < within.end) out.spans_.push_back({at, within.end});
  return out;
}

Offset SpanSet::Watermark() const {
  return spans_.empty() || spans_.front().begin > 0 ? 0 : spans_.front().end;
}

uint64_t SpanSet::Count() const {
  uint64_t count = 0;
  for (const Span& span : spans_) count += span.size();
  return count;
}

std::string SpanSet::ToString() const {
  std::string out = "{";
  for (const Span& span : spans_) {
    if (out.size() > 1) out += ' ';
    out += '[' + std::to_string(span.begin) + ',' + std::to_string(span.end) + ')';
  }
  return out + '}';
}

bool SpanSet::FromSpans(std::vector<Span> spans, SpanSet* out) {
  out->spans_.clear();
  for (size_t i = 0; i < spans.size(); ++i) {
    if (spans[i].empty()) return false;
    if (i > 0 && spans[i].begin <= spans[i - 1].end) return false;
  }
  out->spans_ = std::move(spans);
  return true;
}

const SpanSet& AppliedSets::Of(LogId log) const {
  static const SpanSet kEmpty;
  for (const LogSpanSet& entry : logs_) {
    if (entry.log == log) return entry.set;
  }
  return kEmpty;
}

SpanSet& AppliedSets::Mutable(LogId log) {
  auto it = std::lower_bound(logs_.begin(), logs_.end(), log,
                             [](const LogSpanSet& e, LogId l) { return e.log < l; });
  if (it == logs_.end() || it->log != log) it = logs_.insert(it, LogSpanSet{log, {}});
  return it->set;
}

void AppliedSets::Merge(const AppliedSets& other) {
  for (const LogSpanSet& entry : other.logs_) Mutable(entry.log).Add(entry.set);
}

bool AppliedSets::operator==(const AppliedSets& other) const {
  const auto contains_all = [](const AppliedSets& a, const AppliedSets& b) {
    return std::all_of(a.logs_.begin(), a.logs_.end(),
                       [&](const LogSpanSet& e) { return b.Of(e.log) == e.set; });
  };
  return contains_all(*this, other) && contains_all(other, *this);
}

}  // namespace freshet::protocol
