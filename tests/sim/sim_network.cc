// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_network.h"

#include <algorithm>
#include <utility>

#include "protocol/codec.h"

namespace freshet::sim {

using base::Duration;
using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Packet;
using transport::PeerId;

namespace {

// "sim://ps-0/17" is ps-0's.
std::string NameOf(const std::string& address) {
  const size_t begin = address.find("//") + 2;
  return address.substr(begin, address.find('/', begin) - begin);
}

// The receiver must not see memory of the sender's.
Packet DeepCopy(const Packet& packet) {
  Packet copy;
  copy.frames.reserve(packet.frames.size());
  for (const auto& frame : packet.frames)
    copy.frames.push_back(protocol::Buffer::Copy(frame.bytes()));
  return copy;
}

}  // namespace

SimNetwork::ConnectionId SimNetwork::Open(SimEndpoint& client, const std::string& address) {
  Connection& connection = connections_[++last_connection_];
  connection.client = &client;
  connection.client_name = client.process_.name();
  connection.address = address;
  return last_connection_;
}

Duration SimNetwork::DrawDelay() {
  // No packet is faster than this.
  Duration delay = std::chrono::microseconds(20) + DrawExponential(random_, times.latency);
  if (random_.Chance(times.slow)) delay += DrawExponential(random_, times.slow_delay);
  return delay;
}

Result<> SimNetwork::Transmit(ConnectionId id, Direction direction, const Packet& packet) {
  const Connection& connection = connections_.at(id);
  const bool to_server = direction == Direction::kToServer;
  const bool there =
      to_server ? listening_.contains(connection.address) : connection.client != nullptr;
  ++counts_.sent;
  uint64_t bytes = 0;
  for (const auto& frame : packet.frames) bytes = bytes * 31 + frame.size();
  scheduler_.Mix(bytes);
  if (random_.Chance(times.refuse) || (!there && random_.Chance(0.5))) {
    ++counts_.refused;
    return Fail(there ? ErrorCode::kUnavailable : ErrorCode::kUnreachable, "refused");
  }
  const std::string server = NameOf(connection.address);
  const bool cut = to_server ? cuts_.contains({connection.client_name, server})
                             : cuts_.contains({server, connection.client_name});
  if (cut || random_.Chance(times.loss)) {
    ++(cut ? counts_.cut : counts_.lost);
    TracePacket(cut ? "cut off" : "lost", connection, direction, packet);
    return {};
  }
  Schedule(id, direction, DeepCopy(packet), Copy::kFirst);
  if (random_.Chance(times.duplicate)) {
    ++counts_.doubled;
    Schedule(id, direction, DeepCopy(packet), Copy::kSecond);
  }
  return {};
}

void SimNetwork::Schedule(ConnectionId id, Direction direction, Packet packet, Copy copy) {
  Duration delay = DrawDelay();
  if (copy == Copy::kSecond) {
    delay += DrawExponential(random_, times.duplicate_delay);
  } else if (times.in_order) {
    Duration& last = connections_.at(id).last_arrival[static_cast<size_t>(direction)];
    last = std::max(last, scheduler_.now() + delay);
    delay = last - scheduler_.now();
  }
  scheduler_.After(delay, [this, id, direction, packet = std::move(packet)]() mutable {
    Deliver(id, direction, std::move(packet));
  });
}

void SimNetwork::Deliver(ConnectionId id, Direction direction, Packet packet) {
  const Connection& connection = connections_.at(id);
  SimEndpoint* target = connection.client;
  if (direction == Direction::kToServer) {
    const auto found = listening_.find(connection.address);
    target = found == listening_.end() ? nullptr : found->second;
  }
  TracePacket(target == nullptr ? "nobody there" : "->", connection, direction, packet);
  if (target != nullptr) target->Receive(id, direction, std::move(packet));
}

void SimNetwork::TracePacket(const char* what, const Connection& connection, Direction direction,
                             const Packet& packet) const {
  if (!trace_.messages) return;
  const std::string server = NameOf(connection.address);
  const bool to_server = direction == Direction::kToServer;
  const auto envelope = protocol::DecodeEnvelope(packet);
  Trace::Print(scheduler_, fmt::format("  {} {} {}: type {} request {} sender {}",
                                       to_server ? connection.client_name : server, what,
                                       to_server ? server : connection.client_name,
                                       envelope ? static_cast<int>(envelope->type) : -1,
                                       envelope ? envelope->request.value() : 0,
                                       envelope ? envelope->sender.value() : 0));
}

SimEndpoint::SimEndpoint(SimNetwork& network, SimProcess& process, std::string address)
    : network_(network), process_(process), address_(std::move(address)) {
  if (!address_.empty()) network_.listening_[address_] = this;
}

SimEndpoint::~SimEndpoint() {
  const auto listening = network_.listening_.find(address_);
  if (listening != network_.listening_.end() && listening->second == this) {
    network_.listening_.erase(listening);
  }
  for (const auto& [peer, route] : peers_) {
    if (route.direction == SimNetwork::Direction::kToServer) {
      network_.connections_.at(route.connection).client = nullptr;
    }
  }
}

Result<PeerId> SimEndpoint::Connect(const std::string& address) {
  last_peer_ = last_peer_.Next();
  const auto connection = network_.Open(*this, address);
  peers_[last_peer_] = {connection, SimNetwork::Direction::kToServer};
  by_connection_[connection] = last_peer_;
  return last_peer_;
}

void SimEndpoint::Disconnect(PeerId peer) {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return;
  by_connection_.erase(found->second.connection);
  if (found->second.direction == SimNetwork::Direction::kToServer) {
    network_.connections_.at(found->second.connection).client = nullptr;
  }
  peers_.erase(found);
}

Result<> SimEndpoint::Send(PeerId peer, Packet packet) {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return Fail(ErrorCode::kUnreachable, "no such peer");
  if (!process_.alive()) return {};
  return network_.Transmit(found->second.connection, found->second.direction, packet);
}

void SimEndpoint::Receive(SimNetwork::ConnectionId connection, SimNetwork::Direction direction,
                          Packet packet) {
  process_.RunOrWait([this, connection, direction, packet = std::move(packet)]() mutable {
    auto known = by_connection_.find(connection);
    if (known == by_connection_.end()) {
      // A reply on a connection that was closed meanwhile.
      if (direction == SimNetwork::Direction::kToClient) return;
      last_peer_ = last_peer_.Next();
      peers_[last_peer_] = {connection, SimNetwork::Direction::kToClient};
      known = by_connection_.emplace(connection, last_peer_).first;
    }
    if (handler_ != nullptr) handler_->OnPacket(known->second, std::move(packet));
  });
}

}  // namespace freshet::sim
