// SPDX-License-Identifier: Apache-2.0
// What benchmarks compare with: requests and replies of fixed sizes over one bare TCP connection, and
// the clocks and meters that both contenders use. Every sender writes and every receiver reads all bytes.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/runtime.h"

namespace freshet::benchmarks {

double SecondsOf(clockid_t clock);
double Now();

// Stands for gathering rows into a reply.
void Fill(std::byte* data, size_t size, uint64_t with);
// Stands for using what came.
void Use(const std::byte* data, size_t size);

// Plain, so that it can cross a pipe. Latencies and CPU are those of one request.
struct Measured {
  double requests_per_sec;
  double p50_us;
  double p99_us;
  double client_cpu_us;
  double server_cpu_us;
};

double Median(std::vector<double> values);

// Rate, latencies and CPU between Start and Result. The CPU of the client is that of this process.
class Meter {
 public:
  explicit Meter(std::vector<pid_t> servers);
  void Start();
  void Add(double latency_us) { latencies_.push_back(latency_us); }
  size_t count() const { return latencies_.size(); }
  // At least one request was added.
  Measured Result();

 private:
  double ServerCpu() const;

  std::vector<clockid_t> servers_;
  std::vector<double> latencies_;
  double start_ = 0;
  double client_cpu_ = 0;
  double server_cpu_ = 0;
};

struct TcpSizes {
  uint64_t request_bytes = 0;
  uint64_t reply_bytes = 0;
};

// Blocking, or spinning for a while before it blocks.
struct TcpStream {
  int fd = -1;
  base::Duration spin{0};

  // False at the end of the stream.
  bool Read(std::byte* data, size_t size);
  void Write(const std::byte* data, size_t size);
};

// Serves one connection after another, each of which begins with its sizes; for ever. Writes its port
// to `port_pipe` first.
[[noreturn]] void RunTcpServer(base::Duration spin, int port_pipe);

// Connected to such a server.
TcpStream ConnectTcp(int port, TcpSizes sizes, base::Duration spin);

struct TcpLoad {
  TcpSizes sizes;
  int depth = 1;
  int warm_up = 0;  // requests that are not measured
  int requests = 0;
};
// Replies come in the order of the requests. Closes the stream.
Measured RunTcpClient(TcpStream stream, const TcpLoad& load, pid_t server);

}  // namespace freshet::benchmarks
