// SPDX-License-Identifier: Apache-2.0
// SimNetwork: carries encoded frames between simulated processes as ZeroMQ does: a lossy pipe. Packets
// are lost, doubled (also seconds late), delayed, reordered, refused, and cut off by direction. What was
// sent to a process that is gone is lost, or refused.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/random.h"
#include "tests/sim/scheduler.h"
#include "tests/sim/sim_process.h"
#include "tests/sim/trace.h"
#include "transport/endpoint.h"

namespace freshet::sim {

struct NetworkTimes {
  base::Duration latency = std::chrono::milliseconds(1);  // mean, beside the fixed part
  double loss = 0;
  double duplicate = 0;
  base::Duration duplicate_delay = std::chrono::seconds(1);  // mean
  double slow = 0;                                           // chance of a late packet
  base::Duration slow_delay = std::chrono::seconds(1);       // mean
  double refuse = 0;                                         // Send says that the queue is full
  bool in_order = false;
};

struct NetworkCounts {
  uint64_t sent = 0;
  uint64_t lost = 0;
  uint64_t doubled = 0;
  uint64_t refused = 0;
  uint64_t cut = 0;

  void Add(const NetworkCounts& other) {
    sent += other.sent;
    lost += other.lost;
    doubled += other.doubled;
    refused += other.refused;
    cut += other.cut;
  }
};

class SimEndpoint;

class SimNetwork {
 public:
  SimNetwork(Scheduler& scheduler, uint64_t seed, const Trace& trace)
      : scheduler_(scheduler), random_(seed), trace_(trace) {}

  NetworkTimes times;
  const NetworkCounts& counts() const { return counts_; }

  // Packets from one node to another are lost until HealAll; nodes by name.
  void Cut(const std::string& from, const std::string& to) { cuts_.emplace(from, to); }
  void Heal(const std::string& from, const std::string& to) { cuts_.erase({from, to}); }
  void HealAll() { cuts_.clear(); }

 private:
  friend class SimEndpoint;
  using ConnectionId = uint64_t;
  enum class Direction : uint8_t { kToServer, kToClient };
  // One connection: a client process, and whoever listens at the address when a packet arrives.
  struct Connection {
    SimEndpoint* client = nullptr;  // null: it was closed, or its process ended
    std::string client_name;
    std::string address;
    base::Duration last_arrival[2] = {};
  };

  ConnectionId Open(SimEndpoint& client, const std::string& address);
  base::Result<> Transmit(ConnectionId id, Direction direction, const protocol::Packet& packet);
  void Deliver(ConnectionId id, Direction direction, protocol::Packet packet);
  enum class Copy : uint8_t { kFirst, kSecond };
  void Schedule(ConnectionId id, Direction direction, protocol::Packet packet, Copy copy);
  base::Duration DrawDelay();
  void TracePacket(const char* what, const Connection& connection, Direction direction,
                   const protocol::Packet& packet) const;

  Scheduler& scheduler_;
  base::Random random_;
  const Trace& trace_;
  std::map<ConnectionId, Connection> connections_;
  std::map<std::string, SimEndpoint*> listening_;
  std::set<std::pair<std::string, std::string>> cuts_;
  ConnectionId last_connection_ = 0;
  NetworkCounts counts_;
};

// One process's end of the network. Addresses are "sim://NAME/PID", or any other for the master.
class SimEndpoint final : public transport::Endpoint {
 public:
  // An empty address listens nowhere.
  SimEndpoint(SimNetwork& network, SimProcess& process, std::string address);
  ~SimEndpoint() override;

  void SetHandler(transport::PacketHandler& handler) { handler_ = &handler; }
  const std::string& address() const { return address_; }

  base::Result<transport::PeerId> Connect(const std::string& address) override;
  void Disconnect(transport::PeerId peer) override;
  base::Result<> Send(transport::PeerId peer, protocol::Packet packet) override;

 private:
  friend class SimNetwork;
  void Receive(SimNetwork::ConnectionId connection, SimNetwork::Direction direction,
               protocol::Packet packet);

  SimNetwork& network_;
  SimProcess& process_;
  std::string address_;
  transport::PacketHandler* handler_ = nullptr;
  transport::PeerId last_peer_;
  struct Peer {
    SimNetwork::ConnectionId connection = 0;
    SimNetwork::Direction direction = SimNetwork::Direction::kToServer;
  };
  std::map<transport::PeerId, Peer> peers_;
  std::map<SimNetwork::ConnectionId, transport::PeerId> by_connection_;
};

}  // namespace freshet::sim
