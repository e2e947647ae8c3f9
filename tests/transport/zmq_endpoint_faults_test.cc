// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "tests/transport/endpoint_fixture.h"
#include "transport/zmq_endpoint.h"

namespace freshet::transport {
namespace {

using base::ErrorCode;
using protocol::Packet;
using std::chrono::milliseconds;

// A TCP connection that speaks no ZMTP.
class RawPeer {
 public:
  explicit RawPeer(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }
  ~RawPeer() { close(fd_); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  void Write(const std::string& bytes) {
    [[maybe_unused]] const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  bool Closed() {
    char byte[256];
    while (true) {
      const ssize_t got = recv(fd_, byte, sizeof byte, MSG_DONTWAIT);
      if (got == 0) return true;
      if (got < 0) return errno != EAGAIN;
    }
  }

 private:
  int fd_;
};

TEST_F(EndpointTest, APeerNeverHeardOfIsUnreachable) {
  ZmqEndpoint server(loop_);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  const auto sent = server.Send(PeerId(12345), Text("x"));
  ASSERT_FALSE(sent.has_value());
  EXPECT_EQ(sent.error().code, ErrorCode::kUnreachable);
  EXPECT_EQ(server.stats().refused_unreachable, 1u);
}

TEST_F(EndpointTest, APeerThatLeftBecomesUnreachable) {
  ZmqEndpoint server(loop_);
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_);
  const PeerId peer = client.Connect(server.bound_address()).value();
  SendSoon(client, peer, Text("hello"));
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty(); }));
  const PeerId gone = recorder.arrivals[0].from;
  client.Disconnect(peer);
  base::Result<> sent;
  ASSERT_TRUE(Until([&] {
    sent = server.Send(gone, Text("x"));
    return !sent.has_value() && sent.error().code == ErrorCode::kUnreachable;
  }));
}

TEST_F(EndpointTest, AConnectionThatIsNotUpTakesNothingAndComesUpByItself) {
  std::string address;
  {
    ZmqEndpoint probe(loop_);
    ASSERT_TRUE(probe.Bind(kAnyPort).has_value());
    address = probe.bound_address();
  }
  ZmqEndpoint client(loop_);
  const PeerId peer = client.Connect(address).value();
  const auto early = client.Send(peer, Text("early"));
  ASSERT_FALSE(early.has_value());
  EXPECT_EQ(early.error().code, ErrorCode::kUnavailable);

  ZmqEndpoint server(loop_);
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(server.Bind(address).has_value());
  SendSoon(client, peer, Text("late"));
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty(); }));
  EXPECT_EQ(TextOf(recorder.arrivals[0].packet), "late");
}

TEST_F(EndpointTest, NewPacketsFlowAfterAServerRestartOnItsPort) {
  auto server = std::make_unique<ZmqEndpoint>(loop_);
  Recorder recorder;
  server->SetHandler(recorder);
  ASSERT_TRUE(server->Bind(kAnyPort).has_value());
  const std::string address = server->bound_address();
  ZmqEndpoint client(loop_, {.reconnect_min = milliseconds(5), .reconnect_max = milliseconds(50)});
  const PeerId peer = client.Connect(address).value();
  SendSoon(client, peer, Text("before"));
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty(); }));
  server.reset();
  // What is sent around the restart may be lost, but what is not taken is said.
  ASSERT_TRUE(Until([&] { return !client.Send(peer, Text("lost")).has_value(); }));

  server = std::make_unique<ZmqEndpoint>(loop_);
  recorder.arrivals.clear();
  server->SetHandler(recorder);
  ASSERT_TRUE(server->Bind(address).has_value());
  SendSoon(client, peer, Text("after"));
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty(); }));
  EXPECT_EQ(TextOf(recorder.arrivals.back().packet), "after");
}

// Big enough that the kernel's buffers hold few of them.
Packet Numbered(uint32_t number) {
  Packet packet{{Pattern(16, 0), Pattern(256 << 10, 3)}};
  std::memcpy(packet.frames[0].mutable_data(), &number, sizeof number);
  return packet;
}

uint32_t NumberOf(const Packet& packet) { return packet.frames.at(0).As<uint32_t>()[0]; }

void ExpectNumbersInOrder(const Recorder& recorder, uint32_t count) {
  ASSERT_EQ(recorder.arrivals.size(), count);
  for (uint32_t i = 0; i < count; ++i) ASSERT_EQ(NumberOf(recorder.arrivals[i].packet), i);
}

TEST_F(EndpointTest, AFullQueueToAServerRefusesAndLosesNothing) {
  ZmqEndpoint server(loop_, {.receive_queue_packets = 4});
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_, {.send_queue_packets = 4});
  const PeerId peer = client.Connect(server.bound_address()).value();
  SendSoon(client, peer, Numbered(0));
  uint32_t sent = 1;
  base::Result<> result;
  while (sent < 1000 && (result = client.Send(peer, Numbered(sent))).has_value()) ++sent;
  ASSERT_LT(sent, 1000u);
  EXPECT_EQ(result.error().code, ErrorCode::kUnavailable);
  EXPECT_GE(client.stats().refused_full, 1u);

  Recorder recorder;
  server.SetHandler(recorder);
  for (const uint32_t end = sent + 50; sent < end; ++sent) SendSoon(client, peer, Numbered(sent));
  ASSERT_TRUE(Until([&] { return recorder.arrivals.size() >= sent; }));
  ExpectNumbersInOrder(recorder, sent);
}

TEST_F(EndpointTest, AFullQueueToAClientRefusesAndLosesNothing) {
  ZmqEndpoint server(loop_, {.send_queue_packets = 4});
  Recorder heard;
  server.SetHandler(heard);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_, {.receive_queue_packets = 4});
  const PeerId to_server = client.Connect(server.bound_address()).value();
  SendSoon(client, to_server, Text("hello"));
  ASSERT_TRUE(Until([&] { return !heard.arrivals.empty(); }));
  const PeerId to_client = heard.arrivals[0].from;
  uint32_t sent = 0;
  base::Result<> result;
  while (sent < 1000 && (result = server.Send(to_client, Numbered(sent))).has_value()) ++sent;
  ASSERT_LT(sent, 1000u);
  EXPECT_EQ(result.error().code, ErrorCode::kUnavailable);

  Recorder recorder;
  client.SetHandler(recorder);
  for (const uint32_t end = sent + 50; sent < end; ++sent) {
    SendSoon(server, to_client, Numbered(sent));
  }
  ASSERT_TRUE(Until([&] { return recorder.arrivals.size() >= sent; }));
  ExpectNumbersInOrder(recorder, sent);
}

TEST_F(EndpointTest, GarbageSilenceAndHalfAHandshakeDisturbNobody) {
  ZmqEndpoint server(loop_, {.handshake_timeout = milliseconds(50)});
  Echo echo(server);
  server.SetHandler(echo);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  RawPeer silent(server.bound_address());
  RawPeer web(server.bound_address());
  web.Write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  RawPeer noise(server.bound_address());
  std::string bytes;
  for (int i = 0; i < 100'000; ++i) bytes.push_back(static_cast<char>(i * 7 + (i >> 7)));
  noise.Write(bytes);
  RawPeer half(server.bound_address());
  half.Write(std::string("\xFF\0\0\0\0\0\0\0\1\x7F\3", 11));

  ZmqEndpoint client(loop_);
  Recorder recorder;
  client.SetHandler(recorder);
  const PeerId peer = client.Connect(server.bound_address()).value();
  SendSoon(client, peer, Text("fine"));
  EXPECT_TRUE(Until([&] { return recorder.arrivals.size() == 1; }));
  EXPECT_TRUE(Until([&] { return silent.Closed() && half.Closed() && noise.Closed(); }));
  EXPECT_EQ(echo.packets, 1);
}

TEST_F(EndpointTest, AFrameBeyondTheLimitCutsItsSenderOffAndNobodyElse) {
  ZmqEndpoint server(loop_, {.max_frame_bytes = 64 << 10});
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint good(loop_);
  const PeerId from_good = good.Connect(server.bound_address()).value();
  SendSoon(good, from_good, Text("one"));
  ZmqEndpoint bad(loop_);
  const PeerId from_bad = bad.Connect(server.bound_address()).value();
  SendSoon(bad, from_bad, {{Pattern(8, 1), Pattern((64 << 10) + 1, 2)}});
  // Cut off: until it has reconnected, which it does by itself, its sends are refused.
  EXPECT_TRUE(Until([&] { return !bad.Send(from_bad, Text("bad")).has_value(); }));
  SendSoon(good, from_good, Text("two"));
  EXPECT_TRUE(Until([&] {
    return !recorder.arrivals.empty() && TextOf(recorder.arrivals.back().packet) == "two";
  }));
  for (const auto& arrival : recorder.arrivals) {
    for (const auto& frame : arrival.packet.frames) EXPECT_LE(frame.size(), 64u << 10);
  }
}

TEST_F(EndpointTest, TooManyFramesAreDroppedAndCounted) {
  ZmqEndpoint server(loop_);
  Recorder recorder;
  server.SetHandler(recorder);
  ASSERT_TRUE(server.Bind(kAnyPort).has_value());
  ZmqEndpoint client(loop_, {.max_frames = 10'000});
  const PeerId peer = client.Connect(server.bound_address()).value();
  Packet most;
  const int limit = static_cast<int>(ZmqEndpointOptions().max_frames);
  for (int i = 0; i < limit; ++i) most.frames.push_back(Pattern(16, i));
  Packet too_many = most;
  too_many.frames.push_back(Pattern(16, limit));
  SendSoon(client, peer, too_many);
  SendSoon(client, peer, most);
  ASSERT_TRUE(Until([&] { return !recorder.arrivals.empty(); }));
  EXPECT_EQ(recorder.arrivals.size(), 1u);
  ExpectSameFrames(recorder.arrivals[0].packet, most);
  EXPECT_EQ(server.stats().dropped_too_many_frames, 1u);
}

}  // namespace
}  // namespace freshet::transport
