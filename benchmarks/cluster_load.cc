// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/cluster_load.h"

#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "protocol/table_schema.h"

namespace freshet::benchmarks {

using protocol::Key;

int InTempDir(const std::string& parent, const std::function<int(const std::string&)>& work) {
  std::error_code ignored;
  std::string dir =
      parent.empty() ? std::filesystem::temp_directory_path(ignored).string() : parent;
  dir += "/freshet-bench-XXXXXX";
  CHECK(mkdtemp(dir.data()) != nullptr);
  const int code = work(dir);
  std::filesystem::remove_all(dir, ignored);
  return code;
}

std::string WriteShortLog(const std::string& dir) {
  std::string path = dir + "/log.csv";
  CHECK(base::WriteFileAtomic(path, "userId,movieId,rating,timestamp\n1,1,4.0,1\n"));
  return path;
}

namespace {

worker::SessionOptions Named(worker::SessionOptions options, const std::string& master) {
  options.name = "bench";
  options.master = master;
  options.pid = getpid();
  return options;
}

}  // namespace

ClusterClient::ClusterClient(const testing::LocalCluster& cluster, worker::SessionOptions options)
    : session_(Named(std::move(options), cluster.master_address()), daemon_.runtime(),
               daemon_.endpoint()) {
  session_.on_exit = [](int, const std::string& why) {
    fmt::print(stderr, "the benchmark has to leave the cluster: {}\n", why);
    std::_Exit(1);
  };
  daemon_.on_drain = [] { std::_Exit(130); };
  daemon_.endpoint().SetHandler(session_);
}

protocol::TableId ClusterClient::Join(uint32_t dim) {
  bool registered = false;
  session_.on_registered = [&](const protocol::RegisterReply&) { registered = true; };
  session_.Start();
  Await([&] { return registered; });
  protocol::TableSchema schema{.name = "bench", .dim = dim};
  schema.optimizer.kind = protocol::OptimizerKind::kAdagrad;
  schema.init = {{protocol::InitKind::kUniform, 0.01f, 0, dim}};
  std::optional<protocol::TableId> table;
  session_.DeclareTables({schema}, [&](base::Result<std::vector<protocol::TableId>> ids) {
    CHECK(ids.has_value());
    table = ids->front();
  });
  Await([&] { return table.has_value(); });
  return *table;
}

void ClusterClient::Await(const std::function<bool()>& condition) {
  CHECK(daemon_.loop().RunUntil(condition, std::chrono::minutes(30)));
}

void ClusterClient::RunFor(double seconds) {
  daemon_.loop().RunUntil([] { return false; },
                          base::Duration(static_cast<int64_t>(seconds * 1e6)));
}

void ClusterClient::AwaitWork(std::function<void()> work, const std::function<void()>& each_pass) {
  bool done = false;
  daemon_.runtime().executor.Run(std::move(work), [&done] { done = true; });
  Await([&] {
    each_pass();
    return done;
  });
}

Load::Load(const LoadOptions& options, worker::Session& session, protocol::TableId table)
    : options_(options), session_(session), table_(table), random_(1) {
  slots_.resize(options.depth);
  // Drawn before the measurement; more than the caches of the client hold.
  random_keys_.resize(64);
  for (std::vector<Key>& keys : random_keys_) {
    keys.resize(options.batch);
    for (Key& key : keys) key = random_.Below(options.rows);
  }
}

void Load::StartFill() {
  Start(
      CallKind::kPush, [this](Slot& slot) { return NextOfFill(slot); }, nullptr);
}

void Load::StartRandom(CallKind kind, Meter* meter) {
  stopping_ = false;
  Start(
      kind, [this](Slot& slot) { return NextAtRandom(slot); }, meter);
}

void Load::Start(CallKind kind, const Next& next, Meter* meter) {
  for (Slot& slot : slots_) {
    ++active_;
    Issue(slot, kind, next, meter);
  }
}

bool Load::NextOfFill(Slot& slot) {
  const uint64_t count = std::min<uint64_t>(16384, options_.rows - filled_);
  slot.keys.resize(count);
  for (Key& key : slot.keys) key = filled_++;
  slot.routing.Build(table_, slot.keys, session_.partitions());
  return count > 0;
}

bool Load::NextAtRandom(Slot& slot) {
  if (stopping_) return false;
  slot.routing.Build(table_, random_keys_[++calls_ % random_keys_.size()], session_.partitions());
  return true;
}

void Load::Issue(Slot& slot, CallKind kind, const Next& next, Meter* meter) {
  const double begin = Now();
  if (!next(slot)) {
    --active_;
    return;
  }
  slot.values.resize(slot.routing.size() * options_.dim, 0.01f);
  const auto done = [this, &slot, kind, next, meter](bool ok) {
    failed_ += ok ? 0 : 1;
    if (meter != nullptr) meter->Add((Now() - slot.sent) * 1e6);
    Issue(slot, kind, next, meter);
  };
  slot.sent = begin;
  if (kind == CallKind::kPull) {
    session_.Pull({{&slot.routing, options_.dim, slot.values.data(), nullptr}},
                  [done](base::Result<> outcome) { done(outcome.has_value()); });
    return;
  }
  const protocol::Offset begins = kBeyondLog + pushes_++ * options_.records;
  session_.Push({protocol::LogId(0),
                 {begins, begins + options_.records},
                 {},
                 {{&slot.routing, options_.dim, nullptr, slot.values.data()}}},
                [this, done](base::Result<worker::PushResult> outcome) {
                  // One that was repeated may be answered as applied already.
                  const bool ok = outcome && *outcome != worker::PushResult::kConflict;
                  records_pushed_ += ok ? options_.records : 0;
                  done(ok);
                });
}

double FillTable(ClusterClient& client, Load& load, uint64_t rows) {
  const double begin = Now();
  load.StartFill();
  double shown = begin;
  client.Await([&] {
    if (Now() - shown > 1) {
      shown = Now();
      fmt::print(stderr, "\rfilled {} of {} rows ", load.filled(), rows);
    }
    return load.idle();
  });
  CHECK(load.failed() == 0);
  const double rows_per_s = static_cast<double>(rows) / (Now() - begin);
  fmt::print(stderr, "\rfilled {} rows at {:.1f} M rows/s\n", rows, rows_per_s / 1e6);
  return rows_per_s;
}

TcpPeer::TcpPeer() {
  int ports[2];
  CHECK(pipe(ports) == 0);
  pid_ = fork();
  CHECK(pid_ >= 0);
  if (pid_ == 0) {
    // Also when a signal ends the benchmark.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    RunTcpServer(base::Duration(0), ports[1]);
  }
  CHECK(read(ports[0], &port_, sizeof port_) == sizeof port_);
  close(ports[0]);
  close(ports[1]);
}

TcpPeer::~TcpPeer() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Measured TcpPeer::Run(TcpSizes sizes, int depth, int requests) const {
  return RunTcpClient(ConnectTcp(port_, sizes, base::Duration(0)),
                      {sizes, depth, requests / 10, requests}, pid_);
}

}  // namespace freshet::benchmarks
