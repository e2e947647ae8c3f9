// SPDX-License-Identifier: Apache-2.0
// Endpoint: how a brain sends packets. The real one is ZmqEndpoint; the simulator has its own.
// A lossy pipe, not a queue: whatever is sent may be lost, late or doubled, so every request has a
// deadline, a retry and an idempotent receiver.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/strong_id.h"
#include "protocol/buffer.h"

namespace freshet::transport {

// A peer as this process knows it: one outgoing connection, or one peer that connected to us.
using PeerId = base::StrongId<struct PeerTag, uint64_t>;

// Belongs to one loop thread, like the brain that uses it.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  // Starts a connection to `address` ("tcp://host:port"); returns at once, the pipe fills when the
  // other side is there. Each call makes a new connection (and a new routing id).
  virtual base::Result<PeerId> Connect(const std::string& address) = 0;
  // Drops the connection and what is queued on it. Unknown ids are ignored.
  virtual void Disconnect(PeerId peer) = 0;
  // Queues the packet. kUnavailable: the peer's queue is full; kUnreachable: there is no such peer.
  // Ok means queued, never delivered.
  virtual base::Result<> Send(PeerId peer, protocol::Packet packet) = 0;
};

// What a loop delivers to; implemented by the brains.
class PacketHandler {
 public:
  virtual ~PacketHandler() = default;
  virtual void OnPacket(PeerId from, protocol::Packet packet) = 0;
};

}  // namespace freshet::transport
