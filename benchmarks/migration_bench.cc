// SPDX-License-Identifier: Apache-2.0
// How fast partitions move while they are served: two servers with `rows` adagrad rows, this process as
// the worker that pushes as fast as it can, then `scale --ps 4`, `scale --ps 3`, `migrate ps-0`; then
// the same while nothing is pushed, so that the rows can be compared. Beside each
// plan a bare TCP connection copies as many bytes under the same load. Exits 1 if a request failed, a
// row or the audit is wrong, or a process that had nothing to do with a plan was restarted.
//   migration_bench [--rows N] [--dim N] [--depth N] [--partitions N] [--before-seconds S] [--dir D]
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/config.h"
#include "base/log.h"
#include "benchmarks/cluster_load.h"
#include "benchmarks/memory_keeper.h"
#include "cli/admin_client.h"

namespace freshet::benchmarks {
namespace {

using cli::Json;
using protocol::Key;

struct Options {
  uint64_t rows = 5'000'000;
  uint32_t dim = 16;
  uint32_t batch = 4096;
  uint32_t depth = 4;
  uint32_t partitions = 256;
  double before_seconds = 3;
  std::chrono::milliseconds checkpoint_interval{10'000};
  base::ByteSize migration_bandwidth{0};
  uint32_t migration_share = 10;
  std::string dir;
  base::ByteSize memory_at_hand{0};
  bool events = false;

  void Declare(base::ConfigFields& fields) {
    using namespace std::chrono_literals;
    fields.Add("rows", &rows, {.min = 1000, .max = 1'000'000'000}, "rows of the table");
    fields.Add("dim", &dim, {.min = 1, .max = 1024}, "floats of a row, beside as many of adagrad");
    fields.Add("batch", &batch, {.min = 1, .max = 100'000}, "keys of a push");
    fields.Add("depth", &depth, {.min = 1, .max = 64}, "pushes in flight");
    fields.Add("partitions", &partitions, {.min = 4, .max = 4096}, "of the cluster");
    fields.Add("before_seconds", &before_seconds, {.min = 0.05, .max = 600.0},
               "how long the load is measured before a plan");
    fields.Add("migration_bandwidth", &migration_bandwidth, {.max = base::GiB(64)},
               "bytes a second that may arrive at one server; 0 = no bound");
    fields.Add("migration_share", &migration_share, {.min = 1, .max = 100},
               "percent of the time that copying takes under load; 100 = as fast as it goes");
    fields.Add("checkpoint_interval_ms", &checkpoint_interval, {.min = 10ms, .max = 1h},
               "of the servers");
    fields.Add("memory_at_hand", &memory_at_hand, {.max = base::GiB(64)},
               "memory that the system has got ready for each plan");
    fields.Add("dir", &dir, "existing directory to work in; default: of temporary files");
    fields.Add("events", &events, "print what the master says of each partition");
  }
  // Key, count, weights and state, as a slice holds them.
  double RowBytes() const { return 12 + double{8} * dim; }
};

// What the worker sees while a plan runs.
class Watch {
 public:
  Watch(const Load& load, const worker::Session& session) : load_(load), session_(session) {}

  void Sample() {
    const double now = Now();
    if (load_.records_pushed() != pushed_) {
      if (last_push_ > 0) longest_stall_ = std::max(longest_stall_, now - last_push_);
      pushed_ = load_.records_pushed();
      last_push_ = now;
    }
    const auto& places = session_.view().places;
    const bool moving = std::any_of(places.begin(), places.end(),
                                    [](const auto& place) { return place.migration.value() != 0; });
    if (moving && begin_ == 0) begin_ = now;
    if (moving || (end_ == 0 && begin_ > 0)) end_ = now;
    if (!samples_.empty() && now - samples_.back().at < 0.005) return;
    samples_.push_back({now, load_.records_pushed()});
  }

  // From the first view that has a partition move to the last.
  double MovingSeconds() const { return end_ - begin_; }
  double longest_stall() const { return longest_stall_; }
  double Rate() const {
    return static_cast<double>(samples_.back().records - samples_.front().records) /
           (samples_.back().at - samples_.front().at);
  }
  // Records a second of the worst second.
  double LowestSecond() const {
    double lowest = Rate();
    size_t from = 0;
    for (const Entry& entry : samples_) {
      if (entry.at - samples_.front().at < 1) continue;
      while (entry.at - samples_[from + 1].at >= 1) ++from;
      lowest = std::min(lowest, static_cast<double>(entry.records - samples_[from].records) /
                                    (entry.at - samples_[from].at));
    }
    return lowest;
  }

  // Millions of records in each second from the plan's begin on.
  std::string BySecond() const {
    std::string text;
    size_t from = 0;
    for (size_t i = 1; i < samples_.size(); ++i) {
      const double seconds = samples_[i].at - samples_[from].at;
      if (seconds < 1) continue;
      const uint64_t records = samples_[i].records - samples_[from].records;
      text += fmt::format(" {:.2f}", static_cast<double>(records) / seconds / 1e6);
      from = i;
    }
    return text;
  }

 private:
  struct Entry {
    double at = 0;
    uint64_t records = 0;
  };
  const Load& load_;
  const worker::Session& session_;
  std::vector<Entry> samples_;
  uint64_t pushed_ = 0;
  double last_push_ = 0;
  double longest_stall_ = 0;
  double begin_ = 0;
  double end_ = 0;
};

struct RowSum {
  double sum = 0;
  uint64_t hash = 0;
  bool operator==(const RowSum&) const = default;
};

enum class Pushes { kFlowing, kPaused };

struct Outcome {
  std::string name;
  Pushes pushes = Pushes::kFlowing;
  Json plan;
  double moving_s = 0;
  double tcp_mb_per_s = 0;
  double before = 0;
  double lowest = 0;
  double with_tcp = 0;
  double longest_stall_ms = 0;
  std::string by_second;
  std::vector<std::string> wrong;

  double Number(const char* key) const { return plan.value(key, 0.0); }
  double MbPerS() const { return Number("bytes") / moving_s / 1e6; }
};

class Bench {
 public:
  Bench(const Options& options, const TcpPeer& tcp, const testing::LocalCluster& cluster)
      : options_(options),
        tcp_(tcp),
        admin_(cluster.dir()),
        client_(cluster, {}),
        table_(client_.Join(options.dim)),
        load_({options.rows, options.dim, options.batch, options.depth}, client_.session(),
              table_) {
    // From then on nobody compares what was learnt with the log.
    Alongside([&] {
      while (Status().at("job").at("phase") == "starting") Sleep();
    });
    FillTable(client_, load_, options.rows);
    WarmUp();
  }

  Outcome Run(const std::string& name, const Json& request, Pushes pushes) {
    Outcome outcome;
    outcome.name = name;
    outcome.pushes = pushes;
    const bool flowing = pushes == Pushes::kFlowing;
    MemoryKeeper memory(options_.memory_at_hand.bytes);
    if (flowing) {
      load_.StartRandom(CallKind::kPush, nullptr);
      outcome.before = RateOver(options_.before_seconds);
    }
    const RowSum rows = flowing ? RowSum() : SumRows();
    const auto nodes = Nodes();
    Watch watch(load_, client_.session());
    memory.Release(flowing ? GiveBack::kBitByBit : GiveBack::kAtOnce);
    Alongside([&] { outcome.plan = FollowPlan(request); }, watch);
    RunFor(flowing ? 1.0 : 0.0, watch);
    outcome.moving_s = watch.MovingSeconds();
    if (flowing) {
      outcome.lowest = watch.LowestSecond();
      outcome.by_second = watch.BySecond();
      outcome.longest_stall_ms = watch.longest_stall() * 1e3;
    }
    CopyByTcp(&outcome);
    load_.Stop();
    client_.Await([&] { return load_.idle(); });
    if (!flowing && SumRows() != rows) outcome.wrong.emplace_back("other rows than before");
    Check(nodes, &outcome);
    return outcome;
  }

  void PrintEvents() {
    Json events;
    Alongside([&] { events = *admin_.Get("/v1/events"); });
    for (const Json& event : events["events"]) {
      fmt::print(stderr, "{} {} {} {}\n", event["unix_ms"].get<int64_t>(),
                 event["kind"].get<std::string>(), event["node"].get<std::string>(),
                 event["text"].get<std::string>());
    }
  }

 private:
  // Name -> pid and restarts.
  using NodeStates = std::map<std::string, std::pair<int64_t, int64_t>>;

  // Servers that have been up for a while have written all their rows, from buffers and into pages of the
  // disk's cache that were there before.
  void WarmUp() {
    load_.StartRandom(CallKind::kPush, nullptr);
    for (int i = 0; i < 2; ++i) {
      client_.RunFor(0.5);
      Alongside(
          [this] { CHECK(admin_.Post("/v1/checkpoint", std::chrono::minutes(1)).has_value()); });
    }
    load_.Stop();
    client_.Await([&] { return load_.idle(); });
  }

  void Alongside(std::function<void()> work) {
    client_.AwaitWork(std::move(work), [] {});
  }
  void Alongside(std::function<void()> work, Watch& watch) {
    client_.AwaitWork(std::move(work), [&watch] { watch.Sample(); });
  }
  void RunFor(double seconds, Watch& watch) {
    const double end = Now() + seconds;
    client_.Await([&] {
      watch.Sample();
      return Now() >= end;
    });
  }
  double RateOver(double seconds) {
    client_.RunFor(seconds / 4);
    Watch watch(load_, client_.session());
    RunFor(seconds, watch);
    return watch.Rate();
  }

  NodeStates Nodes() {
    NodeStates states;
    Alongside([&] {
      const Json status = Status();
      for (const Json& node : status.at("nodes")) {
        states[node.at("name")] = {node.at("pid"), node.at("restarts")};
      }
    });
    return states;
  }

  // These three on the executor.
  static void Sleep() {
    transport::EventLoop loop({.spin = base::Duration(0)});
    loop.RunUntil([] { return false; }, std::chrono::milliseconds(50));
  }
  Json Status() const {
    auto status = admin_.Get("/v1/status");
    CHECK(status.has_value());
    return std::move(*status);
  }
  Json FollowPlan(const Json& request) const {
    const auto begun = admin_.Post("/v1/plans", request);
    if (!begun) return {{"state", "refused: " + begun.error().message}};
    for (;;) {
      Sleep();
      const Json status = Status();
      for (const Json& plan : status.at("plans")) {
        const std::string state = plan.at("state");
        if (plan.at("id") != begun->at("id")) continue;
        if (state != "queued" && state != "running") return plan;
      }
    }
  }

  // As many bytes as the plan moved, in messages of the size of a slice.
  void CopyByTcp(Outcome* outcome) {
    constexpr TcpSizes kSizes{64, 512 << 10};
    const int requests =
        static_cast<int>(outcome->Number("bytes") / static_cast<double>(kSizes.reply_bytes)) + 10;
    Watch watch(load_, client_.session());
    watch.Sample();
    Alongside(
        [&] {
          outcome->tcp_mb_per_s = tcp_.Run(kSizes, 4, requests).requests_per_sec *
                                  static_cast<double>(kSizes.reply_bytes) / 1e6;
        },
        watch);
    RunFor(0.01, watch);
    if (outcome->pushes == Pushes::kFlowing) outcome->with_tcp = watch.Rate();
  }

  RowSum SumRows() {
    RowSum total;
    std::vector<Key> keys;
    std::vector<float> values;
    worker::KeyRouting routing;
    for (uint64_t key = 0; key < options_.rows;) {
      keys.resize(std::min<uint64_t>(16'384, options_.rows - key));
      for (Key& k : keys) k = key++;
      routing.Build(table_, keys, client_.session().partitions());
      values.assign(keys.size() * options_.dim, 0);
      bool done = false;
      client_.session().Pull({{&routing, options_.dim, values.data(), nullptr}},
                             [&](base::Result<> outcome) {
                               CHECK(outcome.has_value());
                               done = true;
                             });
      client_.Await([&] { return done; });
      for (const float value : values) {
        total.sum += value;
        total.hash = base::Mix64(total.hash ^ std::bit_cast<uint32_t>(value));
      }
    }
    return total;
  }

  void Check(const NodeStates& before, Outcome* outcome) {
    auto& wrong = outcome->wrong;
    const std::string state = outcome->plan.at("state");
    if (state != "done") wrong.push_back("the plan is " + state);
    if (load_.failed() > 0) wrong.push_back(fmt::format("{} requests failed", load_.failed()));
    const auto after = Nodes();
    const auto leaving = outcome->plan.value("leaving", std::vector<std::string>());
    for (const auto& [name, process] : before) {
      if (std::find(leaving.begin(), leaving.end(), name) != leaving.end()) continue;
      const auto now = after.find(name);
      if (now == after.end() || now->second != process) wrong.push_back(name + " was restarted");
    }
    base::Result<Json> audit;
    Alongside([&] { audit = admin_.Post("/v1/verify", std::chrono::minutes(1)); });
    if (!audit || audit->at("ok") != true) wrong.emplace_back("the audit does not hold");
  }

  const Options& options_;
  const TcpPeer& tcp_;
  cli::AdminClient admin_;
  ClusterClient client_;
  protocol::TableId table_;
  Load load_;
};

void Print(const Outcome& o, const Options& options) {
  const double least = o.Number("rows") * options.RowBytes();
  fmt::print(
      "| {} | {} | {:.0f} | {:.2f} M | {:.0f} | {:.3f} | {:.2f} / {:.2f} | {:.0f} | {:.0f} | ",
      o.name, o.pushes == Pushes::kFlowing ? "flow" : "paused", o.Number("moved"),
      o.Number("rows") / 1e6, o.Number("bytes") / 1e6, o.Number("bytes") / least, o.moving_s,
      o.Number("seconds"), o.MbPerS(), o.tcp_mb_per_s);
  fmt::print("{:.2f} | {:.1f} / {:.1f} / {:.1f} | ", o.MbPerS() / o.tcp_mb_per_s,
             o.Number("pause_p50_ms"), o.Number("pause_p99_ms"), o.Number("pause_max_ms"));
  if (o.pushes == Pushes::kFlowing) {
    fmt::print("{:.2f} M / {:.2f} M = {:.0f} % | {:.0f} % | {:.0f} | ", o.lowest / 1e6,
               o.before / 1e6, o.lowest / o.before * 100, o.with_tcp / o.before * 100,
               o.longest_stall_ms);
  } else {
    fmt::print("- | - | - | ");
  }
  fmt::print("{} |\n", o.wrong.empty() ? "ok" : fmt::format("{}", fmt::join(o.wrong, ", ")));
  std::fflush(stdout);
  if (!o.by_second.empty()) {
    fmt::print(stderr, "{}: million records in each second:{}\n", o.name, o.by_second);
  }
}

int Run(const Options& options, const std::string& dir) {
  const TcpPeer tcp;
  testing::LocalCluster cluster(
      {.dir = dir + "/cluster",
       .data = WriteShortLog(dir),
       .schema = kShortLogSchema,
       .ps = 2,
       .launcher = "local",
       .master_args = {"--follow", "--partitions", std::to_string(options.partitions),
                       "--checkpoint-interval-ms",
                       std::to_string(options.checkpoint_interval.count()), "--migration-bandwidth",
                       std::to_string(options.migration_bandwidth.bytes), "--migration-share",
                       std::to_string(options.migration_share)}});
  if (auto started = cluster.Start(); !started) {
    fmt::print(stderr, "migration_bench: {}\n", started.error().message);
    return 1;
  }
  Bench bench(options, tcp, cluster);
  fmt::print(
      "| plan | pushes | partitions | rows | MB moved | of the least | seconds moving / plan | "
      "MB/s "
      "| MB/s of TCP | ratio | freeze p50 / p99 / max ms | records/s lowest second / before | with "
      "TCP copy | longest stall ms | checks |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  const auto scale = [](int ps) { return Json{{"kind", "scale"}, {"ps", ps}}; };
  bool ok = true;
  const auto run = [&](const std::string& name, const Json& request, Pushes pushes) {
    const Outcome outcome = bench.Run(name, request, pushes);
    Print(outcome, options);
    ok = ok && outcome.wrong.empty();
  };
  run("scale --ps 4", scale(4), Pushes::kFlowing);
  run("scale --ps 3", scale(3), Pushes::kFlowing);
  run("migrate ps-0", {{"kind", "migrate"}, {"node", "ps-0"}}, Pushes::kFlowing);
  run("scale --ps 4", scale(4), Pushes::kPaused);
  run("scale --ps 3", scale(3), Pushes::kPaused);
  run("migrate ps-1", {{"kind", "migrate"}, {"node", "ps-1"}}, Pushes::kPaused);
  if (options.events) bench.PrintEvents();
  return ok ? 0 : 1;
}

int Main(int argc, char** argv) {
  Options options;
  base::ConfigFields fields;
  options.Declare(fields);
  base::ConfigOptions about;
  about.program = "migration_bench";
  about.description = "How fast partitions move while they are served.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  base::SetLogLevel(base::LogLevel::kError);
  return InTempDir(options.dir, [&](const std::string& dir) { return Run(options, dir); });
}

}  // namespace
}  // namespace freshet::benchmarks

int main(int argc, char** argv) { return freshet::benchmarks::Main(argc, argv); }
