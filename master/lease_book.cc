// SPDX-License-Identifier: Apache-2.0
#include "master/lease_book.h"

#include <algorithm>
#include <utility>

namespace freshet::master {

using protocol::Incarnation;
using protocol::Lease;
using protocol::LogId;
using protocol::Offset;
using protocol::Span;
using protocol::SpanSet;

namespace {

constexpr uint8_t kReportsToSettle = 2;
// More cuts than this make the lease shorter instead.
constexpr size_t kMaxCuts = 256;

}  // namespace

const Lease* LeaseBook::Find(const Holder& holder) const {
  for (const Entry& entry : entries_) {
    if (!entry.ended && entry.holder == holder) return &entry.lease;
  }
  return nullptr;
}

std::optional<Span> LeaseBook::FindGap(const Gap& gap) const {
  SpanSet taken = *gap.done;
  for (const Entry& entry : entries_) {
    if (entry.lease.log == gap.log) taken.Add(entry.lease.span);
  }
  const SpanSet gaps = taken.Gaps({0, gap.end});
  if (gaps.empty()) return std::nullopt;
  Span span = gaps.spans().front();
  span.end = std::min(span.end, span.begin + std::max<uint64_t>(gap.max_records, 1));
  return span;
}

Lease LeaseBook::Grant(const Holder& holder, LogId log, Span span, std::vector<Offset> cuts) {
  if (cuts.size() > kMaxCuts) {
    span.end = cuts[kMaxCuts];
    cuts.resize(kMaxCuts);
  }
  Entry& entry = entries_.emplace_back();
  entry.lease = {protocol::LeaseId(++next_), log, span, std::move(cuts)};
  entry.holder = holder;
  return entry.lease;
}

bool LeaseBook::Adopt(const Holder& holder, const Lease& lease) {
  for (const Entry& entry : entries_) {
    const bool apart = entry.lease.log != lease.log || entry.lease.span.end <= lease.span.begin ||
                       entry.lease.span.begin >= lease.span.end;
    if (!apart) return false;
  }
  Entry& entry = entries_.emplace_back();
  entry.lease = lease;
  entry.holder = holder;
  return true;
}

void LeaseBook::EndAllOf(Incarnation worker, base::Instant hold_until) {
  for (Entry& entry : entries_) {
    if (entry.ended || entry.holder.worker != worker) continue;
    entry.ended = true;
    entry.hold_until = hold_until;
    entry.reports_needed.assign(partitions_, kReportsToSettle);
    entry.partitions_needed = partitions_;
  }
}

void LeaseBook::OnReport(protocol::PartitionId partition) {
  for (Entry& entry : entries_) {
    if (!entry.ended || entry.partitions_needed == 0) continue;
    uint8_t& needed = entry.reports_needed[partition.value()];
    if (needed > 0 && --needed == 0) --entry.partitions_needed;
  }
}

void LeaseBook::ReleaseWithoutReports(LogId log) {
  for (Entry& entry : entries_) {
    if (entry.ended && entry.lease.log == log) entry.partitions_needed = 0;
  }
}

void LeaseBook::ReleaseSettled(base::Instant now) {
  std::erase_if(entries_, [now](const Entry& entry) {
    return entry.ended && entry.partitions_needed == 0 && now >= entry.hold_until;
  });
}

size_t LeaseBook::active() const {
  return static_cast<size_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const Entry& e) { return !e.ended; }));
}

bool LeaseBook::Holds(Incarnation worker) const {
  return std::any_of(entries_.begin(), entries_.end(), [worker](const Entry& entry) {
    return !entry.ended && entry.holder.worker == worker;
  });
}

}  // namespace freshet::master
