// SPDX-License-Identifier: Apache-2.0
// What benchmarks of whole clusters share: this process as a worker of a cluster, the calls it keeps in
// flight, a bare TCP connection to compare with, and a directory to work in.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/random.h"
#include "benchmarks/tcp_baseline.h"
#include "tests/integration/local_cluster.h"
#include "transport/daemon.h"
#include "worker/client/session.h"

namespace freshet::benchmarks {

// Makes a directory under `parent` (empty: of temporary files), runs `work` in it, and removes it.
int InTempDir(const std::string& parent, const std::function<int(const std::string& dir)>& work);

// A log of one record for a cluster whose benchmark pushes what it likes; its path.
std::string WriteShortLog(const std::string& dir);
inline constexpr const char* kShortLogSchema = "movielens";
// Offsets from here on are behind the end of that log, so that the job goes on for ever.
inline constexpr protocol::Offset kBeyondLog = 1'000'000;

// A worker of the cluster on the loop of this thread. Whatever makes it leave ends the process.
class ClusterClient {
 public:
  ClusterClient(const testing::LocalCluster& cluster, worker::SessionOptions options);

  // Registers and declares a table of adagrad rows.
  protocol::TableId Join(uint32_t dim);
  void Await(const std::function<bool()>& condition);
  void RunFor(double seconds);
  // Blocking `work` on another thread, while the loop goes on here; `each_pass` runs often.
  void AwaitWork(std::function<void()> work, const std::function<void()>& each_pass);

  worker::Session& session() { return session_; }

 private:
  transport::Daemon daemon_;
  worker::Session session_;
};

struct LoadOptions {
  uint64_t rows = 0;
  uint32_t dim = 0;
  uint32_t batch = 4096;   // keys of a call
  uint32_t depth = 4;      // calls in flight
  uint32_t records = 512;  // that a push covers
};

enum class CallKind { kPull, kPush };

// Keeps calls in flight. Lives on the loop; borrows all it is given.
class Load {
 public:
  Load(const LoadOptions& options, worker::Session& session, protocol::TableId table);

  // Keys in order; once.
  void StartFill();
  // Until Stop; `meter` may be null.
  void StartRandom(CallKind kind, Meter* meter);
  void Stop() { stopping_ = true; }
  bool idle() const { return active_ == 0; }
  uint64_t filled() const { return filled_; }
  uint64_t records_pushed() const { return records_pushed_; }
  // Calls that came back without having done what was asked.
  uint64_t failed() const { return failed_; }

 private:
  struct Slot {
    worker::KeyRouting routing;
    std::vector<protocol::Key> keys;
    std::vector<float> values;
    double sent = 0;
  };
  using Next = std::function<bool(Slot&)>;

  void Start(CallKind kind, const Next& next, Meter* meter);
  bool NextOfFill(Slot& slot);
  bool NextAtRandom(Slot& slot);
  void Issue(Slot& slot, CallKind kind, const Next& next, Meter* meter);

  const LoadOptions options_;
  worker::Session& session_;
  protocol::TableId table_;
  base::Random random_;
  std::vector<std::vector<protocol::Key>> random_keys_;
  std::vector<Slot> slots_;
  uint64_t filled_ = 0;
  uint64_t calls_ = 0;
  uint64_t pushes_ = 0;
  uint64_t records_pushed_ = 0;
  uint64_t failed_ = 0;
  uint32_t active_ = 0;
  bool stopping_ = false;
};

// Fills the table, with progress on stderr; rows a second.
double FillTable(ClusterClient& client, Load& load, uint64_t rows);

// The other end of the bare connection, a child of this process.
class TcpPeer {
 public:
  // Before the first thread of this process.
  TcpPeer();
  ~TcpPeer();
  TcpPeer(const TcpPeer&) = delete;
  TcpPeer& operator=(const TcpPeer&) = delete;

  // The load says how many requests; a tenth as many before that warm up.
  Measured Run(TcpSizes sizes, int depth, int requests) const;

 private:
  pid_t pid_ = 0;
  int port_ = 0;
};

}  // namespace freshet::benchmarks
