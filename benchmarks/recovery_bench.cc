// SPDX-License-Identifier: Apache-2.0
// How long a parameter server is away that is killed with a large table: fills adagrad rows through a
// Session, makes them durable, then, a few times: SIGKILL, starts it again at once (as a launcher does),
// and measures from the signal until a first pull of one key and a pull of keys of every partition were
// served, beside a plain sequential read of as many bytes of the same file. The page cache is warm.
//   recovery_bench [--rows N] [--dim N] [--rounds N] [--partitions N]
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/config.h"
#include "base/log.h"
#include "base/random.h"
#include "benchmarks/cluster_load.h"
#include "cli/admin_client.h"

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
      // Asks often, so that what is measured is the server and not the patience of its client.
      : options_(options),
        cluster_(cluster),
        client_(cluster, {.max_backoff = std::chrono::milliseconds(10)}),
        session_(client_.session()),
        random_(1),
        table_(client_.Join(options.dim)) {}

  void Fill() {
    Load load({.rows = options_.rows, .dim = options_.dim}, session_, table_);
    FillTable(client_, load, options_.rows);
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
    client_.Await([&] { return session_.view().nodes.at(0).incarnation != before; });
    round.registered_ms = since();
    client_.Await([&] { return first; });
    Pull(&many_, 16'384, [&] {
      round.loaded_ms = since();
      all = true;
    });
    client_.Await([&] { return all; });
    const auto bytes = static_cast<double>(options_.Bytes());
    round.load_mb_per_s = bytes / (round.loaded_ms - round.registered_ms) / 1e3;
    round.read_mb_per_s =
        PlainReadMbPerS(cluster_.dir() + "/ps-0/images/data.mdb", options_.Bytes());
    client_.RunFor(1.0);  // its images of the new tenure are written
    return round;
  }

 private:
  struct Keys {
    worker::KeyRouting routing;
    std::vector<Key> keys;
    std::vector<float> values;
  };

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
  const Options& options_;
  testing::LocalCluster& cluster_;
  ClusterClient client_;
  worker::Session& session_;
  base::Random random_;
  protocol::TableId table_;
  Keys one_;
  Keys many_;
};

int Run(const Options& options, const std::string& dir) {
  testing::LocalCluster cluster(
      {.dir = dir + "/cluster",
       .data = WriteShortLog(dir),
       .schema = kShortLogSchema,
       .ps = 1,
       .master_args = {"--partitions", std::to_string(options.partitions)},
       .ps_args = {"--checkpoint-interval-ms", "3600000"}});
  if (auto started = cluster.Start(); !started) {
    fmt::print(stderr, "recovery_bench: {}\n", started.error().message);
    return 1;
  }
  Bench bench(options, cluster);
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
  return InTempDir(options.dir, [&](const std::string& dir) { return Run(options, dir); });
}

}  // namespace
}  // namespace freshet::benchmarks

int main(int argc, char** argv) { return freshet::benchmarks::Main(argc, argv); }
