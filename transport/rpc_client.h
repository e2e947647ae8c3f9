// SPDX-License-Identifier: Apache-2.0
// RpcClient: requests with a deadline over a lossy endpoint. One per brain, on the brain's loop.
// Repeats a request under the same id until the deadline (receivers are idempotent); at most
// `max_in_flight` at once. The callback runs exactly once: with the reply, or with kTimeout, an
// ErrorReply's error, kInvalidArgument (a packet that no endpoint would send) or kResourceExhausted;
// never inside Call, never after Cancel or destruction.
#pragma once

#include <deque>
#include <functional>
#include <map>

#include "base/result.h"
#include "base/runtime.h"
#include "protocol/codec.h"
#include "transport/endpoint.h"

namespace freshet::transport {

struct CallOptions {
  base::Duration deadline = std::chrono::seconds(5);
  // First wait before the request is sent again; doubles up to `max_attempt`.
  base::Duration attempt = std::chrono::milliseconds(500);
  base::Duration max_attempt = std::chrono::seconds(2);
};

class RpcClient {
 public:
  using Callback = std::function<void(base::Result<protocol::Packet>)>;

  RpcClient(Endpoint& endpoint, base::Runtime runtime, size_t max_in_flight);
  ~RpcClient();
  RpcClient(const RpcClient&) = delete;
  RpcClient& operator=(const RpcClient&) = delete;

  template <class Message>
  protocol::RequestId Call(PeerId peer, const protocol::Sender& sender, const Message& message,
                           std::vector<protocol::Buffer> arrays, const CallOptions& options,
                           Callback callback) {
    next_ = next_.Next();
    Start(next_, peer, protocol::EncodePacket(sender, next_, message, std::move(arrays)), options,
          std::move(callback));
    return next_;
  }

  // True if the packet answers a request of this client (which is then over): one of that id, from the
  // peer that was asked last.
  bool OnReply(PeerId from, const protocol::Envelope& envelope, protocol::Packet& packet);
  void Cancel(protocol::RequestId request);
  // Whoever was `from` is `to` now: what waits for its answer is asked there, soon.
  void Redirect(PeerId from, PeerId to);
  // Whoever was `peer` will not answer any more: what waits for it ends with `error`, soon.
  void GiveUp(PeerId peer, const base::Error& error);
  size_t in_flight() const { return pending_.size(); }
  uint64_t repeats() const { return repeats_; }

 private:
  struct Pending {
    PeerId peer;
    protocol::Packet packet;
    base::Instant deadline;
    base::Duration wait;
    base::Duration max_wait;
    base::TimerId timer;
    Callback callback;
  };
  void Start(protocol::RequestId id, PeerId peer, protocol::Packet packet,
             const CallOptions& options, Callback callback);
  void Attempt(protocol::RequestId id);
  void Finish(protocol::RequestId id, base::Result<protocol::Packet> result);

  Endpoint& endpoint_;
  base::Runtime runtime_;
  size_t max_in_flight_;
  protocol::RequestId next_;
  std::map<protocol::RequestId, Pending> pending_;
  uint64_t repeats_ = 0;
};

// Calls that say the same thing over and over, each time newer: an answer may take longer than the time
// to the next one, so several are left in flight and only the oldest is given up.
class CallWindow {
 public:
  explicit CallWindow(RpcClient& rpc) : rpc_(rpc) {}
  void Add(protocol::RequestId call) {
    calls_.push_back(call);
    if (calls_.size() <= kMost) return;
    rpc_.Cancel(calls_.front());
    calls_.pop_front();
  }

 private:
  static constexpr size_t kMost = 8;
  RpcClient& rpc_;
  std::deque<protocol::RequestId> calls_;
};

}  // namespace freshet::transport
