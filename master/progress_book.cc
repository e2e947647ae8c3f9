// SPDX-License-Identifier: Apache-2.0
#include "master/progress_book.h"

#include <algorithm>

namespace freshet::master {

using protocol::AppliedSets;
using protocol::LogId;
using protocol::Offset;
using protocol::PartitionId;
using protocol::Span;
using protocol::SpanSet;

void ProgressBook::Forget(PartitionId partition) {
  PartitionReport& report = reports_[partition.value()];
  if (report.reported) --reported_;
  report = PartitionReport();
  done_.clear();
}

void ProgressBook::Report(PartitionId partition, const AppliedSets& applied,
                          const std::vector<protocol::LogWatermark>& durable) {
  PartitionReport& report = reports_[partition.value()];
  if (!report.reported) {
    report.reported = true;
    ++reported_;
    done_.clear();
  }
  for (const auto& entry : durable) {
    Offset& watermark = report.durable[entry.log];
    watermark = std::max(watermark, entry.watermark);
  }
  if (report.applied == applied) return;
  report.applied.Merge(applied);
  done_.clear();
}

const SpanSet& ProgressBook::Done(LogId log) const {
  const auto known = done_.find(log);
  if (known != done_.end()) return known->second;
  SpanSet& done = done_[log];
  if (!AllReported() || reports_.empty()) return done;
  bool first = true;
  for (const PartitionReport& report : reports_) {
    if (MUTANT(kSkipUnreported) && !report.reported) continue;
    const SpanSet& set = report.applied.Of(log);
    if (first) {
      done = set;
    } else if (set != done) {
      done = done.Intersect(set);
    }
    first = false;
  }
  return done;
}

Offset ProgressBook::DurableFloor(LogId log) const {
  if (!AllReported() || reports_.empty()) return 0;
  Offset floor = UINT64_MAX;
  for (const PartitionReport& report : reports_) {
    if (MUTANT(kSkipUnreported) && !report.reported) continue;
    const auto it = report.durable.find(log);
    floor = std::min(floor, it == report.durable.end() ? 0 : it->second);
  }
  return floor;
}

std::vector<protocol::LogWatermark> ProgressBook::DurableOf(PartitionId partition) const {
  std::vector<protocol::LogWatermark> claims;
  for (const auto& [log, watermark] : reports_[partition.value()].durable) {
    claims.push_back({log, watermark});
  }
  return claims;
}

Offset ProgressBook::Highest(LogId log) const {
  Offset highest = 0;
  for (const PartitionReport& report : reports_) {
    const SpanSet& set = report.applied.Of(log);
    if (!set.empty()) highest = std::max(highest, set.spans().back().end);
  }
  return highest;
}

std::vector<Offset> ProgressBook::Edges(LogId log, Span within) const {
  std::vector<Offset> edges;
  const SpanSet* last = nullptr;
  for (const PartitionReport& report : reports_) {
    const SpanSet& set = report.applied.Of(log);
    if (last != nullptr && *last == set) continue;  // neighbours mostly share one set
    last = &set;
    for (const Span& span : set.spans()) {
      for (const Offset edge : {span.begin, span.end}) {
        if (edge > within.begin && edge < within.end) edges.push_back(edge);
      }
    }
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
}

}  // namespace freshet::master
