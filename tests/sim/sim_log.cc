// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_log.h"

#include <algorithm>

#include "base/random.h"

namespace freshet::sim {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Offset;
using protocol::Span;

bool SimLog::IsDead(Offset offset) const {
  base::Random random(base::Mix64(seed ^ 0xDEAD) + offset);
  return random.Chance(dead_rate);
}

uint64_t SimLog::DeadIn(Span span) const {
  uint64_t dead = 0;
  for (Offset offset = span.begin; offset < span.end; ++offset) dead += IsDead(offset) ? 1 : 0;
  return dead;
}

Offset SimLog::WrittenAt(base::Duration now) const {
  if (now >= growth) return end;
  return end * static_cast<uint64_t>(now.count()) / static_cast<uint64_t>(growth.count());
}

Offset SimLogReader::end() const { return logs_.Synced(log_); }

Result<> SimLogReader::Read(Span span, stream::RecordBatch& out) {
  if (span.end > end())
    return Fail(ErrorCode::kInvalidArgument, "beyond the synced end of the log");
  out.Clear();
  out.span = span;
  out.dense_count = dense_count();
  out.sparse_count = sparse_count();
  for (Offset offset = span.begin; offset < span.end; ++offset) {
    if (log_.IsDead(offset)) {
      out.dead.push_back({offset, "simulated", "?"});
      continue;
    }
    base::Random random(base::Mix64(log_.seed) + offset);
    ++out.rows;
    out.offsets.push_back(offset);
    out.labels.push_back(random.Chance(0.3) ? 1.0f : 0.0f);
    for (uint32_t i = 0; i < out.dense_count; ++i) {
      out.dense.push_back(static_cast<float>(random.Uniform()));
    }
    for (uint32_t i = 0; i < out.sparse_count; ++i) {
      out.sparse.push_back(base::Mix64(uint64_t{i} << 32 | random.Below(1 + random.Below(30))));
    }
    out.timestamps.push_back(0);
  }
  return {};
}

const SimLog* SimLogs::Find(const protocol::LogSpec& spec) const {
  const auto found = std::find_if(logs_.begin(), logs_.end(),
                                  [&](const SimLog& log) { return log.spec.log == spec.log; });
  return found == logs_.end() ? nullptr : &*found;
}

Result<std::unique_ptr<stream::LogReader>> SimLogs::Open(const protocol::LogSpec& spec) {
  const SimLog* log = Find(spec);
  if (log == nullptr) return Fail(ErrorCode::kNotFound, "no such log");
  return std::make_unique<SimLogReader>(*this, *log);
}

Result<Offset> SimLogs::SyncedEnd(const protocol::LogSpec& spec) {
  const SimLog* log = Find(spec);
  if (log == nullptr) return Fail(ErrorCode::kNotFound, "no such log");
  return synced_[spec.log] = log->WrittenAt(scheduler_.now());
}

Offset SimLogs::Synced(const SimLog& log) const {
  const auto found = synced_.find(log.spec.log);
  return found == synced_.end() ? 0 : found->second;
}

}  // namespace freshet::sim
