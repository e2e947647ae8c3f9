// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/tcp_baseline.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace freshet::benchmarks {
namespace {

uint64_t g_sink = 0;

void NoDelay(int fd) {
  const int on = 1;
  CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
}

sockaddr_in Loopback(int port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<uint16_t>(port));
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return at;
}

}  // namespace

double SecondsOf(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double Now() { return SecondsOf(CLOCK_MONOTONIC); }

void Fill(std::byte* data, size_t size, uint64_t with) {
  std::memset(data, static_cast<int>(with & 0xFF), size);
}

void Use(const std::byte* data, size_t size) {
  uint64_t sum = 0;
  for (size_t i = 0; i + 8 <= size; i += 8) {
    uint64_t word;
    std::memcpy(&word, data + i, 8);
    sum += word;
  }
  g_sink += sum;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Meter::Meter(std::vector<pid_t> servers) {
  for (const pid_t pid : servers) {
    servers_.emplace_back();
    CHECK(clock_getcpuclockid(pid, &servers_.back()) == 0);
  }
}

double Meter::ServerCpu() const {
  double seconds = 0;
  for (const clockid_t clock : servers_) seconds += SecondsOf(clock);
  return seconds;
}

void Meter::Start() {
  latencies_.clear();
  start_ = Now();
  client_cpu_ = SecondsOf(CLOCK_PROCESS_CPUTIME_ID);
  server_cpu_ = ServerCpu();
}

Measured Meter::Result() {
  const auto n = static_cast<double>(latencies_.size());
  const double seconds = Now() - start_;
  const double client = SecondsOf(CLOCK_PROCESS_CPUTIME_ID) - client_cpu_;
  const double server = ServerCpu() - server_cpu_;
  std::sort(latencies_.begin(), latencies_.end());
  return {n / seconds, latencies_[latencies_.size() / 2], latencies_[latencies_.size() * 99 / 100],
          client * 1e6 / n, server * 1e6 / n};
}

bool TcpStream::Read(std::byte* data, size_t size) {
  const double window = 1e-6 * static_cast<double>(spin.count());
  double spin_until = Now() + window;
  while (size > 0) {
    const bool spinning = spin.count() > 0 && Now() < spin_until;
    const ssize_t got = recv(fd, data, size, spinning ? MSG_DONTWAIT : 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return false;
    if (got < 0) continue;
    data += got;
    size -= static_cast<size_t>(got);
    spin_until = Now() + window;
  }
  return true;
}

void TcpStream::Write(const std::byte* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    CHECK(sent > 0);
    data += sent;
    size -= static_cast<size_t>(sent);
  }
}

void RunTcpServer(base::Duration spin, int port_pipe) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at = Loopback(0);
  socklen_t size = sizeof at;
  CHECK(bind(listener, reinterpret_cast<sockaddr*>(&at), size) == 0);
  CHECK(listen(listener, 1) == 0);
  CHECK(getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) == 0);
  const int port = ntohs(at.sin_port);
  CHECK(write(port_pipe, &port, sizeof port) == sizeof port);
  for (;;) {
    TcpStream stream{accept(listener, nullptr, nullptr), spin};
    NoDelay(stream.fd);
    TcpSizes sizes;
    if (stream.Read(reinterpret_cast<std::byte*>(&sizes), sizeof sizes)) {
      std::vector<std::byte> request(sizes.request_bytes);
      std::vector<std::byte> reply(sizes.reply_bytes);
      for (uint64_t n = 0; stream.Read(request.data(), request.size()); ++n) {
        Use(request.data(), request.size());
        Fill(reply.data(), reply.size(), n);
        stream.Write(reply.data(), reply.size());
      }
    }
    close(stream.fd);
  }
}

TcpStream ConnectTcp(int port, TcpSizes sizes, base::Duration spin) {
  TcpStream stream{socket(AF_INET, SOCK_STREAM, 0), spin};
  const sockaddr_in to = Loopback(port);
  CHECK(connect(stream.fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  NoDelay(stream.fd);
  stream.Write(reinterpret_cast<const std::byte*>(&sizes), sizeof sizes);
  return stream;
}

Measured RunTcpClient(TcpStream stream, const TcpLoad& load, pid_t server) {
  std::vector<std::byte> request(load.sizes.request_bytes);
  std::vector<std::byte> reply(load.sizes.reply_bytes);
  Meter meter({server});
  std::deque<double> sent_at;
  const int total = load.warm_up + load.requests;
  int sent = 0;
  const auto send_one = [&] {
    Fill(request.data(), request.size(), static_cast<uint64_t>(sent++));
    sent_at.push_back(Now());
    stream.Write(request.data(), request.size());
  };
  while (sent < std::min(load.depth, total)) send_one();
  for (int replied = 0; replied < total; ++replied) {
    if (replied == load.warm_up) meter.Start();
    CHECK(stream.Read(reply.data(), reply.size()));
    meter.Add((Now() - sent_at.front()) * 1e6);
    sent_at.pop_front();
    Use(reply.data(), reply.size());
    if (sent < total) send_one();
  }
  const Measured result = meter.Result();
  close(stream.fd);
  return result;
}

}  // namespace freshet::benchmarks
