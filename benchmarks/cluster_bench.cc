// SPDX-License-Identifier: Apache-2.0
// Pulls and pushes of a whole cluster: freshet-master, freshet-ps processes and this process as their
// only client, over loopback. It fills a table with adagrad rows, then keeps `depth` calls of `batch`
// random keys in flight through a Session: pulls, pushes, and beside each a bare TCP connection that
// moves the same bytes, in turns. Medians over the rounds, ratios per round, as JSON on stdout.
//   cluster_bench [--rows N] [--dim N] [--batch N] [--depth N] [--ps N] [--seconds S] [--rounds N]
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/config.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "benchmarks/tcp_baseline.h"
#include "protocol/table_schema.h"
#include "tests/integration/local_cluster.h"
#include "transport/daemon.h"
#include "worker/client/session.h"

namespace freshet::benchmarks {
namespace {

using protocol::Key;

struct Options {
  uint64_t rows = 10'000'000;
  uint32_t dim = 16;
  uint32_t batch = 4096;
  uint32_t depth = 4;
  uint32_t ps = 1;
  double seconds = 2;
  uint32_t rounds = 7;
  uint32_t records = 512;
  bool alone = false;

  void Declare(base::ConfigFields& fields) {
    fields.Add("rows", &rows, {.min = 1000, .max = 1'000'000'000}, "rows of the table");
    fields.Add("dim", &dim, {.min = 1, .max = 1024}, "floats of a row, beside as many of adagrad");
    fields.Add("batch", &batch, {.min = 1, .max = 100'000}, "keys of a call");
    fields.Add("depth", &depth, {.min = 1, .max = 64}, "calls in flight");
    fields.Add("ps", &ps, {.min = 1, .max = 64}, "parameter servers");
    fields.Add("seconds", &seconds, {.min = 0.05, .max = 600.0}, "of each measurement");
    fields.Add("rounds", &rounds, {.min = 1, .max = 100}, "of all measurements");
    fields.Add("records", &records, {.min = 1, .max = 65'536}, "records that a push covers");
    fields.Add("alone", &alone, "leave the bare TCP connection out, for profilers");
  }
};

enum class Kind { kPull, kPush };

// Keeps calls in flight. Lives on the loop.
class Load {
 public:
  Load(const Options& options, worker::Session& session, protocol::TableId table)
      : options_(options), session_(session), table_(table), random_(1) {
    slots_.resize(options.depth);
    // Drawn before the measurement; more than the caches of the client hold.
    random_keys_.resize(64);
    for (std::vector<Key>& keys : random_keys_) {
      keys.resize(options.batch);
      for (Key& key : keys) key = random_.Below(options.rows);
    }
  }

  // Keys in order; once.
  void StartFill() {
    Start(
        Kind::kPush, [this](Slot& slot) { return NextOfFill(slot); }, nullptr);
  }
  // Until Stop.
  void StartRandom(Kind kind, Meter* meter) {
    stopping_ = false;
    Start(
        kind, [this](Slot& slot) { return NextAtRandom(slot); }, meter);
  }
  void Stop() { stopping_ = true; }
  bool idle() const { return active_ == 0; }
  uint64_t filled() const { return filled_; }

 private:
  struct Slot {
    worker::KeyRouting routing;
    std::vector<Key> keys;
    std::vector<float> values;
    double sent = 0;
  };
  using Next = std::function<bool(Slot&)>;

  void Start(Kind kind, const Next& next, Meter* meter) {
    for (Slot& slot : slots_) {
      ++active_;
      Issue(slot, kind, next, meter);
    }
  }

  bool NextOfFill(Slot& slot) {
    const uint64_t count = std::min<uint64_t>(16384, options_.rows - filled_);
    slot.keys.resize(count);
    for (Key& key : slot.keys) key = filled_++;
    slot.routing.Build(table_, slot.keys, session_.partitions());
    return count > 0;
  }

  bool NextAtRandom(Slot& slot) {
    if (stopping_) return false;
    slot.routing.Build(table_, random_keys_[++calls_ % random_keys_.size()], session_.partitions());
    return true;
  }

  void Issue(Slot& slot, Kind kind, const Next& next, Meter* meter) {
    const double begin = Now();
    if (!next(slot)) {
      --active_;
      return;
    }
    slot.values.resize(slot.routing.size() * options_.dim, 0.01f);
    const auto done = [this, &slot, kind, next, meter](bool ok) {
      CHECK(ok);
      if (meter != nullptr) meter->Add((Now() - slot.sent) * 1e6);
      Issue(slot, kind, next, meter);
    };
    slot.sent = begin;
    if (kind == Kind::kPull) {
      session_.Pull({{&slot.routing, options_.dim, slot.values.data(), nullptr}},
                    [done](base::Result<> outcome) { done(outcome.has_value()); });
      return;
    }
    // Behind the end of the log, so that the job goes on for ever.
    const protocol::Offset begins = kBeyondLog + pushes_++ * options_.records;
    session_.Push({protocol::LogId(0),
                   {begins, begins + options_.records},
                   {},
                   {{&slot.routing, options_.dim, nullptr, slot.values.data()}}},
                  [done](base::Result<worker::PushResult> outcome) {
                    done(outcome && *outcome == worker::PushResult::kApplied);
                  });
  }

  static constexpr protocol::Offset kBeyondLog = 1'000'000;

  const Options& options_;
  worker::Session& session_;
  protocol::TableId table_;
  base::Random random_;
  std::vector<std::vector<Key>> random_keys_;
  std::vector<Slot> slots_;
  uint64_t filled_ = 0;
  uint64_t calls_ = 0;
  uint64_t pushes_ = 0;
  uint32_t active_ = 0;
  bool stopping_ = false;
};

// The other end of the bare connection, a child of this process.
class TcpPeer {
 public:
  // Before the first thread of this process.
  TcpPeer() {
    int ports[2];
    CHECK(pipe(ports) == 0);
    pid_ = fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) RunTcpServer(base::Duration(0), ports[1]);
    CHECK(read(ports[0], &port_, sizeof port_) == sizeof port_);
    close(ports[0]);
    close(ports[1]);
  }
  ~TcpPeer() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  TcpPeer(const TcpPeer&) = delete;
  TcpPeer& operator=(const TcpPeer&) = delete;

  Measured Run(TcpSizes sizes, int depth, int requests) const {
    return RunTcpClient(ConnectTcp(port_, sizes, base::Duration(0)),
                        {sizes, depth, requests / 10, requests}, pid_);
  }

 private:
  pid_t pid_ = 0;
  int port_ = 0;
};

struct Outcome {
  std::vector<Measured> calls;
  std::vector<Measured> tcp;
  std::vector<double> ratios;
};

class Bench {
 public:
  Bench(const Options& options, const TcpPeer& tcp, const testing::LocalCluster& cluster)
      : options_(options),
        tcp_(tcp),
        cluster_(cluster),
        session_(SessionFor(cluster), daemon_.runtime(), daemon_.endpoint()) {
    session_.on_exit = [](int, const std::string& why) {
      fmt::print(stderr, "cluster_bench: {}\n", why);
      std::_Exit(1);
    };
    daemon_.on_drain = [] { std::_Exit(130); };
    daemon_.endpoint().SetHandler(session_);
  }

  void Join() {
    bool registered = false;
    session_.on_registered = [&](const protocol::RegisterReply&) { registered = true; };
    session_.Start();
    Await([&] { return registered; });
    protocol::TableSchema schema{.name = "bench", .dim = options_.dim};
    schema.optimizer.kind = protocol::OptimizerKind::kAdagrad;
    schema.init = {{protocol::InitKind::kUniform, 0.01f, 0, options_.dim}};
    bool declared = false;
    session_.DeclareTables({schema}, [&](base::Result<std::vector<protocol::TableId>> ids) {
      CHECK(ids.has_value());
      load_ = std::make_unique<Load>(options_, session_, ids->front());
      declared = true;
    });
    Await([&] { return declared; });
    // The servers store their first images, empty ones, if nobody is quicker with rows; there are no
    // others while the benchmark runs.
    RunFor(1.0);
  }

  void Fill() {
    const double begin = Now();
    load_->StartFill();
    double shown = begin;
    Await([&] {
      if (Now() - shown > 1) {
        shown = Now();
        fmt::print(stderr, "\rfilled {} of {} rows ", load_->filled(), options_.rows);
      }
      return load_->idle();
    });
    fill_rows_per_s_ = static_cast<double>(options_.rows) / (Now() - begin);
    fmt::print(stderr, "\rfilled {} rows at {:.1f} M rows/s\n", options_.rows,
               fill_rows_per_s_ / 1e6);
  }

  void Round(Kind kind, Outcome& outcome) {
    std::vector<pid_t> servers;
    for (uint32_t i = 0; i < options_.ps; ++i) {
      servers.push_back(static_cast<pid_t>(cluster_.ps_pid(static_cast<int>(i))));
    }
    Meter meter(servers);
    load_->StartRandom(kind, &meter);
    RunFor(options_.seconds / 10);
    meter.Start();
    RunFor(options_.seconds);
    outcome.calls.push_back(meter.Result());
    load_->Stop();
    Await([&] { return load_->idle(); });
    if (options_.alone) return;
    const uint64_t keys = uint64_t{options_.batch} * sizeof(Key);
    const uint64_t values = uint64_t{options_.batch} * options_.dim * sizeof(float);
    const TcpSizes sizes =
        kind == Kind::kPull ? TcpSizes{keys, values} : TcpSizes{keys + values, 64};
    // As long as the calls took at twice their rate.
    const double requests = outcome.calls.back().requests_per_sec * options_.seconds * 1.5;
    outcome.tcp.push_back(
        tcp_.Run(sizes, static_cast<int>(options_.depth), static_cast<int>(requests) + 20));
    outcome.ratios.push_back(outcome.calls.back().requests_per_sec /
                             outcome.tcp.back().requests_per_sec);
  }

  double fill_rows_per_s() const { return fill_rows_per_s_; }

 private:
  static worker::SessionOptions SessionFor(const testing::LocalCluster& cluster) {
    worker::SessionOptions options;
    options.name = "bench";
    options.master = cluster.master_address();
    options.pid = getpid();
    return options;
  }
  void Await(const std::function<bool()>& condition) {
    CHECK(daemon_.loop().RunUntil(condition, std::chrono::minutes(30)));
  }
  void RunFor(double seconds) {
    daemon_.loop().RunUntil([] { return false; },
                            base::Duration(static_cast<int64_t>(seconds * 1e6)));
  }

  const Options& options_;
  const TcpPeer& tcp_;
  const testing::LocalCluster& cluster_;
  transport::Daemon daemon_;
  worker::Session session_;
  std::unique_ptr<Load> load_;
  double fill_rows_per_s_ = 0;
};

double MedianOf(const std::vector<Measured>& runs, double Measured::*field) {
  std::vector<double> values;
  for (const Measured& run : runs) values.push_back(run.*field);
  return Median(values);
}

std::string Json(const Outcome& outcome, double batch) {
  const auto of = [](const std::vector<Measured>& runs, double batch_rows) {
    return fmt::format(
        R"("rows_per_s": {:.0f}, "p50_us": {:.1f}, "p99_us": {:.1f}, "client_cpu_us": {:.1f}, )"
        R"("server_cpu_us": {:.1f})",
        MedianOf(runs, &Measured::requests_per_sec) * batch_rows, MedianOf(runs, &Measured::p50_us),
        MedianOf(runs, &Measured::p99_us), MedianOf(runs, &Measured::client_cpu_us),
        MedianOf(runs, &Measured::server_cpu_us));
  };
  if (outcome.tcp.empty()) return fmt::format("{{{}}}", of(outcome.calls, batch));
  const auto [least, most] = std::minmax_element(outcome.ratios.begin(), outcome.ratios.end());
  return fmt::format(
      R"({{{}, "tcp": {{{}}}, "of_tcp": {{"min": {:.2f}, "median": {:.2f}, "max": {:.2f}}}}})",
      of(outcome.calls, batch), of(outcome.tcp, batch), *least, Median(outcome.ratios), *most);
}

int Run(const Options& options, const std::string& dir) {
  const TcpPeer tcp;
  CHECK(base::WriteFileAtomic(dir + "/log.csv", "userId,movieId,rating,timestamp\n1,1,4.0,1\n"));
  testing::LocalCluster cluster({.dir = dir + "/cluster",
                                 .data = dir + "/log.csv",
                                 .schema = "movielens",
                                 .ps = static_cast<int>(options.ps),
                                 .ps_args = {"--checkpoint-interval-ms", "3600000"}});
  if (auto started = cluster.Start(); !started) {
    fmt::print(stderr, "cluster_bench: {}\n", started.error().message);
    return 1;
  }
  Bench bench(options, tcp, cluster);
  bench.Join();
  bench.Fill();
  Outcome pull;
  Outcome push;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    bench.Round(Kind::kPull, pull);
    bench.Round(Kind::kPush, push);
  }
  const double batch = options.batch;
  fmt::print(
      "{{\"rows\": {}, \"dim\": {}, \"batch\": {}, \"depth\": {}, \"ps\": {}, "
      "\"fill_rows_per_s\": {:.0f},\n",
      options.rows, options.dim, options.batch, options.depth, options.ps, bench.fill_rows_per_s());
  fmt::print(" \"pull_rows_per_s\": {:.0f}, \"push_rows_per_s\": {:.0f}, ",
             MedianOf(pull.calls, &Measured::requests_per_sec) * batch,
             MedianOf(push.calls, &Measured::requests_per_sec) * batch);
  fmt::print("\"p50_us\": {:.1f}, \"p99_us\": {:.1f},\n", MedianOf(pull.calls, &Measured::p50_us),
             MedianOf(pull.calls, &Measured::p99_us));
  fmt::print(" \"pull\": {},\n \"push\": {}}}\n", Json(pull, batch), Json(push, batch));
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  base::ConfigFields fields;
  options.Declare(fields);
  base::ConfigOptions about;
  about.program = "cluster_bench";
  about.description = "Pulls and pushes of a whole cluster over loopback, beside bare TCP.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  base::SetLogLevel(base::LogLevel::kError);
  std::error_code ignored;
  std::string dir =
      std::filesystem::temp_directory_path(ignored).string() + "/freshet-bench-XXXXXX";
  CHECK(mkdtemp(dir.data()) != nullptr);
  const int code = Run(options, dir);
  std::filesystem::remove_all(dir, ignored);
  return code;
}

}  // namespace
}  // namespace freshet::benchmarks

int main(int argc, char** argv) { return freshet::benchmarks::Main(argc, argv); }
