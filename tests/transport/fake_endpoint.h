// SPDX-License-Identifier: Apache-2.0
// An Endpoint that keeps what is sent for the test to read and answer. Single-threaded.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "protocol/codec.h"
#include "transport/endpoint.h"

namespace freshet::transport {

class FakeEndpoint final : public Endpoint {
 public:
  struct Sent {
    PeerId to;
    protocol::Envelope envelope;
    protocol::Packet packet;

    template <class Message>
    Message Body() const {
      auto body = protocol::DecodeAs<Message>(packet);
      EXPECT_TRUE(body.has_value()) << body.error().message;
      return body ? std::move(*body) : Message();
    }
  };

  std::vector<std::string> addresses;  // of the connections; the first is PeerId 1
  std::set<PeerId> disconnected;
  std::optional<base::ErrorCode> refuse;  // what Send says instead of taking a packet
  std::vector<Sent> sent;                 // not taken yet

  base::Result<PeerId> Connect(const std::string& address) override {
    addresses.push_back(address);
    return PeerId(addresses.size());
  }
  void Disconnect(PeerId peer) override { disconnected.insert(peer); }
  base::Result<> Send(PeerId peer, protocol::Packet packet) override {
    if (refuse) return base::Fail(*refuse, "as the test says");
    auto envelope = protocol::DecodeEnvelope(packet);
    EXPECT_TRUE(envelope.has_value());
    sent.push_back({peer, *envelope, std::move(packet)});
    return {};
  }

  // Takes what was sent and is a Message, oldest first.
  template <class Message>
  std::vector<Sent> Take() {
    std::vector<Sent> out;
    std::vector<Sent> rest;
    for (Sent& packet : sent) {
      (packet.envelope.type == Message::kType ? out : rest).push_back(std::move(packet));
    }
    sent = std::move(rest);
    return out;
  }
  // The only one.
  template <class Message>
  Sent TakeOne() {
    auto out = Take<Message>();
    EXPECT_EQ(out.size(), 1u);
    return out.empty() ? Sent() : std::move(out.front());
  }
};

}  // namespace freshet::transport
