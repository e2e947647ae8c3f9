// SPDX-License-Identifier: Apache-2.0
#include "ps/move_target.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/mutant.h"
#include "base/stop_point.h"

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
// Stored in one transaction.
constexpr uint64_t kMaxGroupBytes = 32u << 20;
// Workers that push to all partitions wait for any that is frozen: several at once cost them less.
constexpr size_t kMaxFrozen = 8;
// Nothing is written while the master makes the commit durable, unless that takes longer.
constexpr milliseconds kCommitPatience{20};
constexpr milliseconds kRetryDelay{50};
constexpr milliseconds kReportAgain{500};
constexpr uint32_t kMaxFailures = 100;

constexpr transport::CallOptions kCopyCall{
    .deadline = seconds(5), .attempt = milliseconds(500), .max_attempt = seconds(1)};
// The source takes no pushes until this is over.
constexpr transport::CallOptions kFreezeCall{
    .deadline = seconds(2), .attempt = milliseconds(20), .max_attempt = milliseconds(100)};
constexpr transport::CallOptions kReportCall{
    .deadline = seconds(30), .attempt = milliseconds(50), .max_attempt = seconds(1)};

uint64_t BytesOf(const std::vector<protocol::Buffer>& blocks) {
  uint64_t bytes = 0;
  for (const protocol::Buffer& block : blocks) bytes += block.size();
  return bytes;
}

std::vector<protocol::Buffer> BlocksOf(Packet& packet) {
  return {std::make_move_iterator(packet.frames.begin() + 2),
          std::make_move_iterator(packet.frames.end())};
}

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

struct MoveTarget::Move {
  PartitionId partition;
  protocol::MigrationId id;
  protocol::Tenure tenure;  // of the source
  PeerId source;
  protocol::Incarnation source_incarnation;
  std::unique_ptr<Partition> rows;
  bool ended = false;
  bool freezing = false;
  bool prepared = false;
  base::TimerId timer;
  base::TimerId commit_timer;
  std::optional<protocol::RequestId> call;
  uint32_t failures = 0;

  protocol::CopyPosition at;  // of the round under way
  uint32_t since_cut = 0;     // of the source; 0 = all rows
  uint32_t next_cut = 0;      // what `since_cut` is for the round or difference after this one
  uint64_t round_bytes = 0;
  uint32_t rounds = 0;
  uint32_t differences = 0;
  uint64_t bytes = 0;

  Image whole;  // as far as it is cut
  protocol::CopyPosition whole_at;
  Stamp stored;  // tenure 0: nothing yet
  uint64_t stored_bytes = 0;
  uint64_t stored_difference_bytes = 0;
  uint32_t stored_differences = 0;
  base::Instant cut_at;
  base::Instant freeze_asked;
  base::Instant copied;
  base::Instant durable;
  uint64_t longest_turn_us = 0;
};

struct MoveTarget::StoreJob {
  std::vector<MovePtr> moves;
  std::vector<Image> images;
  Result<std::vector<char>> saved;
};

MoveTarget::~MoveTarget() {
  for (auto& [partition, move] : moves_) {
    move->ended = true;
    // Callbacks that never run may keep the move for longer than the arena lives.
    move->rows = nullptr;
    parts_.runtime.timers.Cancel(move->timer);
    parts_.runtime.timers.Cancel(move->commit_timer);
    if (move->call) parts_.rpc.Cancel(*move->call);
  }
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
  move->rows = nullptr;
  parts_.runtime.timers.Cancel(move->timer);
  parts_.runtime.timers.Cancel(move->commit_timer);
  if (move->call) parts_.rpc.Cancel(*move->call);
  std::erase(to_freeze_, move);
  std::erase_if(to_store_, [&](const auto& entry) { return entry.first == move; });
  moves_.erase(move->partition);
  EndFreeze(move);
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
  const base::Instant now = parts_.runtime.clock.Now();
  if (parts_.bytes_per_second > 0 && next_slice_ > now) {
    return Later(move, next_slice_ - now, [this, move] { AskSlice(move); });
  }
  Ask(move, CopyMode::kSlice);
}

void MoveTarget::Ask(const MovePtr& move, CopyMode mode) {
  const protocol::CopyRequest request{move->partition, move->id, move->tenure, mode,
                                      move->since_cut, move->at};
  move->call = parts_.rpc.Call(move->source, parts_.sender, request, {},
                               mode == CopyMode::kFreeze ? kFreezeCall : kCopyCall,
                               [this, move, mode](Result<Packet> packet) {
                                 move->call.reset();
                                 OnAnswer(move, mode, std::move(packet));
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
  if (parts_.bytes_per_second > 0) {
    const base::Instant from = std::max(next_slice_, parts_.runtime.clock.Now());
    next_slice_ = from + base::Duration(bytes * 1'000'000 / parts_.bytes_per_second);
  }
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
  if (!move->freezing) return;
  move->freezing = false;
  std::erase(freezing_, move);
  if (!freezing_.empty()) return;
  if (to_freeze_.empty()) parts_.checkpointer.Resume();
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
                  [](const Result<Packet>&) {});
  return out;
}

}  // namespace freshet::ps
