// SPDX-License-Identifier: Apache-2.0
// What the endpoint tests share: handlers that record or echo, packets with recognisable bytes.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "transport/event_loop.h"
#include "transport/zmq_endpoint.h"

namespace freshet::transport {

constexpr base::Duration kLimit = std::chrono::seconds(5);
constexpr char kAnyPort[] = "tcp://127.0.0.1:0";

// Keeps what arrives and then calls `then`, if set.
class Recorder final : public PacketHandler {
 public:
  struct Arrival {
    PeerId from;
    protocol::Packet packet;
  };

  void OnPacket(PeerId from, protocol::Packet packet) override {
    arrivals.push_back({from, std::move(packet)});
    if (then) then(arrivals.back());
  }

  std::vector<Arrival> arrivals;
  std::function<void(const Arrival&)> then;
};

class Echo final : public PacketHandler {
 public:
  explicit Echo(Endpoint& endpoint) : endpoint_(endpoint) {}
  void OnPacket(PeerId from, protocol::Packet packet) override {
    ++packets;
    if (!endpoint_.Send(from, std::move(packet))) ++refused;
  }

  int packets = 0;
  int refused = 0;

 private:
  Endpoint& endpoint_;
};

inline protocol::Buffer Pattern(size_t size, uint64_t seed) {
  protocol::Buffer out = protocol::Buffer::Allocate(size);
  for (size_t i = 0; i < size; ++i) {
    out.mutable_data()[i] = static_cast<std::byte>((i * 131 + (i >> 8) * 17 + seed * 29) & 0xFF);
  }
  return out;
}

inline protocol::Packet Text(const std::string& text) {
  return {{protocol::Buffer::Copy("envelope"), protocol::Buffer::Copy(text)}};
}

inline std::string TextOf(const protocol::Packet& packet) {
  const protocol::Buffer& body = packet.frames.at(1);
  return {reinterpret_cast<const char*>(body.data()), body.size()};
}

inline void ExpectSameFrames(const protocol::Packet& got, const protocol::Packet& expected) {
  ASSERT_EQ(got.frames.size(), expected.frames.size());
  for (size_t i = 0; i < got.frames.size(); ++i) {
    const protocol::Buffer& frame = got.frames[i];
    ASSERT_EQ(frame.size(), expected.frames[i].size()) << "frame " << i;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(frame.data()) % 8, 0u) << "frame " << i;
    EXPECT_TRUE(frame.empty() ||
                std::memcmp(frame.data(), expected.frames[i].data(), frame.size()) == 0)
        << "frame " << i;
  }
}

class EndpointTest : public testing::Test {
 protected:
  // Sends, waiting for the connection or for room where needed.
  void SendSoon(Endpoint& endpoint, PeerId peer, const protocol::Packet& packet) {
    EXPECT_TRUE(Until([&] { return endpoint.Send(peer, packet).has_value(); }));
  }

  bool Until(const std::function<bool()>& condition) {
    // Queues can free up without an event on this loop, so it looks again at least every
    // millisecond.
    bool met = false;
    const base::Instant end = loop_.clock().Now() + kLimit;
    while (!met && loop_.clock().Now() < end) {
      met = loop_.RunUntil(condition, std::chrono::milliseconds(1));
    }
    return met;
  }

  EventLoop loop_;
};

}  // namespace freshet::transport
