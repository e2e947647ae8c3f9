// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "transport/endpoint.h"
#include "transport/event_loop.h"
#include "transport/peer_table.h"

namespace freshet::transport {

struct ZmqEndpointOptions {
  int io_threads = 1;
  // Packets queued per peer in each direction, beside what the kernel holds; Send says kUnavailable
  // beyond it. Small on purpose: requests in flight are bounded by their senders.
  int send_queue_packets = 128;
  int receive_queue_packets = 128;
  // A peer that announces a bigger frame is cut off.
  size_t max_frame_bytes = 64ull << 20;
  size_t max_frames = 800;  // a push has three a table, of which there may be 256
  // Peers that connected to us and are remembered.
  size_t max_incoming_peers = 4096;
  size_t max_connections = 4096;
  // Packets taken from one socket before the loop looks at its other sources.
  int receive_burst = 32;
  // Kernel buffers per connection; 0 leaves them to the kernel's own tuning.
  int socket_buffer_bytes = 0;
  // How long closing waits for packets already queued.
  std::chrono::milliseconds linger{200};
  std::chrono::milliseconds heartbeat_interval{1000};
  std::chrono::milliseconds heartbeat_timeout{3000};
  std::chrono::milliseconds handshake_timeout{2000};
  std::chrono::milliseconds connect_timeout{2000};
  // A peer that restarts is found again within reconnect_max.
  std::chrono::milliseconds reconnect_min{20};
  std::chrono::milliseconds reconnect_max{200};
};

struct EndpointStats {
  uint64_t packets_in = 0;
  uint64_t packets_out = 0;
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  uint64_t refused_full = 0;             // Send said kUnavailable
  uint64_t refused_unreachable = 0;      // Send said kUnreachable
  uint64_t dropped_too_many_frames = 0;  // incoming
  uint64_t dropped_empty = 0;            // incoming
  uint64_t peers_forgotten = 0;
};

// Endpoint over ZeroMQ: one ROUTER if bound, one DEALER per Connect. Belongs to its loop's thread;
// the loop and the handler must outlive it. A connection that is not up takes no packets
// (kUnavailable at once, nothing stale is kept for a peer that restarts), so whoever starts a
// cluster retries every few milliseconds. A peer that reconnects gets a new PeerId; replies to the
// old one: kUnreachable.
class ZmqEndpoint final : public Endpoint {
 public:
  explicit ZmqEndpoint(EventLoop& loop, ZmqEndpointOptions options = {});
  // Waits at most `linger` for queued packets to leave.
  ~ZmqEndpoint() override;
  ZmqEndpoint(const ZmqEndpoint&) = delete;
  ZmqEndpoint& operator=(const ZmqEndpoint&) = delete;

  // "tcp://host:port", host "*" for all interfaces, port 0 or "*" for any free one. At most once.
  // kConflict: the port is in use; kInvalidArgument: no such address.
  base::Result<> Bind(const std::string& address);
  // With the real port; empty before Bind.
  const std::string& bound_address() const { return bound_address_; }

  // Packets are delivered from the next pass of the loop on; before that they wait in their queues.
  void SetHandler(PacketHandler& handler);

  base::Result<PeerId> Connect(const std::string& address) override;
  // A peer that connected to us is only forgotten: what is queued for it may still leave.
  void Disconnect(PeerId peer) override;
  base::Result<> Send(PeerId peer, protocol::Packet packet) override;

  const EndpointStats& stats() const { return stats_; }

 private:
  struct Context;
  struct Socket;

  base::Result<std::shared_ptr<Socket>> OpenSocket(int type, const std::string& address);
  void Watch(const std::shared_ptr<Socket>& socket);
  EventLoop::Drained Drain(Socket& socket);
  void Deliver(Socket& socket, struct ReceivedPacket received);
  base::Result<> CheckOutgoing(const protocol::Packet& packet) const;

  EventLoop& loop_;
  const ZmqEndpointOptions options_;
  PacketHandler* handler_ = nullptr;
  std::string bound_address_;
  EndpointStats stats_;
  PeerIds peer_ids_;
  PeerTable incoming_;
  // Declared before the sockets: it ends after them.
  std::unique_ptr<Context> context_;
  std::shared_ptr<Socket> router_;
  std::map<PeerId, std::shared_ptr<Socket>> connections_;
};

}  // namespace freshet::transport
