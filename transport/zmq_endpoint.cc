// SPDX-License-Identifier: Apache-2.0
#include "transport/zmq_endpoint.h"

#include <fmt/format.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "transport/zmq_frames.h"

namespace freshet::transport {
namespace {

using base::ErrorCode;
using base::Fail;

void SetOption(void* socket, int option, int value) {
  CHECK(zmq_setsockopt(socket, option, &value, sizeof value) == 0);
}

int Milliseconds(std::chrono::milliseconds duration) { return static_cast<int>(duration.count()); }

// Each of these is set on purpose; the library's defaults lose packets in silence, wait for half a
// minute or have no bound.
void Configure(void* socket, int type, const ZmqEndpointOptions& options) {
  SetOption(socket, ZMQ_SNDHWM, options.send_queue_packets);
  SetOption(socket, ZMQ_RCVHWM, options.receive_queue_packets);
  SetOption(socket, ZMQ_LINGER, Milliseconds(options.linger));
  SetOption(socket, ZMQ_HEARTBEAT_IVL, Milliseconds(options.heartbeat_interval));
  SetOption(socket, ZMQ_HEARTBEAT_TIMEOUT, Milliseconds(options.heartbeat_timeout));
  SetOption(socket, ZMQ_HANDSHAKE_IVL, Milliseconds(options.handshake_timeout));
  const auto max_frame = static_cast<int64_t>(options.max_frame_bytes);
  CHECK(zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_frame, sizeof max_frame) == 0);
  if (options.socket_buffer_bytes > 0) {
    SetOption(socket, ZMQ_SNDBUF, options.socket_buffer_bytes);
    SetOption(socket, ZMQ_RCVBUF, options.socket_buffer_bytes);
  }
  if (type == ZMQ_ROUTER) {
    // Without it packets for a full or unknown peer vanish. No routing ids are set anywhere: the
    // ROUTER then gives every connection a fresh one, which no peer can take from another.
    SetOption(socket, ZMQ_ROUTER_MANDATORY, 1);
    // A whole cluster connects at once; whoever finds the default of 100 full waits a second.
    SetOption(socket, ZMQ_BACKLOG, 1024);
  } else {
    SetOption(socket, ZMQ_IMMEDIATE, 1);
    SetOption(socket, ZMQ_CONNECT_TIMEOUT, Milliseconds(options.connect_timeout));
    SetOption(socket, ZMQ_RECONNECT_IVL, Milliseconds(options.reconnect_min));
    SetOption(socket, ZMQ_RECONNECT_IVL_MAX, Milliseconds(options.reconnect_max));
  }
}

tl::unexpected<base::Error> BindFailed(const std::string& address, int error) {
  switch (error) {
    case EADDRINUSE:
      return Fail(ErrorCode::kConflict,
                  fmt::format("{} is in use by another process: stop that one or choose another "
                              "port (port 0 picks a free one)",
                              address));
    case EINVAL:
    case ENODEV:
    case EADDRNOTAVAIL:
    case EPROTONOSUPPORT:
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("cannot listen on {}: {}; give tcp://HOST:PORT with an address of "
                              "this machine",
                              address, zmq_strerror(error)));
    default:
      return Fail(ErrorCode::kFailed,
                  fmt::format("cannot listen on {}: {}", address, zmq_strerror(error)));
  }
}

}  // namespace

struct ZmqEndpoint::Context {
  explicit Context(const ZmqEndpointOptions& options) : handle(zmq_ctx_new()) {
    CHECK(handle != nullptr);
    CHECK(zmq_ctx_set(handle, ZMQ_IO_THREADS, options.io_threads) == 0);
    // One more for the ROUTER, and some that are closed and still being reaped.
    CHECK(zmq_ctx_set(handle, ZMQ_MAX_SOCKETS, static_cast<int>(options.max_connections) + 64) ==
          0);
  }
  ~Context() {
    while (zmq_ctx_term(handle) != 0 && errno == EINTR) {
    }
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  void* handle;
};

struct ZmqEndpoint::Socket {
  Socket(EventLoop& event_loop, void* zmq_socket, int zmq_type)
      : loop(event_loop), handle(zmq_socket), type(zmq_type) {}
  ~Socket() { Close(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void Close() {
    if (handle == nullptr) return;
    loop.UnwatchSocket(handle);
    zmq_close(handle);
    handle = nullptr;
  }

  EventLoop& loop;
  void* handle;
  int type;
  PeerId peer{};  // of a DEALER
};

ZmqEndpoint::ZmqEndpoint(EventLoop& loop, ZmqEndpointOptions options)
    : loop_(loop),
      options_(options),
      incoming_(peer_ids_, options.max_incoming_peers),
      context_(std::make_unique<Context>(options)) {
  CHECK(options.max_incoming_peers > 0 && options.receive_burst > 0);
}

ZmqEndpoint::~ZmqEndpoint() = default;

base::Result<std::shared_ptr<ZmqEndpoint::Socket>> ZmqEndpoint::OpenSocket(
    int type, const std::string& address) {
  if (!address.starts_with("tcp://")) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is no address: give tcp://HOST:PORT", address));
  }
  void* handle = zmq_socket(context_->handle, type);
  if (handle == nullptr) {
    return Fail(
        ErrorCode::kResourceExhausted,
        fmt::format("no more sockets ({}): raise the limit of open files", zmq_strerror(errno)));
  }
  auto socket = std::make_shared<Socket>(loop_, handle, type);
  Configure(handle, type, options_);
  if (address.find('[') != std::string::npos) SetOption(handle, ZMQ_IPV6, 1);
  return socket;
}

base::Result<> ZmqEndpoint::Bind(const std::string& address) {
  CHECK(router_ == nullptr);
  auto socket = OpenSocket(ZMQ_ROUTER, address);
  if (!socket) return tl::unexpected(socket.error());
  void* handle = (*socket)->handle;
  if (zmq_bind(handle, address.c_str()) != 0) return BindFailed(address, errno);
  std::array<char, 256> real{};
  size_t size = real.size();
  CHECK(zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, real.data(), &size) == 0);
  bound_address_ = real.data();
  router_ = std::move(*socket);
  if (handler_ != nullptr) Watch(router_);
  return {};
}

void ZmqEndpoint::SetHandler(PacketHandler& handler) {
  const bool first = handler_ == nullptr;
  handler_ = &handler;
  if (!first) return;
  if (router_ != nullptr) Watch(router_);
  for (const auto& [peer, socket] : connections_) Watch(socket);
}

base::Result<PeerId> ZmqEndpoint::Connect(const std::string& address) {
  if (connections_.size() >= options_.max_connections) {
    return Fail(ErrorCode::kResourceExhausted,
                fmt::format("already {} connections: raise max_connections", connections_.size()));
  }
  auto socket = OpenSocket(ZMQ_DEALER, address);
  if (!socket) return tl::unexpected(socket.error());
  if (zmq_connect((*socket)->handle, address.c_str()) != 0) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("cannot connect to {}: {}; give tcp://HOST:PORT", address,
                            zmq_strerror(errno)));
  }
  const PeerId peer = peer_ids_.Take();
  (*socket)->peer = peer;
  if (handler_ != nullptr) Watch(*socket);
  connections_.emplace(peer, std::move(*socket));
  return peer;
}

void ZmqEndpoint::Disconnect(PeerId peer) {
  incoming_.Forget(peer);
  const auto found = connections_.find(peer);
  if (found == connections_.end()) return;
  // Closed here and not by the last owner: the loop may be draining this very socket.
  SetOption(found->second->handle, ZMQ_LINGER, 0);
  found->second->Close();
  connections_.erase(found);
}

base::Result<> ZmqEndpoint::CheckOutgoing(const protocol::Packet& packet) const {
  if (packet.frames.empty() || packet.frames.size() > options_.max_frames) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("a packet has 1 to {} frames, not {}", options_.max_frames,
                            packet.frames.size()));
  }
  for (const protocol::Buffer& frame : packet.frames) {
    // The peer would cut the connection.
    if (frame.size() > options_.max_frame_bytes) {
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("a frame of {} bytes is beyond the limit of {}", frame.size(),
                              options_.max_frame_bytes));
    }
  }
  return {};
}

base::Result<> ZmqEndpoint::Send(PeerId peer, protocol::Packet packet) {
  if (auto checked = CheckOutgoing(packet); !checked) return checked;
  const auto connection = connections_.find(peer);
  const bool outgoing = connection != connections_.end();
  const std::string* routing_id = outgoing ? nullptr : incoming_.RoutingIdOf(peer);
  SendOutcome outcome = SendOutcome::kUnreachable;
  if (outgoing || routing_id != nullptr) {
    const Socket& socket = outgoing ? *connection->second : *router_;
    outcome = SendFrames(socket.handle, routing_id, packet.frames);
    loop_.SocketUsed(socket.handle);
  }
  switch (outcome) {
    case SendOutcome::kQueued:
      ++stats_.packets_out;
      for (const protocol::Buffer& frame : packet.frames) stats_.bytes_out += frame.size();
      return {};
    case SendOutcome::kFull:
      ++stats_.refused_full;
      return Fail(ErrorCode::kUnavailable, "the peer is not connected yet or its queue is full");
    case SendOutcome::kUnreachable: break;
  }
  // Its routing id ended with its connection and never comes back.
  incoming_.Forget(peer);
  ++stats_.refused_unreachable;
  return Fail(ErrorCode::kUnreachable, "there is no such peer, or it has gone");
}

void ZmqEndpoint::Watch(const std::shared_ptr<Socket>& socket) {
  // The callback shares the socket: OnPacket may disconnect the peer whose packets are being read.
  loop_.WatchSocket(socket->handle, [this, socket = std::weak_ptr(socket)] {
    const std::shared_ptr<Socket> alive = socket.lock();
    return alive == nullptr ? EventLoop::Drained::kAll : Drain(*alive);
  });
}

EventLoop::Drained ZmqEndpoint::Drain(Socket& socket) {
  const ReceiveLimits limits{socket.type == ZMQ_ROUTER, options_.max_frames};
  for (int i = 0; i < options_.receive_burst; ++i) {
    if (socket.handle == nullptr) return EventLoop::Drained::kAll;
    ReceivedPacket received;
    const ReceiveOutcome outcome = ReceiveFrames(socket.handle, limits, received);
    if (outcome == ReceiveOutcome::kNothing) return EventLoop::Drained::kAll;
    stats_.bytes_in += received.bytes;
    if (outcome == ReceiveOutcome::kTooManyFrames) ++stats_.dropped_too_many_frames;
    if (outcome == ReceiveOutcome::kEmpty) ++stats_.dropped_empty;
    if (outcome == ReceiveOutcome::kPacket) Deliver(socket, std::move(received));
  }
  return EventLoop::Drained::kMore;
}

void ZmqEndpoint::Deliver(Socket& socket, ReceivedPacket received) {
  ++stats_.packets_in;
  const PeerId from =
      socket.type == ZMQ_ROUTER ? incoming_.Heard(received.routing_id) : socket.peer;
  stats_.peers_forgotten = incoming_.forgotten();
  handler_->OnPacket(from, std::move(received.packet));
}

}  // namespace freshet::transport
