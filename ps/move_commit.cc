// SPDX-License-Identifier: Apache-2.0
// MoveTarget: how what came is stored, and from the freeze to serving.
#include <algorithm>
#include <utility>

#include "base/mutant.h"
#include "base/stop_point.h"
#include "ps/move_state.h"

namespace freshet::ps {

using base::ErrorCode;
using protocol::CopyMode;
using protocol::Image;
using protocol::PartitionId;
using std::chrono::milliseconds;

namespace {

// Stored in one transaction.
constexpr uint64_t kMaxGroupBytes = 32u << 20;
// Workers that push to all partitions wait for any that is frozen: several at once cost them less.
constexpr size_t kMaxFrozen = 8;
// Nothing is written while the master makes the commit durable, unless that takes longer.
constexpr milliseconds kCommitPatience{20};

// An earlier attempt to move a partition here may have left the very same image.
void KnowAgain(checkpoint::ImageStore& store, const std::vector<Image>& images,
               std::vector<char>* saved) {
  if (std::count(saved->begin(), saved->end(), 0) == 0) return;
  const auto stored = store.List();
  if (!stored) return;
  for (size_t i = 0; i < images.size(); ++i) {
    const protocol::ImageHeader& wanted = images[i].header;
    (*saved)[i] |= std::any_of(stored->begin(), stored->end(), [&](const auto& entry) {
      return entry.partition == wanted.partition && entry.stamp == wanted.stamp;
    });
  }
}

}  // namespace

void MoveTarget::Store(const MovePtr& move, Image image) {
  if (MUTANT(kPreparedBeforeDurable) && move->freezing) {
    move->stored = image.header.stamp;
    return Prepared(move);
  }
  to_store_.emplace_back(move, std::move(image));
  StoreNext();
}

void MoveTarget::StoreNext() {
  if (storing_) return;
  auto job = std::make_shared<StoreJob>();
  uint64_t bytes = 0;
  for (auto it = to_store_.begin(); it != to_store_.end() && bytes < kMaxGroupBytes;) {
    // What frozen sources wait for goes alone.
    if (!freezing_.empty() && !it->first->freezing) {
      ++it;
      continue;
    }
    bytes += it->second.Bytes();
    job->moves.push_back(std::move(it->first));
    job->images.push_back(std::move(it->second));
    it = to_store_.erase(it);
  }
  if (job->images.empty()) return;
  storing_ = true;
  parts_.runtime.executor.Run(
      [job, store = &parts_.store] {
        job->saved = store->SaveAll(job->images);
        if (job->saved) KnowAgain(*store, job->images, &*job->saved);
      },
      [this, job] {
        OnWritten(*job);
        storing_ = false;
        StoreNext();
        FreezeNext();
      });
}

void MoveTarget::OnWritten(const StoreJob& job) {
  if (!job.saved && job.saved.error().code != ErrorCode::kResourceExhausted) {
    return on_store_failure(job.saved.error().message);
  }
  for (size_t i = 0; i < job.images.size(); ++i) {
    const MovePtr& move = job.moves[i];
    if (move->ended) continue;
    if (!job.saved) {
      Failed(move, job.saved.error());
    } else if ((*job.saved)[i] == 0) {
      Failed(move, {ErrorCode::kConflict, "the store holds a newer image of the partition"});
    } else {
      OnStored(move, job.images[i].header, job.images[i].Bytes());
    }
  }
}

// While sources are frozen nothing but what they wait for is written: the checkpointer pauses, and who
// comes meanwhile is frozen when all of them are served again.
void MoveTarget::WantFreeze(const MovePtr& move) {
  to_freeze_.push_back(move);
  FreezeNext();
}

void MoveTarget::FreezeNext() {
  if (!freezing_.empty() || to_freeze_.empty() || storing_) return;
  while (!to_freeze_.empty() && freezing_.size() < kMaxFrozen) {
    freezing_.push_back(to_freeze_.front());
    freezing_.back()->freezing = true;
    to_freeze_.pop_front();
  }
  parts_.checkpointer.Pause([this] {
    for (const MovePtr& move : freezing_) {
      move->freeze_asked = parts_.runtime.clock.Now();
      Ask(move, CopyMode::kFreeze);
    }
  });
}

void MoveTarget::EndFreeze(const MovePtr& move) {
  move->freezing = false;
  std::erase(freezing_, move);
  if (!freezing_.empty()) return;
  // Also when the last one that waited for its turn ended: nobody else lets the checkpointer go on.
  if (to_freeze_.empty()) parts_.checkpointer.Resume();
  AskWaiting();
  StoreNext();
  FreezeNext();
}

void MoveTarget::Prepared(const MovePtr& move) {
  base::StopPoint("target_durable");
  move->prepared = true;
  move->durable = parts_.runtime.clock.Now();
  protocol::MoveReport report;
  report.state = protocol::MoveState::kPrepared;
  report.applied = move->rows->applied();
  report.rows = move->rows->rows();
  report.bytes = move->bytes;
  Report(move, std::move(report));
  move->commit_timer =
      parts_.runtime.timers.After(kCommitPatience, [this, move] { EndFreeze(move); });
}

std::optional<ArrivedRows> MoveTarget::Take(PartitionId partition, protocol::Tenure tenure) {
  const auto it = moves_.find(partition);
  if (it == moves_.end()) return std::nullopt;
  const MovePtr move = it->second;
  if (!move->prepared || tenure != move->tenure.Next()) return std::nullopt;
  base::StopPoint("target_serves");
  ArrivedRows out{std::move(move->rows), move->stored, move->stored_bytes,
                  move->stored_difference_bytes, move->stored_differences};
  protocol::MoveReport report;
  report.partition = partition;
  report.migration = move->id;
  report.tenure = move->tenure;
  report.state = protocol::MoveState::kServing;
  const auto since_asked = [&](base::Instant at) {
    return static_cast<uint64_t>((at - move->freeze_asked).count());
  };
  report.pause_us = since_asked(parts_.runtime.clock.Now());
  report.copied_us = since_asked(move->copied);
  report.durable_us = since_asked(move->durable);
  report.longest_turn_us = move->longest_turn_us;
  // Of interest to people only.
  parts_.rpc.Call(parts_.master, parts_.sender, report, {}, kReportCall,
                  [](const base::Result<protocol::Packet>&) {});
  return out;
}

}  // namespace freshet::ps
