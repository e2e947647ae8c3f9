// SPDX-License-Identifier: Apache-2.0
#include "ps/move_target.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/mutant.h"
#include "base/stop_point.h"
#include "ps/move_state.h"

namespace freshet::ps {

using base::ErrorCode;
using base::Result;
using protocol::CopyMode;
using protocol::Image;
using protocol::Packet;
using protocol::PartitionId;
using protocol::Stamp;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::PeerId;

namespace {

// A round as small as this is followed by a difference, a difference by the freeze.
constexpr uint64_t kSmallRoundBytes = 1u << 20;
constexpr uint64_t kSmallDifferenceBytes = 256u << 10;
// Rows that change faster than they are copied are frozen all the same.
constexpr uint32_t kMaxRounds = 4;
constexpr uint32_t kMaxDifferences = 6;
// What changed during a longer write is copied before the freeze.
constexpr milliseconds kQuickStore{25};
// Cut for the store in one turn of the loop.
constexpr size_t kTurnBytes = 512u << 10;
constexpr milliseconds kRetryDelay{50};
constexpr milliseconds kReportAgain{500};
constexpr uint32_t kMaxFailures = 100;

constexpr transport::CallOptions kCopyCall{
    .deadline = seconds(5), .attempt = milliseconds(500), .max_attempt = seconds(1)};
// The source takes no pushes until this is over.
constexpr transport::CallOptions kFreezeCall{
    .deadline = seconds(2), .attempt = milliseconds(20), .max_attempt = milliseconds(100)};

uint64_t BytesOf(const std::vector<protocol::Buffer>& blocks) {
  uint64_t bytes = 0;
  for (const protocol::Buffer& block : blocks) bytes += block.size();
  return bytes;
}

std::vector<protocol::Buffer> BlocksOf(Packet& packet) {
  return {std::make_move_iterator(packet.frames.begin() + 2),
          std::make_move_iterator(packet.frames.end())};
}

}  // namespace

MoveTarget::~MoveTarget() {
  parts_.runtime.timers.Cancel(pace_timer_);
  for (auto& [partition, move] : moves_) {
    move->ended = true;
    // Callbacks that never run may keep the move for longer than the arena lives.
    move->rows = nullptr;
    parts_.runtime.timers.Cancel(move->timer);
    parts_.runtime.timers.Cancel(move->commit_timer);
    if (move->call) parts_.rpc.Cancel(*move->call);
  }
  for (auto& [partition, move] : kept_) move->rows = nullptr;
}

void MoveTarget::OnView(const protocol::View& view, uint16_t self) {
  std::vector<MovePtr> over;
  for (const auto& [partition, move] : moves_) {
    const protocol::Place& place = view.places[partition.value()];
    if (place.migration != move->id || place.target != self) over.push_back(move);
  }
  for (const MovePtr& move : over) End(move);
  for (size_t p = 0; p < view.places.size(); ++p) {
    const PartitionId partition(static_cast<uint16_t>(p));
    const protocol::Place& place = view.places[p];
    if (place.migration.value() == 0 || place.target != self || place.node == self ||
        place.node == protocol::kNoNode || moves_.contains(partition)) {
      continue;
    }
    Begin(partition, place, view.nodes[place.node]);
  }
  DropIdlePeers();
}

void MoveTarget::Begin(PartitionId partition, const protocol::Place& place,
                       const protocol::ViewNode& source) {
  auto move = std::make_shared<Move>();
  move->partition = partition;
  move->id = place.migration;
  move->tenure = place.tenure;
  move->source = PeerOf(source);
  move->source_incarnation = source.incarnation;
  moves_[partition] = move;
  if (MUTANT(kCopyOutlivesMigration) && kept_.contains(partition)) {
    const MovePtr before = kept_.extract(partition).mapped();
    move->rows = std::move(before->rows);
    move->since_cut = before->since_cut;
    return NextDifference(move);
  }
  Restart(move);
}

void MoveTarget::Restart(const MovePtr& move) {
  move->rows = std::make_unique<Partition>(move->partition, parts_.tables, parts_.arena);
  move->at = {};
  move->since_cut = move->next_cut = 0;
  move->round_bytes = 0;
  move->rounds = move->differences = 0;
  move->whole = {};
  move->whole_at = {};
  move->stored = {};
  AskSlice(move);
}

void MoveTarget::End(const MovePtr& move) {
  move->ended = true;
  if (MUTANT(kCopyOutlivesMigration) && move->rows != nullptr && move->since_cut > 0) {
    kept_[move->partition] = move;
  } else {
    move->rows = nullptr;
  }
  parts_.runtime.timers.Cancel(move->timer);
  parts_.runtime.timers.Cancel(move->commit_timer);
  if (move->call) parts_.rpc.Cancel(*move->call);
  std::erase(to_freeze_, move);
  std::erase(to_ask_, move);
  std::erase_if(to_store_, [&](const auto& entry) { return entry.first == move; });
  moves_.erase(move->partition);
  EndSlice(move);
  EndFreeze(move);
  AskWaiting();
}

PeerId MoveTarget::PeerOf(const protocol::ViewNode& source) {
  const auto known = peers_.find(source.incarnation);
  if (known != peers_.end()) return known->second;
  const auto peer = parts_.endpoint.Connect(source.address);
  if (!peer) {
    FRESHET_LOG_ERROR("cannot connect to {}: {}", source.name, peer.error().message);
    return {};
  }
  return peers_[source.incarnation] = *peer;
}

void MoveTarget::DropIdlePeers() {
  std::erase_if(peers_, [this](const auto& entry) {
    const bool used = std::any_of(moves_.begin(), moves_.end(), [&](const auto& move) {
      return move.second->source_incarnation == entry.first;
    });
    if (!used) parts_.endpoint.Disconnect(entry.second);
    return !used;
  });
}

void MoveTarget::Later(const MovePtr& move, base::Duration delay, std::function<void()> step) {
  parts_.runtime.timers.Cancel(move->timer);
  move->timer = parts_.runtime.timers.After(delay, [move, step = std::move(step)] {
    if (!move->ended) step();
  });
}

void MoveTarget::AskSlice(const MovePtr& move) {
  // When copying is slow, one partition after the other: what is copied soon changes less meanwhile. When
  // it is fast, all at once, so that they are frozen together.
  const bool begun = move->at != protocol::CopyPosition();
  begun&& pace_.gives_way() ? to_ask_.push_front(move) : to_ask_.push_back(move);
  AskWaiting();
}

void MoveTarget::EndSlice(const MovePtr& move) {
  if (std::exchange(move->slice_asked, false)) --slices_asked_;
}

void MoveTarget::AskWaiting() {
  // One reading for both: between two the wait could end, and nothing would be asked or waited for.
  const base::Duration wait = pace_.Wait(parts_.runtime.clock.Now());
  parts_.runtime.timers.Cancel(pace_timer_);
  while (!to_ask_.empty() && freezing_.empty() && slices_asked_ < pace_.MaxSlices()) {
    if (wait > base::Duration(0)) {
      pace_timer_ = parts_.runtime.timers.After(wait, [this] { AskWaiting(); });
      return;
    }
    const MovePtr move = to_ask_.front();
    to_ask_.pop_front();
    move->slice_asked = true;
    ++slices_asked_;
    Ask(move, CopyMode::kSlice);
  }
}

void MoveTarget::Ask(const MovePtr& move, CopyMode mode) {
  const protocol::CopyRequest request{move->partition, move->id, move->tenure, mode,
                                      move->since_cut, move->at};
  move->asked = parts_.runtime.clock.Now();
  move->call = parts_.rpc.Call(move->source, parts_.sender, request, {},
                               mode == CopyMode::kFreeze ? kFreezeCall : kCopyCall,
                               [this, move, mode](Result<Packet> packet) {
                                 move->call.reset();
                                 EndSlice(move);
                                 OnAnswer(move, mode, std::move(packet));
                                 AskWaiting();
                               });
}

void MoveTarget::OnAnswer(const MovePtr& move, CopyMode mode, Result<Packet> packet) {
  if (move->ended) return;
  if (!packet) return Retry(move, packet.error());
  auto reply = protocol::DecodeAs<protocol::CopyReply>(*packet);
  if (!reply) return Failed(move, reply.error());
  auto blocks = BlocksOf(*packet);
  const uint64_t bytes = BytesOf(blocks);
  move->bytes += bytes;
  move->round_bytes += bytes;
  move->longest_turn_us = std::max(move->longest_turn_us, reply->turn_us);
  if (mode == CopyMode::kSlice) {
    const base::Instant now = parts_.runtime.clock.Now();
    pace_.OnSlice(now, {now - move->asked, base::Duration(reply->quiet_us), bytes});
  }
  const auto room = move->rows->Reserve(reply->tables);
  if (!room) return Failed(move, room.error());
  const auto merged = move->rows->Merge(blocks);
  if (!merged) {
    // A table that the next view will bring.
    if (merged.error().code == ErrorCode::kNotFound) return Retry(move, merged.error());
    return Failed(move, merged.error());
  }
  if (mode == CopyMode::kSlice) return OnSlice(move, *reply);
  Image difference;
  difference.header.rows = *merged;
  difference.blocks = std::move(blocks);
  OnDifference(move, *reply, std::move(difference));
}

// Until a view says otherwise it is begun anew: the source may be on its way to the same view.
void MoveTarget::Retry(const MovePtr& move, const base::Error& error) {
  if (move->freezing) return Failed(move, error);
  if (++move->failures > kMaxFailures) return Failed(move, error);
  Later(move, kRetryDelay, [this, move] { Restart(move); });
}

void MoveTarget::OnSlice(const MovePtr& move, const protocol::CopyReply& reply) {
  base::StopPoint("target_copies");
  if (move->at == protocol::CopyPosition()) move->next_cut = reply.cut;
  if (reply.more != 0) {
    move->at = reply.next;
    return AskSlice(move);
  }
  const bool small = move->round_bytes <= kSmallRoundBytes;
  move->at = {};
  move->since_cut = move->next_cut;
  move->round_bytes = 0;
  if (!small && ++move->rounds < kMaxRounds) return AskSlice(move);
  NextDifference(move);
}

void MoveTarget::NextDifference(const MovePtr& move) {
  ++move->differences;
  move->round_bytes = 0;
  Ask(move, CopyMode::kDifference);
}

// From here on the rows are one image: what they were at the source at one instant.
void MoveTarget::OnDifference(const MovePtr& move, const protocol::CopyReply& reply,
                              Image difference) {
  const Stamp stamp{MUTANT(kPreparedNextTenure) ? move->tenure.Next() : move->tenure,
                    reply.version};
  move->since_cut = reply.cut;
  move->cut_at = parts_.runtime.clock.Now();
  move->rows->Settle(stamp, reply.applied);
  if (move->freezing) {
    move->copied = move->cut_at;
    base::StopPoint("target_has_all");
  }
  if (move->stored == stamp) {
    if (move->freezing) return Prepared(move);
    return WantFreeze(move);
  }
  if (move->stored.tenure.value() == 0) {
    move->whole.header.partition = move->partition;
    move->whole.header.stamp = stamp;
    move->whole.header.applied = move->rows->applied();
    return CutNext(move);
  }
  difference.header.partition = move->partition;
  difference.header.stamp = stamp;
  difference.header.base = move->stored;
  difference.header.applied = reply.applied;
  Store(move, std::move(difference));
}

// Nobody else changes the rows here, so that slices of several turns are of one instant as well.
void MoveTarget::CutNext(const MovePtr& move) {
  auto slice = move->rows->CutSlice(move->whole_at, std::nullopt, kTurnBytes);
  Image& whole = move->whole;
  whole.header.rows += slice.rows;
  whole.blocks.insert(whole.blocks.end(), std::make_move_iterator(slice.blocks.begin()),
                      std::make_move_iterator(slice.blocks.end()));
  move->whole_at = slice.next;
  if (slice.more) return Later(move, base::Duration(0), [this, move] { CutNext(move); });
  Store(move, std::exchange(move->whole, {}));
}

void MoveTarget::OnStored(const MovePtr& move, const protocol::ImageHeader& header,
                          uint64_t bytes) {
  move->stored = header.stamp;
  if (header.whole()) {
    move->stored_bytes = bytes;
    move->stored_difference_bytes = move->stored_differences = 0;
  } else {
    move->stored_difference_bytes += bytes;
    ++move->stored_differences;
  }
  if (move->freezing) return Prepared(move);
  base::StopPoint("target_stored");
  const bool small = header.whole() ? parts_.runtime.clock.Now() - move->cut_at < kQuickStore
                                    : bytes <= kSmallDifferenceBytes;
  if (small || move->differences >= kMaxDifferences) return WantFreeze(move);
  NextDifference(move);
}

void MoveTarget::Failed(const MovePtr& move, const base::Error& error) {
  FRESHET_LOG_WARN("migration {} of partition {} fails: {}", move->id.value(),
                   move->partition.value(), error.message);
  protocol::MoveReport report;
  report.state = protocol::MoveState::kFailed;
  report.code = error.code;
  report.message = error.message;
  Report(move, std::move(report));
  // The intent stands until the master takes it back; nothing more is done for it.
  move->rows = nullptr;
  EndFreeze(move);
}

// Whatever the answer was: as long as no view ends the migration, the master may have forgotten.
void MoveTarget::Report(const MovePtr& move, protocol::MoveReport report) {
  report.partition = move->partition;
  report.migration = move->id;
  report.tenure = move->tenure;
  move->call =
      parts_.rpc.Call(parts_.master, parts_.sender, report, {}, kReportCall,
                      [this, move, report](const Result<Packet>&) {
                        move->call.reset();
                        if (move->ended) return;
                        Later(move, kReportAgain, [this, move, report] { Report(move, report); });
                      });
}

}  // namespace freshet::ps
