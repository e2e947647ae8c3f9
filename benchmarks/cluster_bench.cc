// SPDX-License-Identifier: Apache-2.0
// Pulls and pushes of a whole cluster: freshet-master, freshet-ps processes and this process as their
// only client, over loopback. It fills a table with adagrad rows, then keeps `depth` calls of `batch`
// random keys in flight through a Session: pulls, pushes, and beside each a bare TCP connection that
// moves the same bytes, in turns. Medians over the rounds, ratios per round, as JSON on stdout.
//   cluster_bench [--rows N] [--dim N] [--batch N] [--depth N] [--ps N] [--seconds S] [--rounds N]
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/config.h"
#include "base/log.h"
#include "benchmarks/cluster_load.h"

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
  LoadOptions Load() const { return {rows, dim, batch, depth, records}; }
};

struct Outcome {
  std::vector<Measured> calls;
  std::vector<Measured> tcp;
  std::vector<double> ratios;
};

class Bench {
 public:
  Bench(const Options& options, const TcpPeer& tcp, const testing::LocalCluster& cluster)
      : options_(options), tcp_(tcp), cluster_(cluster), client_(cluster, {}) {
    load_ = std::make_unique<Load>(options.Load(), client_.session(), client_.Join(options.dim));
    // The servers store their first images, empty ones, if nobody is quicker with rows; there are no
    // others while the benchmark runs.
    client_.RunFor(1.0);
    fill_rows_per_s_ = FillTable(client_, *load_, options.rows);
  }

  void Round(CallKind kind, Outcome& outcome) {
    std::vector<pid_t> servers;
    for (uint32_t i = 0; i < options_.ps; ++i) {
      servers.push_back(static_cast<pid_t>(cluster_.ps_pid(static_cast<int>(i))));
    }
    Meter meter(servers);
    load_->StartRandom(kind, &meter);
    client_.RunFor(options_.seconds / 10);
    meter.Start();
    client_.RunFor(options_.seconds);
    outcome.calls.push_back(meter.Result());
    load_->Stop();
    client_.Await([&] { return load_->idle(); });
    CHECK(load_->failed() == 0);
    if (options_.alone) return;
    const uint64_t keys = uint64_t{options_.batch} * sizeof(Key);
    const uint64_t values = uint64_t{options_.batch} * options_.dim * sizeof(float);
    const TcpSizes sizes =
        kind == CallKind::kPull ? TcpSizes{keys, values} : TcpSizes{keys + values, 64};
    // As long as the calls took at twice their rate.
    const double requests = outcome.calls.back().requests_per_sec * options_.seconds * 1.5;
    outcome.tcp.push_back(
        tcp_.Run(sizes, static_cast<int>(options_.depth), static_cast<int>(requests) + 20));
    outcome.ratios.push_back(outcome.calls.back().requests_per_sec /
                             outcome.tcp.back().requests_per_sec);
  }

  double fill_rows_per_s() const { return fill_rows_per_s_; }

 private:
  const Options& options_;
  const TcpPeer& tcp_;
  const testing::LocalCluster& cluster_;
  ClusterClient client_;
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
  testing::LocalCluster cluster({.dir = dir + "/cluster",
                                 .data = WriteShortLog(dir),
                                 .schema = kShortLogSchema,
                                 .ps = static_cast<int>(options.ps),
                                 .ps_args = {"--checkpoint-interval-ms", "3600000"}});
  if (auto started = cluster.Start(); !started) {
    fmt::print(stderr, "cluster_bench: {}\n", started.error().message);
    return 1;
  }
  Bench bench(options, tcp, cluster);
  Outcome pull;
  Outcome push;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    bench.Round(CallKind::kPull, pull);
    bench.Round(CallKind::kPush, push);
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
  return InTempDir("", [&](const std::string& dir) { return Run(options, dir); });
}

}  // namespace
}  // namespace freshet::benchmarks

int main(int argc, char** argv) { return freshet::benchmarks::Main(argc, argv); }
