// SPDX-License-Identifier: Apache-2.0
#include "ps/ps_node.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/mutant.h"
#include "base/stop_point.h"
#include "ps/audit_reply.h"

namespace freshet::ps {

using base::ErrorCode;
using base::Result;
using protocol::MessageType;
using protocol::Packet;
using protocol::PartitionId;
using protocol::RequestId;
using protocol::Tenure;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::PeerId;

namespace {

// Requests for a checkpoint that wait for the disk, which may be full for long.
constexpr size_t kMaxCheckpoints = 64;
// Several partitions move at once, each with one request at a time.
constexpr size_t kMaxCalls = 256;
// A server that is to leave goes on storing images as long as one gets through in this time.
constexpr seconds kDrainPatience{20};

// The newest state that is whole. A damaged image is never served: the partition falls back to the state
// before it, with the applied set that belongs to that, and the log gives the rest again.
Result<std::vector<protocol::Image>> LoadSound(checkpoint::ImageStore& store,
                                               PartitionId partition) {
  auto images = store.Load(partition);
  if (images || images.error().code != ErrorCode::kCorrupt) return images;
  FRESHET_LOG_ERROR("damaged: {}", images.error().message);
  const auto removed = store.Repair(partition);
  if (!removed) return base::Fail(removed.error().code, removed.error().message);
  FRESHET_LOG_ERROR("partition {} falls back by {} images; what they held is learnt again",
                    partition.value(), *removed);
  return store.Load(partition);
}

// Only for MUTANT(kAdoptWatermark): what rule G2 forbids.
void AdoptWatermarks(const Slots& slots, Partition* partition) {
  for (const Slot& other : slots) {
    if (!other.serving()) continue;
    for (const auto& entry : other.partition->applied().logs()) {
      const auto gaps = partition->applied().Of(entry.log).Gaps({0, entry.set.Watermark()});
      for (const protocol::Span& gap : gaps.spans()) partition->RecordApplied(entry.log, gap);
    }
  }
}

}  // namespace

PsNode::PsNode(PsOptions options, base::Runtime runtime, transport::Endpoint& endpoint,
               checkpoint::ImageStore& store, ExitHandler exit)
    : options_(std::move(options)),
      runtime_(runtime),
      endpoint_(endpoint),
      store_(store),
      exit_(std::move(exit)),
      arena_(RowArenaOptions{.limit_bytes = options_.memory_limit_bytes}),
      toucher_(arena_, options_.memory_executor),
      data_(slots_, tables_),
      checkpointer_(slots_, store, runtime, options_.checkpoint),
      copier_(slots_, store, runtime, checkpointer_),
      source_(slots_),
      rpc_(endpoint, runtime, kMaxCalls),
      process_(runtime.random.Next()),
      target_({runtime, endpoint, rpc_, sender_, master_, tables_, arena_, store, checkpointer_,
               options_.migration_pace}),
      work_(runtime.clock, runtime.timers, options_.processor_times) {
  checkpointer_.on_failure = [this](const std::string& why) {
    Exit(1, "cannot make images durable: " + why);
  };
  checkpointer_.on_saved = [this] { HeartbeatSoon(); };
  target_.on_store_failure = checkpointer_.on_failure;
}

PsNode::~PsNode() {
  runtime_.timers.Cancel(heartbeat_timer_);
  runtime_.timers.Cancel(register_timer_);
  runtime_.timers.Cancel(drain_timer_);
}

void PsNode::Start() {
  const auto peer = endpoint_.Connect(options_.master);
  if (!peer) {
    Exit(ExitCodeFor(peer.error().code), peer.error().message);
    return;
  }
  master_ = *peer;
  checkpointer_.Start();
  Register();
}

void PsNode::Register() {
  const protocol::RegisterRequest request{protocol::Role::kPs, options_.name, options_.address,
                                          process_, options_.pid};
  rpc_.Call(master_, sender_, request, {},
            {.deadline = seconds(10), .attempt = milliseconds(100), .max_attempt = seconds(1)},
            [this](Result<Packet> reply) { OnRegistered(std::move(reply)); });
}

void PsNode::OnRegistered(Result<Packet> packet) {
  if (packet) {
    auto reply = protocol::DecodeAs<protocol::RegisterReply>(*packet);
    if (reply) {
      sender_ = {reply->cluster, reply->incarnation};
      heartbeat_interval_ = milliseconds(std::clamp<uint64_t>(reply->heartbeat_ms, 10, 10'000));
      tables_.set_seed(reply->job.seed);
      FRESHET_LOG_INFO("registered as {} incarnation {}", options_.name,
                       reply->incarnation.value());
      OnView(reply->view);
      Heartbeat();
      return;
    }
    packet = base::Fail(reply.error().code, reply.error().message);
  }
  if (packet.error().code != ErrorCode::kTimeout &&
      packet.error().code != ErrorCode::kUnavailable) {
    Exit(ExitCodeFor(packet.error().code), "the master refused us: " + packet.error().message);
    return;
  }
  FRESHET_LOG_WARN("no answer from the master at {} yet", options_.master);
  register_timer_ = runtime_.timers.After(milliseconds(200), [this] { Register(); });
}

void PsNode::OnView(const protocol::View& view) {
  const bool old = view.number <= view_.number && !MUTANT(kViewsOutOfOrder);
  if (exited_ || old) return;  // rule G7
  if (auto ok = protocol::ValidateView(view); !ok) {
    FRESHET_LOG_ERROR("{}", ok.error().message);
    return;
  }
  if (view_.partitions() != 0 && view.partitions() != view_.partitions()) {
    Exit(1, "the number of partitions changed under a running PS");
    return;
  }
  const auto self = view.FindNode(options_.name);
  if (!self || view.nodes[*self].incarnation != sender_.incarnation) {
    Exit(ExitCodeFor(ErrorCode::kConflict), "another process has taken the name " + options_.name);
    return;
  }
  AddTables(view);
  view_ = view;
  slots_.resize(view.partitions());
  for (size_t p = 0; p < view.places.size(); ++p) {
    const PartitionId partition(static_cast<uint16_t>(p));
    const protocol::Place& place = view.places[p];
    Slot& slot = slots_[p];
    if (place.node != *self) {
      Deactivate(partition, place.tenure);
    } else if (slot.state == SlotState::kAbsent || slot.tenure != place.tenure) {
      Activate(partition, place.tenure);
    }
    const auto leaves = place.node == *self ? place.migration : protocol::MigrationId();
    if (slot.migration != leaves) slot.frozen = false;  // rule G12
    slot.migration = leaves;
  }
  target_.OnView(view_, *self);
  LoadNext();
}

void PsNode::AddTables(const protocol::View& view) {
  for (const protocol::Table& table : view.tables) {
    if (tables_.Schema(table.id) != nullptr) continue;
    if (auto ok = tables_.Add(table); !ok) {
      FRESHET_LOG_ERROR("table {} refused: {}", table.schema.name, ok.error().message);
    }
  }
}

// Rule G8: the newest image of the store, read after the tenure was written, once per tenure; or the
// same rows, which are here already because they came by a migration.
void PsNode::Activate(PartitionId partition, Tenure tenure) {
  Slot& slot = slots_[partition.value()];
  slot = Slot();
  slot.tenure = tenure;
  if (auto arrived = target_.Take(partition, tenure)) {
    slot.state = SlotState::kServing;
    slot.partition = std::move(arrived->partition);
    if (MUTANT(kServeOldRows) && left_rows_.contains(partition)) {
      slot.partition = std::move(left_rows_.extract(partition).mapped());
    }
    slot.saved = arrived->saved;
    slot.saved_cut = slot.partition->current_cut() - 1;
    slot.saved_bytes = arrived->saved_bytes;
    slot.difference_bytes = arrived->difference_bytes;
    slot.differences = arrived->differences;
    // Its first image of this tenure can wait for the next interval: what is stored holds all that was
    // claimed for it.
    HeartbeatSoon();
    return;
  }
  slot.state = SlotState::kLoading;
  to_load_.emplace_back(partition, tenure);
}

void PsNode::Deactivate(PartitionId partition, Tenure below) {
  Slot& slot = slots_[partition.value()];
  if (slot.state == SlotState::kAbsent) return;
  base::StopPoint("source_drops");
  if (MUTANT(kServeOldRows) && slot.serving()) left_rows_[partition] = std::move(slot.partition);
  slot = Slot();
  checkpointer_.RemoveLater(partition, below);
}

void PsNode::LoadNext() {
  if (load_running_ || exited_) return;
  // What somebody waits for comes first.
  const auto wanted = std::find_if(to_load_.begin(), to_load_.end(), [this](const auto& entry) {
    return slots_[entry.first.value()].wanted;
  });
  if (wanted != to_load_.end()) std::iter_swap(to_load_.begin(), wanted);
  if (to_load_.empty()) return;
  const auto [partition, tenure] = to_load_.front();
  to_load_.pop_front();
  load_running_ = true;
  auto images = std::make_shared<Result<std::vector<protocol::Image>>>();
  runtime_.executor.Run(
      [images, store = &store_, partition = partition] { *images = LoadSound(*store, partition); },
      [this, images, partition = partition, tenure = tenure] {
        load_running_ = false;
        OnLoaded(partition, tenure, std::move(*images));
        LoadNext();
      });
}

void PsNode::OnLoaded(PartitionId partition, Tenure tenure,
                      Result<std::vector<protocol::Image>> images) {
  Slot& slot = slots_[partition.value()];
  if (slot.state != SlotState::kLoading || slot.tenure != tenure) return;
  if (!images && images.error().code != ErrorCode::kNotFound) {
    Exit(1, "cannot load partition " + std::to_string(partition.value()) + ": " +
                images.error().message);
    return;
  }
  slot.partition = std::make_unique<Partition>(partition, tables_, arena_);
  if (images) {
    const RowArena::NoLimit no_limit(arena_);
    if (auto ok = slot.partition->Restore(*images); !ok) {
      Exit(1, "cannot restore partition " + std::to_string(partition.value()) + ": " +
                  ok.error().message);
      return;
    }
    slot.saved = images->back().header.stamp;
    slot.saved_cut = slot.partition->current_cut() - 1;
    slot.saved_bytes = images->front().Bytes();
    slot.differences = static_cast<uint32_t>(images->size() - 1);
    for (size_t i = 1; i < images->size(); ++i) slot.difference_bytes += (*images)[i].Bytes();
  }
  if (MUTANT(kAdoptWatermark)) AdoptWatermarks(slots_, slot.partition.get());
  slot.state = SlotState::kServing;
  if (to_load_.empty()) {
    FRESHET_LOG_INFO("serving every partition of view {}", view_.number.value());
    HeartbeatSoon();
    checkpointer_.Soon();
  }
}

void PsNode::HeartbeatSoon() {
  if (sender_.incarnation.value() == 0) return;
  runtime_.timers.Cancel(heartbeat_timer_);
  heartbeat_timer_ = runtime_.timers.After(milliseconds(1), [this] { Heartbeat(); });
}

// While memory is full a batch that waits keeps its worker from learning again what a crash takes away. So
// what was learnt until then becomes durable now.
void PsNode::NoteRefused() {
  if (std::exchange(refused_, data_.refused()) == data_.refused()) return;
  const base::Instant now = runtime_.clock.Now();
  const auto last = std::exchange(last_refused_, now);
  if (!last || now - *last > options_.checkpoint.interval) checkpointer_.Soon();
}

void PsNode::Heartbeat() {
  runtime_.timers.Cancel(heartbeat_timer_);
  heartbeat_timer_ = runtime_.timers.After(heartbeat_interval_, [this] { Heartbeat(); });
  for (Slot& slot : slots_) slot.frozen = slot.frozen && !MUTANT(kUnfreezeAlone);
  NoteRefused();
  // A heartbeat is never repeated: the next one says more.
  heartbeat_calls_.Add(rpc_.Call(
      master_, sender_, BuildHeartbeat(), {}, {.deadline = seconds(5), .attempt = seconds(5)},
      [this](Result<Packet> reply) { OnHeartbeatReply(std::move(reply)); }));
}

void PsNode::OnHeartbeatReply(Result<Packet> packet) {
  if (!packet) {
    if (packet.error().code == ErrorCode::kConflict) {
      Exit(ExitCodeFor(ErrorCode::kConflict), packet.error().message);
    } else if (packet.error().code == ErrorCode::kUnavailable && !draining_) {
      FRESHET_LOG_INFO("{}", packet.error().message);
      Drain([this] { Exit(0, "the cluster was stopped"); });
    }
    return;
  }
  auto reply = protocol::DecodeAs<protocol::HeartbeatReply>(*packet);
  if (reply && reply->view) OnView(*reply->view);
}

protocol::PsHeartbeat PsNode::BuildHeartbeat() const {
  protocol::PsHeartbeat heartbeat;
  heartbeat.view = view_.number;
  const auto index_of = [](auto& distinct, const auto& value) {
    // Most partitions share the last one seen. After a restart each has its own for a while: then it
    // is cheaper to send one twice than to compare all with all.
    const size_t oldest = distinct.size() - std::min<size_t>(distinct.size(), 16);
    for (size_t i = distinct.size(); i-- > oldest;) {
      if (distinct[i] == value) return static_cast<uint16_t>(i);
    }
    distinct.push_back(value);
    return static_cast<uint16_t>(distinct.size() - 1);
  };
  for (size_t p = 0; p < slots_.size(); ++p) {
    const Slot& slot = slots_[p];
    if (slot.state == SlotState::kLoading) ++heartbeat.stats.loading;
    if (!slot.serving()) continue;
    heartbeat.partitions.push_back({PartitionId(static_cast<uint16_t>(p)), slot.tenure,
                                    index_of(heartbeat.applied, slot.partition->applied()),
                                    index_of(heartbeat.durable, slot.durable),
                                    slot.partition->bytes(), slot.touched});
    heartbeat.stats.rows += slot.partition->rows();
  }
  heartbeat.stats.memory_bytes = arena_.used_bytes();
  heartbeat.stats.memory_limit_bytes = arena_.limit_bytes();
  heartbeat.stats.busy_us = work_.busy_us();
  heartbeat.stats.processor_us = work_.processor_us();
  heartbeat.stats.out_of_memory = data_.refused();
  heartbeat.stats.rows_pulled = data_.rows_pulled();
  heartbeat.stats.rows_pushed = data_.rows_pushed();
  heartbeat.stats.images_saved = checkpointer_.images_saved();
  heartbeat.stats.image_bytes = checkpointer_.bytes_saved();
  return heartbeat;
}

void PsNode::Drain(std::function<void()> done) {
  draining_ = true;
  if (MUTANT(kDrainAtOnce)) return done();
  auto pending = std::make_shared<std::function<void()>>(std::move(done));
  const auto leave = [this, pending] {
    if (*pending == nullptr) return;
    runtime_.timers.Cancel(drain_timer_);
    // The master learns what is durable before we are gone.
    if (sender_.incarnation.value() != 0) Heartbeat();
    std::exchange(*pending, nullptr)();
  };
  WatchDrain(checkpointer_.images_saved(), leave);
  checkpointer_.Flush(leave);
}

// A disk that is full may stay so; what it did not take is learnt again.
void PsNode::WatchDrain(uint64_t images_saved, const std::function<void()>& leave) {
  runtime_.timers.Cancel(drain_timer_);
  drain_timer_ = runtime_.timers.After(kDrainPatience, [this, images_saved, leave] {
    if (checkpointer_.images_saved() > images_saved) {
      return WatchDrain(checkpointer_.images_saved(), leave);
    }
    FRESHET_LOG_ERROR("leaving although not everything is durable: no image was stored for {} s",
                      kDrainPatience.count());
    leave();
  });
}

void PsNode::OnPacket(PeerId from, Packet packet) {
  if (exited_) return;
  const auto envelope = protocol::DecodeEnvelope(packet);
  if (!envelope) {
    FRESHET_LOG_WARN("packet dropped: {}", envelope.error().message);
    return;
  }
  if (rpc_.OnReply(from, *envelope, packet)) return;
  // An error is never answered: the other side may not know us either, and would answer in its turn.
  if (envelope->type == MessageType::kErrorReply) return;
  if (envelope->type == MessageType::kViewReply && from == master_) {
    auto reply = protocol::DecodeBody<protocol::ViewReply>(packet);
    if (reply && sender_.incarnation.value() != 0) OnView(reply->view);
    return;
  }
  if (envelope->cluster != sender_.cluster || sender_.incarnation.value() == 0) {
    ReplyError(from, envelope->request,
               {ErrorCode::kConflict, "this PS is not part of the sender's cluster"});
    return;
  }
  OnRequest(from, *envelope, packet);
}

void PsNode::OnRequest(PeerId from, const protocol::Envelope& envelope, Packet& packet) {
  switch (envelope.type) {
    case MessageType::kPullRequest:
    case MessageType::kPushRequest: OnData(from, envelope, packet); break;
    case MessageType::kCopyRequest: OnCopy(from, envelope.request, packet); break;
    case MessageType::kCheckpointRequest: OnCheckpoint(from, envelope.request); break;
    case MessageType::kAuditRequest: OnAudit(from, envelope.request); break;
    case MessageType::kBackupRequest: OnBackup(from, envelope.request, packet); break;
    default: break;  // a late reply to a request that is over
  }
}

void PsNode::OnData(PeerId from, const protocol::Envelope& envelope, const Packet& packet) {
  const WorkMeter::Piece piece(work_);
  const bool pull = envelope.type == MessageType::kPullRequest;
  pull ? OnPull(from, envelope.request, packet) : OnPush(from, envelope.request, packet);
}

void PsNode::OnPull(PeerId from, RequestId request, const Packet& packet) {
  const auto body = protocol::DecodeBody<protocol::PullRequest>(packet);
  if (!body) return ReplyError(from, request, body.error());
  auto pulled = data_.OnPull(*body, packet);
  if (!pulled) return ReplyError(from, request, pulled.error());
  pulled->reply.view = view_.number;
  Reply(from, request, pulled->reply, std::move(pulled->values));
}

void PsNode::OnPush(PeerId from, RequestId request, const Packet& packet) {
  const auto body = protocol::DecodeBody<protocol::PushRequest>(packet);
  if (!body) return ReplyError(from, request, body.error());
  if (draining_) {
    return ReplyError(from, request, {ErrorCode::kUnavailable, "this PS is draining"});
  }
  auto reply = data_.OnPush(*body, packet);
  if (!reply) return ReplyError(from, request, reply.error());
  reply->view = view_.number;
  Reply(from, request, *reply);
}

void PsNode::OnCheckpoint(PeerId from, RequestId request) {
  const std::pair key(from, request);
  if (checkpoints_.contains(key)) return;
  if (checkpoints_.size() >= kMaxCheckpoints) {
    return ReplyError(from, request,
                      {ErrorCode::kResourceExhausted,
                       "too many checkpoints are waiting to become durable: see this PS's log"});
  }
  checkpoints_.insert(key);
  checkpointer_.Flush([this, from, request] {
    checkpoints_.erase({from, request});
    Heartbeat();
    Reply(from, request,
          protocol::CheckpointReply{checkpointer_.images_saved(), checkpointer_.bytes_saved()});
  });
}

void PsNode::OnAudit(PeerId from, RequestId request) { Reply(from, request, AuditOf(slots_)); }

void PsNode::OnCopy(PeerId from, RequestId request, const Packet& packet) {
  const auto body = protocol::DecodeBody<protocol::CopyRequest>(packet);
  if (!body) return ReplyError(from, request, body.error());
  const base::Duration began = work_.Used();
  auto answer = source_.Handle(*body);
  if (!answer) return ReplyError(from, request, answer.error());
  answer->reply.turn_us = static_cast<uint64_t>((work_.Used() - began).count());
  const base::Duration quiet = runtime_.clock.Now() - work_.last_work();
  answer->reply.quiet_us = static_cast<uint64_t>(quiet.count());
  Reply(from, request, answer->reply, std::move(answer->blocks));
}

void PsNode::OnBackup(PeerId from, RequestId request, const Packet& packet) {
  const auto body = protocol::DecodeBody<protocol::BackupRequest>(packet);
  if (!body) return ReplyError(from, request, body.error());
  if (draining_) {
    return ReplyError(from, request, {ErrorCode::kUnavailable, "this PS is draining"});
  }
  Reply(from, request, copier_.Handle(*body, sender_.incarnation));
}

template <class Message>
void PsNode::Reply(PeerId to, RequestId request, const Message& message,
                   std::vector<protocol::Buffer> arrays) {
  // A reply that cannot be queued is a lost reply: the other side asks again.
  (void)endpoint_.Send(to, protocol::EncodePacket(sender_, request, message, std::move(arrays)));
}

void PsNode::ReplyError(PeerId to, RequestId request, const base::Error& error) {
  Reply(to, request, protocol::ErrorReply{error.code, error.message});
}

void PsNode::Exit(int code, const std::string& why) {
  if (exited_) return;
  exited_ = true;
  if (code == 0) {
    FRESHET_LOG_INFO("{}", why);
  } else {
    FRESHET_LOG_ERROR("{}", why);
  }
  exit_(code, why);
}

}  // namespace freshet::ps
