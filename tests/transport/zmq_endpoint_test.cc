// SPDX-License-Identifier: Apache-2.0
#include "transport/zmq_endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "tests/transport/endpoint_fixture.h"

namespace freshet::transport {
namespace {

using base::ErrorCode;
using protocol::Buffer;
using protocol::Packet;

TEST_F(EndpointTest, BigArraysTravelBothWaysBitExactAndAligned) {
  ZmqEndpoint server(loop_);
  Echo echo(server);
  server.SetHandler(echo);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_);
  Recorder recorder;
  client.SetHandler(recorder);
  const PeerId peer = client.Connect(server.bound_address()).value();

  std::vector<Packet> sent;
  for (uint64_t i = 0; i < 8; ++i) {
    sent.push_back({{Pattern(40, i), Pattern(100 + i, i + 1), Pattern(1 << 20, i + 2),
                     Pattern(0, 0), Pattern((1 << 20) + 4 * i, i + 3)}});
    SendSoon(client, peer, sent.back());
  }
  ASSERT_TRUE(Until([&] { return recorder.arrivals.size() == sent.size(); }));
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(recorder.arrivals[i].from, peer);
    ExpectSameFrames(recorder.arrivals[i].packet, sent[i]);
  }
  EXPECT_EQ(server.stats().packets_in, 8u);
  EXPECT_EQ(server.stats().packets_out, 8u);
  EXPECT_EQ(client.stats().bytes_out, server.stats().bytes_out);
}

TEST_F(EndpointTest, FramesOfEverySmallSizeArriveAligned) {
  ZmqEndpoint server(loop_);
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_);
  const PeerId peer = client.Connect(server.bound_address()).value();

  // Sizes around those where the library changes its way of holding a frame.
  Packet packet;
  for (size_t size = 0; size < 100; ++size) packet.frames.push_back(Pattern(size, size));
  for (size_t size = 200; size < 9000; size += 37) packet.frames.push_back(Pattern(size, size));
  ASSERT_LE(packet.frames.size(), ZmqEndpointOptions().max_frames);
  SendSoon(client, peer, packet);
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty(); }));
  ExpectSameFrames(recorder.arrivals[0].packet, packet);
}

TEST_F(EndpointTest, ASentBufferIsLetGoAndNotCopied) {
  ZmqEndpoint server(loop_);
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_);
  const PeerId peer = client.Connect(server.bound_address()).value();
  SendSoon(client, peer, Text("warm"));

  std::weak_ptr<const void> watch;
  {
    Packet packet{{Pattern(8, 1), Pattern(32 << 20, 2)}};
    watch = packet.frames[1].owner();
    ASSERT_TRUE(client.Send(peer, std::move(packet)).has_value());
  }
  // 32 MiB do not fit in the kernel's buffers, so the endpoint still needs them.
  EXPECT_FALSE(watch.expired());
  EXPECT_TRUE(Until([&] { return recorder.arrivals.size() == 2 && watch.expired(); }));
}

TEST_F(EndpointTest, EveryPeerHasItsOwnIdAndGetsItsOwnReplies) {
  ZmqEndpoint server(loop_);
  Recorder heard;
  server.SetHandler(heard);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  heard.then = [&](const Recorder::Arrival& arrival) {
    EXPECT_TRUE(server.Send(arrival.from, arrival.packet).has_value());
  };
  ZmqEndpoint client(loop_);
  Recorder replies;
  client.SetHandler(replies);

  constexpr size_t kConnections = 200;
  std::vector<PeerId> peers;
  for (size_t i = 0; i < kConnections; ++i) {
    peers.push_back(client.Connect(server.bound_address()).value());
  }
  for (const PeerId peer : peers) SendSoon(client, peer, Text(std::to_string(peer.value())));
  ASSERT_TRUE(Until([&] { return replies.arrivals.size() == kConnections; }));
  std::set<PeerId> answered;
  for (const auto& reply : replies.arrivals) {
    EXPECT_EQ(TextOf(reply.packet), std::to_string(reply.from.value()));
    answered.insert(reply.from);
  }
  EXPECT_EQ(answered, std::set<PeerId>(peers.begin(), peers.end()));
  std::set<PeerId> senders;
  for (const auto& arrival : heard.arrivals) senders.insert(arrival.from);
  EXPECT_EQ(senders.size(), kConnections);
}

TEST_F(EndpointTest, APortInUseIsAConflictThatNamesItAndTheRemedy) {
  ZmqEndpoint first(loop_);
  ASSERT_TRUE(first.Bind("tcp://127.0.0.1:*").has_value());
  EXPECT_THAT(first.bound_address(), testing::MatchesRegex("tcp://127.0.0.1:[1-9][0-9]*"));
  ZmqEndpoint second(loop_);
  const auto bound = second.Bind(first.bound_address());
  ASSERT_FALSE(bound.has_value());
  EXPECT_EQ(bound.error().code, ErrorCode::kConflict);
  EXPECT_THAT(bound.error().message, testing::HasSubstr(first.bound_address()));
  EXPECT_THAT(bound.error().message, testing::HasSubstr("another port"));
  // A failed bind leaves the endpoint usable.
  EXPECT_TRUE(second.Bind(kAnyPort).has_value());
}

TEST_F(EndpointTest, BadAddressesAreInvalidArguments) {
  ZmqEndpoint endpoint(loop_);
  for (const char* address : {"", "nonsense", "ipc:///tmp/x", "tcp://", "tcp://127.0.0.1",
                              "tcp://127.0.0.1:abc", "tcp://192.0.2.1:5555"}) {
    const auto bound = endpoint.Bind(address);
    ASSERT_FALSE(bound.has_value()) << address;
    EXPECT_EQ(bound.error().code, ErrorCode::kInvalidArgument) << bound.error().message;
  }
  for (const char* address : {"", "nonsense", "tcp://", "tcp://127.0.0.1", "inproc://x"}) {
    const auto peer = endpoint.Connect(address);
    ASSERT_FALSE(peer.has_value()) << address;
    EXPECT_EQ(peer.error().code, ErrorCode::kInvalidArgument) << peer.error().message;
  }
}

TEST_F(EndpointTest, PacketsBeyondTheLimitsAreRefusedBeforeTheyLeave) {
  ZmqEndpoint endpoint(loop_, {.max_frame_bytes = 1000, .max_frames = 3});
  const PeerId peer = endpoint.Connect("tcp://127.0.0.1:1").value();
  const std::vector<Packet> bad = {
      {}, {{Pattern(1, 1), Pattern(1, 1), Pattern(1, 1), Pattern(1, 1)}}, {{Pattern(1001, 1)}}};
  for (const Packet& packet : bad) {
    const auto sent = endpoint.Send(peer, packet);
    ASSERT_FALSE(sent.has_value());
    EXPECT_EQ(sent.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST_F(EndpointTest, AHandlerMayDisconnectThePeerItHears) {
  ZmqEndpoint server(loop_);
  Echo echo(server);
  server.SetHandler(echo);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_);
  Recorder recorder;
  client.SetHandler(recorder);
  recorder.then = [&](const Recorder::Arrival& arrival) { client.Disconnect(arrival.from); };
  const PeerId peer = client.Connect(server.bound_address()).value();
  for (int i = 0; i < 5; ++i) SendSoon(client, peer, Text("x"));
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty() && echo.packets == 5; }));
  EXPECT_EQ(recorder.arrivals.size(), 1u);
  const auto sent = client.Send(peer, Text("y"));
  ASSERT_FALSE(sent.has_value());
  EXPECT_EQ(sent.error().code, ErrorCode::kUnreachable);
  client.Disconnect(peer);
}

TEST_F(EndpointTest, PacketsWaitForAHandler) {
  ZmqEndpoint server(loop_);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_);
  const PeerId peer = client.Connect(server.bound_address()).value();
  SendSoon(client, peer, Text("early"));
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty(); }));
  EXPECT_EQ(TextOf(recorder.arrivals[0].packet), "early");
}

TEST_F(EndpointTest, RememberedPeersAreBounded) {
  ZmqEndpoint server(loop_, {.max_incoming_peers = 2});
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_);
  for (size_t i = 1; i <= 3; ++i) {
    const PeerId peer = client.Connect(server.bound_address()).value();
    SendSoon(client, peer, Text("x"));
    ASSERT_TRUE(Until([&] { return recorder.arrivals.size() == i; }));
  }
  EXPECT_EQ(server.stats().peers_forgotten, 1u);
  const auto sent = server.Send(recorder.arrivals[0].from, Text("y"));
  ASSERT_FALSE(sent.has_value());
  EXPECT_EQ(sent.error().code, ErrorCode::kUnreachable);
  EXPECT_TRUE(server.Send(recorder.arrivals[2].from, Text("y")).has_value());
}

}  // namespace
}  // namespace freshet::transport
