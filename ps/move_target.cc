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

}  // namespace

struct MoveTarget::Move {
  PartitionId partition;
  protocol::MigrationId id;
  protocol::Tenure tenure;  // of the source
  PeerId source;
  protocol::Incarnation source_incarnation;
  std::unique_ptr<Partition> rows;
  bool ended = false;
  bool prepared = false;
  base::TimerId timer;
  std::optional<protocol::RequestId> call;
  uint32_t failures = 0;

  protocol::CopyPosition at;  // of the round under way
  uint32_t since_cut = 0;     // of the source; 0 = all rows
  uint32_t next_cut = 0;      // what `since_cut` is for the round or difference after this one
  uint64_t round_bytes = 0;
  uint32_t rounds = 0;
  uint32_t differences = 0;
  uint64_t bytes = 0;

  Stamp stored;  // tenure 0: nothing yet
  uint64_t stored_bytes = 0;
  uint64_t stored_difference_bytes = 0;
  uint32_t stored_differences = 0;
  base::Instant cut_at;
  base::Instant freeze_asked;
};

MoveTarget::~MoveTarget() {
  for (auto& [partition, move] : moves_) {
    move->ended = true;
    // Callbacks that never run may keep the move for longer than the arena lives.
    move->rows = nullptr;
    parts_.runtime.timers.Cancel(move->timer);
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
  if (move == freezing_) return Failed(move, error);
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
  if (move == freezing_) base::StopPoint("target_has_all");
  if (move->stored == stamp) {
    if (move == freezing_) return Prepared(move);
    return WantFreeze(move);
  }
  if (move->stored.tenure.value() == 0) return Store(move, move->rows->CutWhole(stamp.tenure));
  difference.header.partition = move->partition;
  difference.header.stamp = stamp;
  difference.header.base = move->stored;
  difference.header.applied = reply.applied;
  Store(move, std::move(difference));
}

void MoveTarget::Store(const MovePtr& move, Image image) {
  // What a frozen source waits for goes first; nothing else is being written then.
  if (move == freezing_) {
    to_store_.emplace_front(move, std::move(image));
  } else {
    to_store_.emplace_back(move, std::move(image));
  }
  if (MUTANT(kPreparedBeforeDurable) && move == freezing_) {
    move->stored = to_store_.front().second.header.stamp;
    to_store_.pop_front();
    return Prepared(move);
  }
  StoreNext();
}

void MoveTarget::StoreNext() {
  if (storing_ || to_store_.empty()) return;
  if (freezing_ != nullptr && to_store_.front().first != freezing_) return;
  auto [move, image] = std::move(to_store_.front());
  to_store_.pop_front();
  storing_ = true;
  struct Job {
    std::vector<Image> images;
    Result<> saved;
  };
  auto job = std::make_shared<Job>();
  job->images.push_back(std::move(image));
  parts_.runtime.executor.Run(
      [job, store = &parts_.store] {
        const Image& wanted = job->images.front();
        job->saved = store->Save(wanted);
        if (job->saved || job->saved.error().code != ErrorCode::kConflict) return;
        // An earlier attempt to move the partition here may have left the very same image.
        const auto stored = store->List();
        if (!stored) return;
        for (const auto& entry : *stored) {
          const bool same = entry.partition == wanted.header.partition;
          if (same && entry.stamp == wanted.header.stamp) job->saved = {};
        }
      },
      [this, job, move = move] {
        storing_ = false;
        const Image& stored = job->images.front();
        OnStored(move, stored.header, stored.Bytes(), job->saved);
        StoreNext();
        FreezeNext();
      });
}

void MoveTarget::OnStored(const MovePtr& move, const protocol::ImageHeader& header, uint64_t bytes,
                          const Result<>& saved) {
  const bool unknown = !saved && saved.error().code != ErrorCode::kConflict &&
                       saved.error().code != ErrorCode::kResourceExhausted;
  if (unknown) return on_store_failure(saved.error().message);
  if (move->ended) return;
  if (!saved) return Failed(move, saved.error());
  move->stored = header.stamp;
  if (header.whole()) {
    move->stored_bytes = bytes;
    move->stored_difference_bytes = move->stored_differences = 0;
  } else {
    move->stored_difference_bytes += bytes;
    ++move->stored_differences;
  }
  if (move == freezing_) return Prepared(move);
  base::StopPoint("target_stored");
  const bool small = header.whole() ? parts_.runtime.clock.Now() - move->cut_at < kQuickStore
                                    : bytes <= kSmallDifferenceBytes;
  if (small || move->differences >= kMaxDifferences) return WantFreeze(move);
  NextDifference(move);
}

// While a source is frozen nothing but what it waits for is written: the checkpointer pauses, and one
// partition is frozen at a time.
void MoveTarget::WantFreeze(const MovePtr& move) {
  to_freeze_.push_back(move);
  FreezeNext();
}

void MoveTarget::FreezeNext() {
  if (freezing_ != nullptr || to_freeze_.empty() || storing_) return;
  freezing_ = to_freeze_.front();
  to_freeze_.pop_front();
  parts_.checkpointer.Pause([this, move = freezing_] {
    if (move->ended || freezing_ != move) return;
    move->freeze_asked = parts_.runtime.clock.Now();
    Ask(move, CopyMode::kFreeze);
  });
}

void MoveTarget::EndFreeze(const MovePtr& move) {
  if (freezing_ == move) freezing_ = nullptr;
  if (freezing_ != nullptr) return;
  // Also when the last one that waited for its turn ended: nobody else lets the checkpointer go on.
  if (to_freeze_.empty()) parts_.checkpointer.Resume();
  StoreNext();
  FreezeNext();
}

void MoveTarget::Prepared(const MovePtr& move) {
  base::StopPoint("target_durable");
  move->prepared = true;
  protocol::MoveReport report;
  report.state = protocol::MoveState::kPrepared;
  report.applied = move->rows->applied();
  report.rows = move->rows->rows();
  report.bytes = move->bytes;
  Report(move, std::move(report));
  EndFreeze(move);
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
  report.pause_us =
      static_cast<uint64_t>((parts_.runtime.clock.Now() - move->freeze_asked).count());
  // Of interest to people only.
  parts_.rpc.Call(parts_.master, parts_.sender, report, {}, kReportCall,
                  [](const Result<Packet>&) {});
  return out;
}

}  // namespace freshet::ps
