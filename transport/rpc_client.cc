// SPDX-License-Identifier: Apache-2.0
#include "transport/rpc_client.h"

#include <algorithm>
#include <utility>

namespace freshet::transport {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Packet;
using protocol::RequestId;

RpcClient::RpcClient(Endpoint& endpoint, base::Runtime runtime, size_t max_in_flight)
    : endpoint_(endpoint), runtime_(runtime), max_in_flight_(max_in_flight) {
  // A restarted process must not take replies to its predecessor for its own.
  next_ = RequestId(runtime_.random.Next() >> 16);
}

RpcClient::~RpcClient() {
  for (auto& [id, pending] : pending_) runtime_.timers.Cancel(pending.timer);
}

void RpcClient::Start(RequestId id, PeerId peer, Packet packet, const CallOptions& options,
                      Callback callback) {
  Pending pending{peer,
                  std::move(packet),
                  runtime_.clock.Now() + options.deadline,
                  options.attempt,
                  options.max_attempt,
                  {},
                  std::move(callback)};
  const bool full = pending_.size() >= max_in_flight_;
  pending_.emplace(id, std::move(pending));
  if (full) {
    pending_.at(id).timer = runtime_.timers.After(base::Duration(0), [this, id] {
      Finish(id, Fail(ErrorCode::kResourceExhausted, "too many requests in flight"));
    });
    return;
  }
  Attempt(id);
}

void RpcClient::Attempt(RequestId id) {
  Pending& pending = pending_.at(id);
  const base::Instant now = runtime_.clock.Now();
  if (now >= pending.deadline) {
    Finish(id, Fail(ErrorCode::kTimeout, "no answer before the deadline"));
    return;
  }
  // A full or missing pipe is like a lost packet: the timer repeats it, sooner than a lost one.
  const auto sent = endpoint_.Send(pending.peer, pending.packet);
  if (!sent && sent.error().code == ErrorCode::kInvalidArgument) {
    pending.timer = runtime_.timers.After(
        base::Duration(0), [this, id, error = sent.error()] { Finish(id, tl::unexpected(error)); });
    return;
  }
  base::Duration wait = pending.wait;
  if (sent) {
    pending.wait = std::min(pending.wait * 2, pending.max_wait);
  } else {
    wait = std::min<base::Duration>(wait, std::chrono::milliseconds(10));
  }
  wait = std::min<base::Duration>(wait, pending.deadline - now);
  pending.timer = runtime_.timers.After(wait, [this, id] {
    ++repeats_;
    Attempt(id);
  });
}

bool RpcClient::OnReply(PeerId from, const protocol::Envelope& envelope, Packet& packet) {
  const auto it = pending_.find(envelope.request);
  if (it == pending_.end() || it->second.peer != from) return false;
  if (envelope.type == protocol::MessageType::kErrorReply) {
    auto error = protocol::DecodeBody<protocol::ErrorReply>(packet);
    if (!error) return false;
    Finish(it->first, Fail(error->code, std::move(error->message)));
  } else {
    Finish(it->first, std::move(packet));
  }
  return true;
}

void RpcClient::Cancel(RequestId request) {
  const auto it = pending_.find(request);
  if (it == pending_.end()) return;
  runtime_.timers.Cancel(it->second.timer);
  pending_.erase(it);
}

void RpcClient::Redirect(PeerId from, PeerId to) {
  for (auto& [id, pending] : pending_) {
    if (pending.peer != from) continue;
    pending.peer = to;
    runtime_.timers.Cancel(pending.timer);
    pending.timer = runtime_.timers.After(base::Duration(0), [this, id = id] { Attempt(id); });
  }
}

void RpcClient::GiveUp(PeerId peer, const base::Error& error) {
  for (auto& [id, pending] : pending_) {
    if (pending.peer != peer) continue;
    runtime_.timers.Cancel(pending.timer);
    pending.timer = runtime_.timers.After(
        base::Duration(0), [this, id = id, error] { Finish(id, tl::unexpected(error)); });
  }
}

void RpcClient::Finish(RequestId id, Result<Packet> result) {
  auto node = pending_.extract(id);
  runtime_.timers.Cancel(node.mapped().timer);
  node.mapped().callback(std::move(result));
}

}  // namespace freshet::transport
