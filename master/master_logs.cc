// SPDX-License-Identifier: Apache-2.0
// MasterNode: how far the logs go, and what of them may be leased.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "master/master_node.h"

namespace freshet::master {

using base::Result;
using protocol::LogPurpose;
using std::chrono::milliseconds;

namespace {

// Between two looks at a log that grows.
constexpr milliseconds kProbeInterval{200};

}  // namespace

void MasterNode::ProbeLogs(std::vector<protocol::LogSpec> specs) {
  using Ends = std::map<protocol::LogId, Result<protocol::Offset>>;
  auto ends = std::make_shared<Ends>();
  runtime_.executor.Run(
      [ends, specs = std::move(specs), probe = &probe_] {
        for (const auto& spec : specs) ends->emplace(spec.log, probe->SyncedEnd(spec));
      },
      [this, ends] {
        for (const auto& [log, end] : *ends) {
          if (!end)
            return Fail("log " + logs_[log].spec.name + ": " + end.error().message,
                        end.error().code);
          TakeEnd(logs_[log], *end);
        }
        for (auto& [name, node] : nodes_) AdoptClaim(node);
        FollowLogs();
      });
}

void MasterNode::TakeEnd(LogState& log, protocol::Offset end) {
  if (!log.probed) log.tail = LogTail(options_.linger);
  log.tail.Note(end, runtime_.clock.Now());
  log.end = end;
  log.probed = true;
}

void MasterNode::FollowLogs() {
  if (phase_ == Phase::kFailed || phase_ == Phase::kDraining) return;
  std::vector<protocol::LogSpec> followed;
  for (const auto& [id, log] : logs_) {
    if (log.spec.follow) followed.push_back(log.spec);
  }
  if (followed.empty()) return;
  probe_timer_ = runtime_.timers.After(kProbeInterval, [this, followed] { ProbeLogs(followed); });
}

bool MasterNode::Follows() const {
  return std::any_of(logs_.begin(), logs_.end(),
                     [](const auto& entry) { return entry.second.spec.follow; });
}

bool MasterNode::WaitsForRecords() const {
  return phase_ == Phase::kTraining && Follows() && progress_->AllReported() && AllDone();
}

// What was learnt before must still be there (I5). Asked when all have reported for the first time.
Result<> MasterNode::CheckReplayable() const {
  for (const auto& [id, log] : logs_) {
    const protocol::Offset learnt = progress_->Highest(id);
    if (log.spec.purpose != LogPurpose::kTrain || learnt <= log.end) continue;
    return base::Fail(
        base::ErrorCode::kCorrupt,
        fmt::format("log {}: '{}' has {} records, but {} of it were learnt before: it was cut or "
                    "replaced, and cannot be replayed; put it back",
                    log.spec.name, log.spec.path, log.end, learnt));
  }
  return {};
}

// Whole batches, but for the rest of a log; the rest of one that grows waits for more (rule G20). False:
// nothing of the gap is leased yet.
bool MasterNode::CutToBatches(LogState& log, protocol::Span& gap) {
  const uint64_t batch = options_.job.batch_size;
  const protocol::Offset aligned = std::max(gap.begin, gap.end / batch * batch);
  if (gap.end != log.end) {
    if (aligned > gap.begin) gap.end = aligned;
    return true;
  }
  if (log.spec.follow && aligned >= log.tail.Settled(runtime_.clock.Now())) gap.end = aligned;
  return !gap.empty();
}

void MasterNode::TakeClaim(Node& node, const protocol::WorkerHeartbeat& heartbeat) {
  LeaseTalk& talk = node.leasing;
  talk.claim.reset();
  if (!heartbeat.lease || leases_->Holds(node.incarnation)) return;
  if (heartbeat.lease->id.value() >> 32 >= state_.boot) return;
  talk.claim = heartbeat.lease;
  talk.claim->cuts.clear();
  AdoptClaim(node);
}

// A lease of the master before stands if its holder says so, once it is known how far its log goes.
void MasterNode::AdoptClaim(Node& node) {
  std::optional<protocol::Lease>& claim = node.leasing.claim;
  if (!claim) return;
  // Nobody would end it; whoever comes back says it again.
  if (node.state != "running") return claim.reset();
  const auto log = logs_.find(claim->log);
  if (log != logs_.end() && !log->second.probed) return;
  const protocol::Lease lease = *std::exchange(claim, std::nullopt);
  const bool sound = log != logs_.end() && !lease.span.empty() &&
                     lease.span.end <= log->second.end &&
                     lease.span.size() <= options_.max_lease_records;
  if (sound && leases_->Adopt({node.incarnation, 0}, lease)) return;
  // It is said again with every heartbeat.
  if (std::exchange(node.leasing.refused, lease.id) == lease.id) return;
  FRESHET_LOG_WARN("{} says that it holds [{}, {}) of log {}: {}; not taken over", node.name,
                   lease.span.begin, lease.span.end, lease.log.value(),
                   sound ? "somebody else holds a part of it" : "there is no such span");
}

}  // namespace freshet::master
