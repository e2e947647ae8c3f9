// SPDX-License-Identifier: Apache-2.0
#include "worker/client/session.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/mutant.h"

namespace freshet::worker {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::MessageType;
using protocol::Packet;
using protocol::RequestId;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::PeerId;

namespace {

// A cluster may be busy restarting; the master is asked for as long as the process lives.
constexpr transport::CallOptions kMasterCall{
    .deadline = seconds(10), .attempt = milliseconds(300), .max_attempt = seconds(2)};
// Rule G17: a frozen or dead old owner never says 'not owner', so the view is asked for anyway.
constexpr uint32_t kRefreshEvery = 3;
// Heartbeats' worth of predictions on their way to the master.
constexpr size_t kMaxUnacknowledged = 4;

// The simulator's broken workers hear of views only from whoever refuses them, or only with leases too.
bool HearsOfViews() {
  return !MUTANT(kViewOnWrongOwnerOnly) && !MUTANT(kNoViewOnRetry) && !MUTANT(kNoViewNoDeadline);
}

}  // namespace

Session::Session(SessionOptions options, base::Runtime runtime, transport::Endpoint& endpoint)
    : options_(std::move(options)),
      runtime_(runtime),
      endpoint_(endpoint),
      rpc_(endpoint, runtime, options_.max_in_flight),
      process_(runtime.random.Next()) {}

Session::~Session() {
  runtime_.timers.Cancel(heartbeat_timer_);
  runtime_.timers.Cancel(register_timer_);
  for (auto& [id, timer] : later_) runtime_.timers.Cancel(timer);
  for (auto& [id, call] : calls_) runtime_.timers.Cancel(call.retry_timer);
}

void Session::Start() {
  const auto peer = endpoint_.Connect(options_.master);
  if (!peer) {
    Exit(ExitCodeFor(peer.error().code), peer.error().message);
    return;
  }
  master_ = *peer;
  Register();
}

void Session::Register() {
  const protocol::RegisterRequest request{protocol::Role::kWorker, options_.name, "", process_,
                                          options_.pid};
  rpc_.Call(master_, sender_, request, {}, kMasterCall,
            [this](Result<Packet> reply) { OnRegistered(std::move(reply)); });
}

void Session::OnRegistered(Result<Packet> packet) {
  if (packet) {
    auto reply = protocol::DecodeAs<protocol::RegisterReply>(*packet);
    if (reply) {
      sender_ = {reply->cluster, reply->incarnation};
      options_.name = reply->name;
      heartbeat_interval_ = milliseconds(std::clamp<uint64_t>(reply->heartbeat_ms, 10, 10'000));
      OnView(reply->view);
      if (partitions() == 0) Exit(1, "the master's view cannot be used");
      if (exited_) return;
      Heartbeat();
      if (on_registered) on_registered(*reply);
      return;
    }
    packet = Fail(reply.error().code, reply.error().message);
  }
  if (packet.error().code != ErrorCode::kTimeout &&
      packet.error().code != ErrorCode::kUnavailable) {
    Exit(ExitCodeFor(packet.error().code), "the master refused us: " + packet.error().message);
    return;
  }
  FRESHET_LOG_WARN("no answer from the master at {} yet", options_.master);
  register_timer_ = runtime_.timers.After(milliseconds(200), [this] { Register(); });
}

void Session::OnView(const protocol::View& view) {
  if (exited_ || view.number <= view_.number) return;
  if (auto ok = protocol::ValidateView(view); !ok) {
    FRESHET_LOG_ERROR("{}", ok.error().message);
    return;
  }
  if (view_.partitions() != 0 && view.partitions() != view_.partitions()) {
    Exit(1, "the number of partitions changed under a running worker");
    return;
  }
  view_ = view;
  ConnectPeers();
  // Whatever was sent to a process that is gone will not be answered: ask its successor now.
  std::vector<RequestId> lost;
  for (const auto& [request, attempt] : attempts_) {
    const auto peer = peers_.find(attempt.node);
    if (peer == peers_.end() || peer->second.incarnation != attempt.incarnation) {
      lost.push_back(request);
    }
  }
  for (const RequestId request : lost) {
    rpc_.Cancel(request);
    OnAttempt(request, Fail(ErrorCode::kUnreachable, "the server was replaced"));
  }
  std::vector<CallId> ids;
  for (auto& [id, call] : calls_) {
    if (call.routed.Waiting().empty()) continue;
    // What they waited for is perhaps over.
    call.routed.attempts_without_progress = 0;
    ids.push_back(id);
  }
  for (const CallId id : ids) Drive(id);
}

void Session::ConnectPeers() {
  for (uint16_t n = 0; n < view_.nodes.size(); ++n) {
    const protocol::ViewNode& node = view_.nodes[n];
    const auto it = peers_.find(n);
    if (it != peers_.end()) {
      if (it->second.incarnation == node.incarnation) continue;
      endpoint_.Disconnect(it->second.peer);
      peers_.erase(it);
    }
    if (node.incarnation.value() == 0) continue;
    const auto peer = endpoint_.Connect(node.address);
    if (!peer) {
      FRESHET_LOG_ERROR("cannot connect to {}: {}", node.name, peer.error().message);
      continue;
    }
    peers_[n] = {node.incarnation, *peer};
  }
}

void Session::RefreshView() {
  if (refreshing_ || exited_) return;
  refreshing_ = true;
  rpc_.Call(master_, sender_, protocol::ViewRequest{view_.number}, {}, kMasterCall,
            [this](Result<Packet> packet) {
              refreshing_ = false;
              if (!packet) return;
              auto reply = protocol::DecodeAs<protocol::ViewReply>(*packet);
              if (reply) OnView(reply->view);
            });
}

void Session::Heartbeat() {
  runtime_.timers.Cancel(heartbeat_timer_);
  heartbeat_timer_ = runtime_.timers.After(heartbeat_interval_, [this] { Heartbeat(); });
  protocol::WorkerHeartbeat heartbeat;
  heartbeat.view = view_.number;
  heartbeat.stats = stats_;
  heartbeat.fatal = fatal_;
  heartbeat.lease = lease_;
  SendChunks(&heartbeat);
  heartbeat_calls_.Add(rpc_.Call(master_, sender_, heartbeat, {},
                                 {.deadline = seconds(5), .attempt = seconds(5)},
                                 [this, sent = chunks_sent_](Result<Packet> reply) {
                                   OnHeartbeatReply(sent, std::move(reply));
                                 }));
}

// A chunk is repeated as it is until it is acknowledged, so that the master can tell that it is one it
// has counted; while too many are on their way, what comes meanwhile waits in the next one.
void Session::SendChunks(protocol::WorkerHeartbeat* heartbeat) {
  if (!chunks_.empty() && unacknowledged_.size() < kMaxUnacknowledged) {
    SentChunks& sent = unacknowledged_.emplace_back();
    sent.number = ++chunks_sent_;
    for (auto& [log, chunk] : std::exchange(chunks_, {})) {
      auto delta = chunk.histogram.ToDelta();
      sent.chunks.push_back({log, chunk.spans, std::move(delta.buckets), std::move(delta.positive),
                             std::move(delta.negative), delta.loss_sum});
    }
  }
  for (const SentChunks& sent : unacknowledged_) {
    heartbeat->validation.insert(heartbeat->validation.end(), sent.chunks.begin(),
                                 sent.chunks.end());
  }
}

void Session::OnHeartbeatRefused(const base::Error& error) {
  const bool must_leave = error.code == ErrorCode::kUnavailable;
  if (error.code == ErrorCode::kConflict || (must_leave && !on_leave)) {
    return Exit(ExitCodeFor(error.code), error.message);
  }
  if (!must_leave || leaving_) return;
  leaving_ = true;
  FRESHET_LOG_INFO("{}", error.message);
  on_leave();
}

void Session::OnHeartbeatReply(uint64_t chunks_sent, Result<Packet> packet) {
  // A master that asks us to leave has taken what the heartbeat said.
  if (packet || packet.error().code == ErrorCode::kUnavailable) {
    while (!unacknowledged_.empty() && unacknowledged_.front().number <= chunks_sent) {
      unacknowledged_.pop_front();
    }
  }
  if (!packet) return OnHeartbeatRefused(packet.error());
  const auto reply = protocol::DecodeAs<protocol::HeartbeatReply>(*packet);
  if (reply && reply->view && HearsOfViews()) OnView(*reply->view);
}

void Session::ReportFatal(const std::string& why) {
  fatal_ = why;
  Heartbeat();
}

void Session::AddValidation(protocol::LogId log, protocol::Span span,
                            const protocol::ValidationHistogram& predictions) {
  // A span that was learnt or evaluated again, since the master did not hear of it or a server fell
  // back: its first predictions are on their way.
  for (const SentChunks& sent : unacknowledged_) {
    for (const protocol::ValidationChunk& chunk : sent.chunks) {
      if (chunk.log == log && chunk.spans.Compare(span) != protocol::Overlap::kDisjoint) return;
    }
  }
  Chunk& chunk = chunks_[log];
  if (chunk.spans.Compare(span) != protocol::Overlap::kDisjoint) return;
  chunk.spans.Add(span);
  chunk.histogram.Merge(predictions);
}

void Session::DeclareTables(std::vector<protocol::TableSchema> tables, TablesCallback done) {
  SendDeclare(std::move(tables), std::move(done));
}

void Session::SendDeclare(std::vector<protocol::TableSchema> tables, TablesCallback done) {
  const protocol::DeclareTablesRequest request{tables};
  rpc_.Call(
      master_, sender_, request, {}, kMasterCall,
      [this, tables = std::move(tables), done = std::move(done)](Result<Packet> packet) mutable {
        if (!packet) {
          if (packet.error().code == ErrorCode::kTimeout) {
            SendDeclare(std::move(tables), std::move(done));
          } else {
            done(Fail(packet.error().code, packet.error().message));
          }
          return;
        }
        auto reply = protocol::DecodeAs<protocol::DeclareTablesReply>(*packet);
        if (!reply) return done(Fail(reply.error().code, reply.error().message));
        OnView(reply->view);
        std::vector<protocol::TableId> ids;
        for (const protocol::TableSchema& schema : tables) {
          const protocol::Table* table = view_.FindTable(schema.name);
          if (table == nullptr) {
            return done(Fail(ErrorCode::kNotFound, "table " + schema.name + " is not in the view"));
          }
          ids.push_back(table->id);
        }
        done(std::move(ids));
      });
}

void Session::RequestLease(const LeaseCall& call, LeaseCallback done) {
  // What was predicted under the lease is heard before its end, which may be the end of the job.
  if (call.how != protocol::LeaseEnd::kNone) Heartbeat();
  SendLease({++lease_sequence_, call.ended, call.how, call.wants_more}, std::move(done));
}

void Session::SendLease(protocol::LeaseRequest request, LeaseCallback done) {
  rpc_.Call(master_, sender_, request, {}, kMasterCall,
            [this, request, done = std::move(done)](Result<Packet> packet) mutable {
              if (packet) {
                auto reply = protocol::DecodeAs<protocol::LeaseReply>(*packet);
                if (reply && reply->sequence == request.sequence) {
                  if (!MUTANT(kViewOnWrongOwnerOnly)) OnView(reply->view);
                  done(std::move(*reply));
                  return;
                }
              } else if (packet.error().code == ErrorCode::kConflict) {
                Exit(ExitCodeFor(ErrorCode::kConflict), packet.error().message);
                return;
              }
              later_[request.sequence] = runtime_.timers.After(
                  milliseconds(100), [this, request, done = std::move(done)]() mutable {
                    later_.erase(request.sequence);
                    SendLease(request, std::move(done));
                  });
            });
}

void Session::Pull(std::vector<RoutedRows> rows, PullCallback done) {
  CHECK(partitions() > 0);
  StartCall({RoutedCall::Pull(std::move(rows), partitions()), std::move(done), {}, {}, {}, false});
}

void Session::Push(PushCall push, PushCallback done) {
  CHECK(partitions() > 0 && !push.span.empty());
  auto audit = std::make_unique<AuditRows>(push.log, push.span, push.dead, partitions());
  push.rows.push_back(audit->Routed());
  StartCall({RoutedCall::Push(push.log, push.span, std::move(push.rows), partitions()),
             {},
             std::move(done),
             std::move(audit),
             {},
             false});
}

void Session::StartCall(Call call) {
  const CallId id = ++next_call_;
  const int patience = MUTANT(kNoViewNoDeadline) ? 1000 : 1;
  call.routed.deadline = runtime_.clock.Now() + options_.call_deadline * patience;
  const bool empty = call.routed.finished();
  calls_.emplace(id, std::move(call));
  if (empty) {
    calls_.at(id).retry_timer =
        runtime_.timers.After(base::Duration(0), [this, id] { FinishCall(id, {}); });
    return;
  }
  Drive(id);
}

// Sends what waits to the servers that own it by the newest view.
void Session::Drive(CallId id) {
  Call& call = calls_.at(id);
  std::map<uint16_t, std::vector<uint16_t>> by_node;
  bool homeless = false;
  for (const uint16_t partition : call.routed.Waiting()) {
    const uint16_t node = view_.places[partition].node;
    if (node == protocol::kNoNode || !peers_.contains(node)) {
      homeless = true;
    } else {
      by_node[node].push_back(partition);
    }
  }
  for (auto& [node, cover] : by_node) Send(id, node, std::move(cover));
  if (homeless) ScheduleRetry(id);
}

void Session::Send(CallId id, uint16_t node, std::vector<uint16_t> cover) {
  Call& call = calls_.at(id);
  const Peer& peer = peers_.at(node);
  auto request = call.routed.Prepare(std::move(cover), buffers_);
  // One attempt a request: which server to ask next is decided here, not in the RPC client.
  const transport::CallOptions options{
      .deadline = options_.attempt * (1 + std::min(call.routed.attempts_without_progress, 4u)),
      .attempt = std::chrono::hours(1),
      .max_attempt = std::chrono::hours(1)};
  // The callback needs the request's id, which Call returns.
  auto request_id = std::make_shared<RequestId>();
  const auto on_reply = [this, request_id](Result<Packet> reply) {
    OnAttempt(*request_id, std::move(reply));
  };
  if (call.routed.is_push()) {
    const auto body = call.routed.PushBody(request);
    *request_id = rpc_.Call(peer.peer, sender_, body, std::move(request.arrays), options, on_reply);
  } else {
    const auto body = call.routed.PullBody(request);
    *request_id = rpc_.Call(peer.peer, sender_, body, std::move(request.arrays), options, on_reply);
  }
  attempts_[*request_id] = {id, node, peer.incarnation, std::move(request.cover)};
}

void Session::OnAttempt(RequestId request, Result<Packet> reply) {
  auto node = attempts_.extract(request);
  if (node.empty()) return;
  const Attempt& attempt = node.mapped();
  const CallId id = attempt.call;
  if (!reply && reply.error().code == ErrorCode::kInvalidArgument) {
    // Asking again would not help.
    return FinishCall(id, Fail(reply.error().code, reply.error().message));
  }
  Call& call = calls_.at(id);
  const auto verdict = call.routed.OnReply(attempt.cover, reply);
  if (call.routed.conflict() || call.routed.finished()) return FinishCall(id, {});
  if (call.routed.Waiting().empty()) return;
  if (verdict.progress) {
    call.routed.attempts_without_progress = 0;
  } else {
    ++call.routed.attempts_without_progress;
  }
  // The view that says where they are now was faster than the refusal.
  if (verdict.wrong_owner && HaveMoved(attempt, call.routed.Waiting())) return Drive(id);
  const bool stuck = call.routed.attempts_without_progress % kRefreshEvery == 0;
  if (verdict.wrong_owner || (stuck && HearsOfViews())) {
    RefreshView();
  }
  ScheduleRetry(id);
}

// Whether all that was asked for and has to be asked again is at another server by the newest view.
bool Session::HaveMoved(const Attempt& attempt, const std::vector<uint16_t>& waiting) const {
  return std::none_of(attempt.cover.begin(), attempt.cover.end(), [&](uint16_t partition) {
    return view_.places[partition].node == attempt.node &&
           std::binary_search(waiting.begin(), waiting.end(), partition);
  });
}

void Session::ScheduleRetry(CallId id) {
  Call& call = calls_.at(id);
  if (call.retry_scheduled) return;
  const base::Instant now = runtime_.clock.Now();
  if (now >= call.routed.deadline) {
    FinishCall(id, Fail(ErrorCode::kTimeout, "some partitions did not answer before the deadline"));
    return;
  }
  const uint32_t shift = std::min(call.routed.attempts_without_progress, 10u);
  const auto backoff =
      std::min<base::Duration>(options_.min_backoff * (1 << shift), options_.max_backoff);
  call.retry_scheduled = true;
  call.retry_timer = runtime_.timers.After(backoff, [this, id] {
    Call& waiting = calls_.at(id);
    waiting.retry_scheduled = false;
    const auto& partitions = waiting.routed.Waiting();
    if (partitions.empty()) return;
    const bool homeless = std::any_of(partitions.begin(), partitions.end(), [this](uint16_t p) {
      return !peers_.contains(view_.places[p].node);
    });
    if (homeless) {
      ++waiting.routed.attempts_without_progress;
      RefreshView();
    }
    Drive(id);
  });
}

void Session::DropAttemptsOf(CallId id) {
  for (auto it = attempts_.begin(); it != attempts_.end();) {
    if (it->second.call == id) {
      rpc_.Cancel(it->first);
      it = attempts_.erase(it);
    } else {
      ++it;
    }
  }
}

void Session::FinishCall(CallId id, Result<> outcome) {
  DropAttemptsOf(id);
  auto node = calls_.extract(id);
  Call& call = node.mapped();
  runtime_.timers.Cancel(call.retry_timer);
  if (!call.routed.is_push()) return call.pull_done(std::move(outcome));
  if (!outcome) return call.push_done(Fail(outcome.error().code, outcome.error().message));
  call.push_done(call.routed.push_result());
}

void Session::OnPacket(PeerId from, Packet packet) {
  if (exited_) return;
  const auto envelope = protocol::DecodeEnvelope(packet);
  if (!envelope) {
    FRESHET_LOG_WARN("packet dropped: {}", envelope.error().message);
    return;
  }
  if (sender_.incarnation.value() != 0 && envelope->cluster != sender_.cluster) return;
  if (rpc_.OnReply(from, *envelope, packet)) return;
  if (envelope->type == MessageType::kViewReply && sender_.incarnation.value() != 0) {
    auto reply = protocol::DecodeBody<protocol::ViewReply>(packet);
    if (reply && HearsOfViews()) OnView(reply->view);
  }
}

void Session::Exit(int code, const std::string& why) {
  if (exited_) return;
  exited_ = true;
  FRESHET_LOG_ERROR("{}", why);
  if (on_exit) on_exit(code, why);
}

}  // namespace freshet::worker
