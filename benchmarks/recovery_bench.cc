// SPDX-License-Identifier: Apache-2.0
// How long a parameter server is away that is killed with a large table: fills adagrad rows through a
// Session, makes them durable, then, a few times: SIGKILL, starts it again at once (as a launcher does),
// and measures from the signal until a first pull of one key and a pull of keys of every partition were
// served, beside a plain sequential read of as many bytes of the same file. The page cache is warm.
//   recovery_bench [--rows N] [--dim N] [--rounds N] [--partitions N]
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
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
#include "cli/admin_client.h"
#include "protocol/table_schema.h"
#include "tests/integration/local_cluster.h"
#include "transport/daemon.h"
#include "worker/client/session.h"

namespace freshet::benchmarks {
namespace {

using protocol::Key;

struct Options {
  uint64_t rows = 5'000'000;
  uint32_t dim = 16;
  uint32_t rounds = 5;
  uint32_t partitions = 256;
  std::string dir;

  void Declare(base::ConfigFields& fields) {
    fields.Add("rows", &rows, {.min = 1000, .max = 1'000'000'000}, "rows of the table");
    fields.Add("dim", &dim, {.min = 1, .max = 1024}, "floats of a row, beside as many of adagrad");
    fields.Add("rounds", &rounds, {.min = 1, .max = 1000}, "kills");
    fields.Add("partitions", &partitions, {.min = 1, .max = 4096}, "of the cluster");
    fields.Add("dir", &dir, "existing directory to work in; default: of temporary files");
  }
  // Keys, counts, weights and state, as images hold them.
  uint64_t Bytes() const { return rows * (12 + uint64_t{dim} * 8); }
};

struct Round {
  double gone_ms = 0;     // the old process has given its memory back
  double started_ms = 0;  // the new one runs
  double registered_ms = 0;
  double first_pull_ms = 0;
  double loaded_ms = 0;
  double load_mb_per_s = 0;  // from registered to loaded
  double read_mb_per_s = 0;
};

double PlainReadMbPerS(const std::string& path, uint64_t bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  std::vector<std::byte> buffer(1 << 20);
  const double begin = Now();
  uint64_t total = 0;
  while (total < bytes) {
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got <= 0) break;
    Use(buffer.data(), static_cast<size_t>(got));
    total += static_cast<uint64_t>(got);
  }
  const double seconds = Now() - begin;
  close(fd);
  return static_cast<double>(total) / seconds / 1e6;
}

class Bench {
 public:
  Bench(const Options& options, testing::LocalCluster& cluster)
      : options_(options),
        cluster_(cluster),
        session_(SessionFor(cluster), daemon_.runtime(), daemon_.endpoint()),
        random_(1) {
    session_.on_exit = [](int, const std::string& why) {
      fmt::print(stderr, "recovery_bench: {}\n", why);
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
      table_ = ids->front();
      declared = true;
    });
    Await([&] { return declared; });
  }

  void Fill() {
    std::vector<Key> keys;
    std::vector<float> gradients;
    worker::KeyRouting routing;
    const double begin = Now();
    for (uint64_t filled = 0; filled < options_.rows;) {
      keys.resize(std::min<uint64_t>(65'536, options_.rows - filled));
      for (Key& key : keys) key = filled++;
      routing.Build(table_, keys, session_.partitions());
      gradients.assign(keys.size() * options_.dim, 0.01f);
      // Behind the end of the log, so that the job goes on for ever.
      const protocol::Offset offset = 1'000'000 + filled;
      bool done = false;
      session_.Push({protocol::LogId(0),
                     {offset, offset + 1},
                     {},
                     {{&routing, options_.dim, nullptr, gradients.data()}}},
                    [&](base::Result<worker::PushResult> outcome) {
                      // A push that was repeated may be answered as one that is applied already.
                      CHECK(outcome && *outcome != worker::PushResult::kConflict);
                      done = true;
                    });
      Await([&] { return done; });
    }
    fmt::print(stderr, "filled {} rows in {:.1f} s\n", options_.rows, Now() - begin);
    const double stored = Now();
    const auto checkpoint =
        cli::AdminClient(cluster_.dir()).Post("/v1/checkpoint", std::chrono::minutes(5));
    CHECK(checkpoint.has_value());
    fmt::print(stderr, "made durable in {:.1f} s\n", Now() - stored);
  }

  Round KillOnce() {
    Round round;
    const protocol::Incarnation before = session_.view().nodes.at(0).incarnation;
    const double begin = Now();
    const auto since = [begin] { return (Now() - begin) * 1e3; };
    cluster_.KillPs(0);
    round.gone_ms = since();
    CHECK(cluster_.StartPs(0).has_value());
    round.started_ms = since();
    bool first = false;
    bool all = false;
    Pull(&one_, 1, [&] {
      round.first_pull_ms = since();
      first = true;
    });
    Await([&] { return session_.view().nodes.at(0).incarnation != before; });
    round.registered_ms = since();
    Await([&] { return first; });
    Pull(&many_, 16'384, [&] {
      round.loaded_ms = since();
      all = true;
    });
    Await([&] { return all; });
    const auto bytes = static_cast<double>(options_.Bytes());
    round.load_mb_per_s = bytes / (round.loaded_ms - round.registered_ms) / 1e3;
    round.read_mb_per_s =
        PlainReadMbPerS(cluster_.dir() + "/ps-0/images/data.mdb", options_.Bytes());
    RunFor(1.0);  // its images of the new tenure are written
    return round;
  }

 private:
  struct Keys {
    worker::KeyRouting routing;
    std::vector<Key> keys;
    std::vector<float> values;
  };

  static worker::SessionOptions SessionFor(const testing::LocalCluster& cluster) {
    worker::SessionOptions options;
    options.name = "bench";
    options.master = cluster.master_address();
    options.pid = getpid();
    // Asks often, so that what is measured is the server and not the patience of its client.
    options.max_backoff = std::chrono::milliseconds(10);
    return options;
  }
  void Pull(Keys* keys, size_t count, std::function<void()> done) {
    keys->keys.resize(count);
    for (Key& key : keys->keys) key = random_.Below(options_.rows);
    std::sort(keys->keys.begin(), keys->keys.end());
    keys->keys.erase(std::unique(keys->keys.begin(), keys->keys.end()), keys->keys.end());
    keys->routing.Build(table_, keys->keys, session_.partitions());
    keys->values.resize(keys->keys.size() * options_.dim);
    session_.Pull({{&keys->routing, options_.dim, keys->values.data(), nullptr}},
                  [done = std::move(done)](base::Result<> outcome) {
                    CHECK(outcome.has_value());
                    done();
                  });
  }
  void Await(const std::function<bool()>& condition) {
    CHECK(daemon_.loop().RunUntil(condition, std::chrono::minutes(5)));
  }
  void RunFor(double seconds) {
    daemon_.loop().RunUntil([] { return false; },
                            base::Duration(static_cast<int64_t>(seconds * 1e6)));
  }

  const Options& options_;
  testing::LocalCluster& cluster_;
  transport::Daemon daemon_;
  worker::Session session_;
  base::Random random_;
  protocol::TableId table_;
  Keys one_;
  Keys many_;
};

int Run(const Options& options, const std::string& dir) {
  CHECK(base::WriteFileAtomic(dir + "/log.csv", "userId,movieId,rating,timestamp\n1,1,4.0,1\n"));
  testing::LocalCluster cluster(
      {.dir = dir + "/cluster",
       .data = dir + "/log.csv",
       .schema = "movielens",
       .ps = 1,
       .master_args = {"--partitions", std::to_string(options.partitions)},
       .ps_args = {"--checkpoint-interval-ms", "3600000"}});
  if (auto started = cluster.Start(); !started) {
    fmt::print(stderr, "recovery_bench: {}\n", started.error().message);
    return 1;
  }
  Bench bench(options, cluster);
  bench.Join();
  bench.Fill();
  std::vector<Round> rounds;
  for (uint32_t i = 0; i < options.rounds; ++i) rounds.push_back(bench.KillOnce());
  const auto print = [&rounds](const char* name, double Round::*field, const char* end) {
    std::vector<double> values;
    for (const Round& round : rounds) values.push_back(round.*field);
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    fmt::print(" \"{}\": {{\"min\": {:.1f}, \"median\": {:.1f}, \"max\": {:.1f}}}{}\n", name,
               *least, Median(values), *most, end);
  };
  fmt::print(
      "{{\"rows\": {}, \"dim\": {}, \"partitions\": {}, \"bytes\": {}, \"cache\": \"warm\",\n",
      options.rows, options.dim, options.partitions, options.Bytes());
  print("old_process_gone_ms", &Round::gone_ms, ",");
  print("new_process_started_ms", &Round::started_ms, ",");
  print("registered_ms", &Round::registered_ms, ",");
  print("first_pull_ms", &Round::first_pull_ms, ",");
  print("all_loaded_ms", &Round::loaded_ms, ",");
  print("load_mb_per_s", &Round::load_mb_per_s, ",");
  print("plain_read_mb_per_s", &Round::read_mb_per_s, "}");
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  base::ConfigFields fields;
  options.Declare(fields);
  base::ConfigOptions about;
  about.program = "recovery_bench";
  about.description = "How long a parameter server with a large table is away when it is killed.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  base::SetLogLevel(base::LogLevel::kError);
  std::error_code ignored;
  const std::string parent =
      options.dir.empty() ? std::filesystem::temp_directory_path(ignored).string() : options.dir;
  std::string dir = parent + "/freshet-bench-XXXXXX";
  CHECK(mkdtemp(dir.data()) != nullptr);
  const int code = Run(options, dir);
  std::filesystem::remove_all(dir, ignored);
  return code;
}

}  // namespace
}  // namespace freshet::benchmarks

int main(int argc, char** argv) { return freshet::benchmarks::Main(argc, argv); }
