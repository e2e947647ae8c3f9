// SPDX-License-Identifier: Apache-2.0
// What the transport costs beside a bare TCP connection. One server process and one client process
// over loopback; the client keeps `depth` requests in flight. Shapes: pull (32 KiB of keys -> 256
// KiB of values), push (288 KiB -> 64 B), ping (64 B -> 64 B). Every sender writes and every
// receiver reads all array bytes. Contenders take turns in each round; ratios are per round,
// against tcp/sleep. On a machine with neighbours look at the best rate, the least CPU and the
// least p50.
//   transport_bench [--rounds N] [--requests N] [--shape pull|push|ping] [--only SUBSTRING]
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "benchmarks/tcp_baseline.h"
#include "transport/event_loop.h"
#include "transport/malloc_tuning.h"
#include "transport/zmq_endpoint.h"

namespace freshet::transport {
namespace {

using benchmarks::Fill;
using benchmarks::Measured;
using benchmarks::Median;
using benchmarks::Meter;
using benchmarks::Now;
using benchmarks::Use;
using protocol::Buffer;
using protocol::Packet;

struct Shape {
  std::string name;
  size_t request_bytes;
  size_t reply_bytes;
  int requests;
};

struct Contender {
  std::string name;
  bool raw_tcp = false;
  base::Duration spin{0};
  bool tuned_malloc = true;
  int socket_buffer_bytes = 0;
};

// Latencies of the requests after a warm-up; replies come in the order of the requests.
class Progress {
 public:
  Progress(int requests, pid_t server)
      : warm_up_(requests / 10), total_(requests + requests / 10), meter_({server}) {}
  int total() const { return total_; }
  void Sent() { sent_.push_back(Now()); }
  void Replied() {
    if (replied_ == warm_up_) meter_.Start();
    ++replied_;
    meter_.Add((Now() - sent_.front()) * 1e6);
    sent_.pop_front();
  }
  bool done() const { return replied_ == total_; }
  Measured Result() { return meter_.Result(); }

 private:
  int warm_up_;
  int total_;
  int replied_ = 0;
  std::deque<double> sent_;
  Meter meter_;
};

void TcpServer(const Shape&, const Contender& contender, int port_pipe) {
  benchmarks::RunTcpServer(contender.spin, port_pipe);
}

Measured TcpClient(const Shape& shape, const Contender& contender, int depth, int port,
                   pid_t server) {
  const benchmarks::TcpSizes sizes{shape.request_bytes, shape.reply_bytes};
  return benchmarks::RunTcpClient(
      benchmarks::ConnectTcp(port, sizes, contender.spin),
      {.sizes = sizes, .depth = depth, .warm_up = shape.requests / 10, .requests = shape.requests},
      server);
}

// ---- the transport

constexpr size_t kHeaderBytes = 64;

Packet MakePacket(size_t array_bytes, uint64_t with) {
  Packet packet;
  packet.frames = {Buffer::Allocate(kHeaderBytes), Buffer::Allocate(kHeaderBytes)};
  for (Buffer& frame : packet.frames) Fill(frame.mutable_data(), frame.size(), with);
  if (array_bytes > kHeaderBytes) {
    packet.frames.push_back(Buffer::Allocate(array_bytes));
    Fill(packet.frames.back().mutable_data(), array_bytes, with);
  }
  return packet;
}

struct OnPacketDo final : PacketHandler {
  std::function<void(PeerId, const Packet&)> run;
  void OnPacket(PeerId from, Packet packet) override { run(from, packet); }
};

ZmqEndpointOptions EndpointOptions(const Contender& contender) {
  return {.socket_buffer_bytes = contender.socket_buffer_bytes};
}

void ZmqServer(const Shape& shape, const Contender& contender, int port_pipe) {
  if (contender.tuned_malloc) TuneMallocForFrames();
  EventLoop loop({.spin = contender.spin});
  ZmqEndpoint endpoint(loop, EndpointOptions(contender));
  CHECK(endpoint.Bind("tcp://127.0.0.1:0").has_value());
  const std::string& address = endpoint.bound_address();
  const int port = std::stoi(address.substr(address.rfind(':') + 1));
  OnPacketDo handler;
  uint64_t n = 0;
  handler.run = [&](PeerId from, const Packet& packet) {
    Use(packet.frames.back().data(), packet.frames.back().size());
    CHECK(endpoint.Send(from, MakePacket(shape.reply_bytes, ++n)).has_value());
  };
  endpoint.SetHandler(handler);
  CHECK(write(port_pipe, &port, sizeof port) == sizeof port);
  loop.Run();
}

Measured ZmqClient(const Shape& shape, const Contender& contender, int depth, int port,
                   pid_t server) {
  if (contender.tuned_malloc) TuneMallocForFrames();
  EventLoop loop({.spin = contender.spin});
  ZmqEndpoint endpoint(loop, EndpointOptions(contender));
  const PeerId peer = endpoint.Connect(fmt::format("tcp://127.0.0.1:{}", port)).value();
  Progress meter(shape.requests, server);
  int sent = 0;
  OnPacketDo handler;
  handler.run = [&](PeerId, const Packet& packet) {
    meter.Replied();
    Use(packet.frames.back().data(), packet.frames.back().size());
    if (sent < meter.total()) {
      meter.Sent();
      CHECK(endpoint.Send(peer, MakePacket(shape.request_bytes, static_cast<uint64_t>(sent++))));
    } else if (meter.done()) {
      loop.Stop();
    }
  };
  endpoint.SetHandler(handler);
  const std::function<void()> start = [&] {
    for (; sent < depth; ++sent) {
      if (!endpoint.Send(peer, MakePacket(shape.request_bytes, 0))) break;
      meter.Sent();
    }
    if (sent < depth) loop.After(std::chrono::milliseconds(1), start);
  };
  loop.After(base::Duration(0), start);
  loop.Run();
  return meter.Result();
}

// ---- rounds

pid_t Fork(const std::function<void()>& child) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid != 0) return pid;
  child();
  _exit(0);
}

// Each side in a fresh process: malloc's settings and its warmth are per process.
Measured RunOnce(const Shape& shape, const Contender& contender, int depth) {
  int ports[2];
  int results[2];
  CHECK(pipe(ports) == 0 && pipe(results) == 0);
  const pid_t server =
      Fork([&] { (contender.raw_tcp ? TcpServer : ZmqServer)(shape, contender, ports[1]); });
  int port = 0;
  CHECK(read(ports[0], &port, sizeof port) == sizeof port);
  const pid_t client = Fork([&] {
    const Measured measured =
        (contender.raw_tcp ? TcpClient : ZmqClient)(shape, contender, depth, port, server);
    CHECK(write(results[1], &measured, sizeof measured) == sizeof measured);
  });
  Measured measured{};
  CHECK(read(results[0], &measured, sizeof measured) == sizeof measured);
  waitpid(client, nullptr, 0);
  kill(server, SIGKILL);
  waitpid(server, nullptr, 0);
  for (const int fd : {ports[0], ports[1], results[0], results[1]}) close(fd);
  return measured;
}

void Report(const Shape& shape, int depth, const std::string& name,
            const std::vector<Measured>& runs, const std::vector<double>& ratios) {
  const auto all = [&](double Measured::*field) {
    std::vector<double> values;
    for (const Measured& run : runs) values.push_back(run.*field);
    return values;
  };
  const auto least = [](const std::vector<double>& values) {
    return *std::min_element(values.begin(), values.end());
  };
  const std::vector<double> rates = all(&Measured::requests_per_sec);
  const double best = *std::max_element(rates.begin(), rates.end());
  const double bytes = static_cast<double>(shape.request_bytes + shape.reply_bytes);
  fmt::print("{:5} {:5} {:21} {:8.0f} {:8.0f} {:6.2f} {:7.1f} {:7.1f} {:7.1f} {:7.1f}   ",
             shape.name, depth, name, Median(rates), best, best * bytes / 1e9,
             least(all(&Measured::p50_us)), Median(all(&Measured::p99_us)),
             least(all(&Measured::client_cpu_us)), least(all(&Measured::server_cpu_us)));
  fmt::print("{:.2f} {:.2f} {:.2f}\n", least(ratios), Median(ratios),
             *std::max_element(ratios.begin(), ratios.end()));
  std::fflush(stdout);
}

void Compare(const Shape& shape, int depth, int rounds, const std::vector<Contender>& contenders) {
  std::map<std::string, std::vector<Measured>> runs;
  for (int round = 0; round < rounds; ++round) {
    for (const Contender& contender : contenders) {
      runs[contender.name].push_back(RunOnce(shape, contender, depth));
    }
  }
  const std::vector<Measured>& baseline = runs[contenders.front().name];
  for (const Contender& contender : contenders) {
    std::vector<double> ratios;
    for (int round = 0; round < rounds; ++round) {
      ratios.push_back(runs[contender.name][round].requests_per_sec /
                       baseline[round].requests_per_sec);
    }
    Report(shape, depth, contender.name, runs[contender.name], ratios);
  }
}

int Main(int argc, char** argv) {
  std::map<std::string, std::string> flags{
      {"--rounds", "7"}, {"--requests", "4000"}, {"--shape", ""}, {"--only", ""}};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!flags.contains(argv[i])) {
      fmt::print(stderr, "unknown flag {}; see the head of the source\n", argv[i]);
      return 2;
    }
    flags[argv[i]] = argv[i + 1];
  }
  const int requests = std::stoi(flags["--requests"]);
  const std::vector<Shape> shapes{{"pull", 32 << 10, 256 << 10, requests},
                                  {"push", 288 << 10, 64, requests},
                                  {"ping", 64, 64, 4 * requests}};
  const base::Duration spin(50);
  std::vector<Contender> contenders{
      {.name = "tcp/sleep", .raw_tcp = true},
      {.name = "tcp/spin", .raw_tcp = true, .spin = spin},
      {.name = "freshet/sleep"},
      {.name = "freshet/spin", .spin = spin},
      {.name = "freshet/plain-malloc", .tuned_malloc = false},
      {.name = "freshet/1MiB-buffers", .socket_buffer_bytes = 1 << 20},
      {.name = "freshet/4MiB-buffers", .socket_buffer_bytes = 4 << 20}};
  std::erase_if(contenders, [&](const Contender& contender) {
    return !contender.raw_tcp && contender.name.find(flags["--only"]) == std::string::npos;
  });
  fmt::print(
      "                                  req/s             GB/s   p50 us  p99 us  CPU us a "
      "request\n"
      "shape depth contender            median     best   best   least  median  client  server   "
      "ratio: min median max\n");
  for (const Shape& shape : shapes) {
    if (!flags["--shape"].empty() && flags["--shape"] != shape.name) continue;
    for (const int depth : {1, 2, 4}) {
      Compare(shape, depth, std::stoi(flags["--rounds"]), contenders);
    }
  }
  return 0;
}

}  // namespace
}  // namespace freshet::transport

int main(int argc, char** argv) { return freshet::transport::Main(argc, argv); }
