// SPDX-License-Identifier: Apache-2.0
// Rows a second of one PS core without a network, against a plain std::unordered_map<uint64_t,
// std::vector<float>> with the same Adagrad, in the same run:
//   fill      new rows by pushes, from nothing: growth included, memory touched ahead as an idle PS does
//   touch     first touch of that memory
//   pull      weights of rows that are there        push      gradients to rows that are there
//   pull-new  weights of keys without a row (computed, nothing is created)
//   cut       whole images of all partitions        difference  images after one request in a hundred
//   restore   all partitions from those images
// Requests hold --batch random keys, grouped by partition as the protocol sends them; there are enough
// requests that the caches are cold. The contenders take turns; every round gives one ratio.
// table_bench [--rows N] [--dim N] [--batch N] [--partitions N] [--rounds N] [--requests N] [--no-map]
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "ps/batch_ops.h"
#include "ps/partition.h"
#include "transport/malloc_tuning.h"

namespace freshet::ps {
namespace {

using protocol::Key;
using protocol::TableId;
using protocol::Tenure;

struct Options {
  uint64_t rows = 1'000'000;
  uint32_t dim = 16;
  uint32_t batch = 4096;
  uint32_t partitions = 256;
  int rounds = 7;
  uint32_t requests = 256;
  bool with_map = true;
};

// Wall and processor time. On a machine with neighbours the second is the steadier one.
struct Times {
  double wall = 0;
  double cpu = 0;
  static Times Now() {
    const auto read = [](clockid_t id) {
      timespec t{};
      clock_gettime(id, &t);
      return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    };
    return {read(CLOCK_MONOTONIC), read(CLOCK_THREAD_CPUTIME_ID)};
  }
  Times operator+(const Times& other) const { return {wall + other.wall, cpu + other.cpu}; }
  Times operator-(const Times& other) const { return {wall - other.wall, cpu - other.cpu}; }
};

template <class Work>
Times Measure(Work&& work) {
  const Times start = Times::Now();
  work();
  return Times::Now() - start;
}

// Row numbers become keys by a bijection, so that every number is one distinct, random-looking key.
Key KeyOf(uint64_t row) { return base::Mix64(row ^ 0x5eed); }

struct Request {
  std::vector<Key> keys;
  std::vector<uint32_t> counts;  // per partition
};

Request Group(std::vector<Key> keys, uint32_t partitions) {
  Request request;
  request.counts.resize(partitions);
  std::vector<std::pair<uint16_t, Key>> order;
  for (const Key key : keys) {
    order.emplace_back(protocol::PartitionOf(TableId(1), key, partitions).value(), key);
  }
  std::sort(order.begin(), order.end());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  for (const auto& [partition, key] : order) {
    request.keys.push_back(key);
    ++request.counts[partition];
  }
  return request;
}

// Random rows of [begin, begin + rows).
std::vector<Request> DrawRequests(const Options& options, uint64_t begin, uint64_t seed) {
  base::Random random(seed);
  std::vector<Request> requests(options.requests);
  for (Request& request : requests) {
    std::vector<Key> keys(options.batch);
    for (Key& key : keys) key = KeyOf(begin + random.Below(options.rows));
    request = Group(std::move(keys), options.partitions);
  }
  return requests;
}

class Store {
 public:
  explicit Store(const Options& options) {
    protocol::Table table;
    table.id = TableId(1);
    table.schema.name = "bench";
    table.schema.dim = options.dim;
    table.schema.init = {{protocol::InitKind::kUniform, 0.05f, 0, options.dim}};
    tables_.set_seed(1);
    CHECK(tables_.Add(table).has_value());
    for (uint32_t p = 0; p < options.partitions; ++p) {
      partitions_.push_back(std::make_unique<Partition>(
          protocol::PartitionId(static_cast<uint16_t>(p)), tables_, arena_));
    }
  }
  void Pull(const Request& request, float* out) { PullRows(Runs(request), request.keys, out); }
  void Push(const Request& request, const float* gradients) {
    const auto runs = Runs(request);
    CHECK(ReserveRows(runs, request.keys).has_value());
    PushRows(runs, request.keys, gradients);
  }
  void TouchAhead() {
    for (;;) {
      const auto stretch = arena_.NextToTouch(2 << 20, 64 << 20);
      if (stretch.bytes == 0) return;
      RowArena::Touch(stretch);
      touched_ += stretch.bytes;
    }
  }
  uint64_t touched() const { return touched_; }
  uint64_t rows() const {
    uint64_t rows = 0;
    for (const auto& partition : partitions_) rows += partition->rows();
    return rows;
  }
  std::vector<std::unique_ptr<Partition>>& partitions() { return partitions_; }
  const RowArena& arena() const { return arena_; }

 private:
  std::span<const RowRun> Runs(const Request& request) {
    runs_.clear();
    uint32_t begin = 0;
    for (size_t p = 0; p < partitions_.size(); ++p) {
      const uint32_t end = begin + request.counts[p];
      if (end > begin) runs_.push_back({partitions_[p]->Shard(TableId(1)), begin, end});
      begin = end;
    }
    return runs_;
  }
  TableSet tables_;
  RowArena arena_;
  std::vector<std::unique_ptr<Partition>> partitions_;
  std::vector<RowRun> runs_;
  uint64_t touched_ = 0;
};

// What one would write first.
class PlainMap {
 public:
  explicit PlainMap(const Options& options) : dim_(options.dim) {}
  void TouchAhead() {}
  void Pull(const Request& request, float* out) {
    for (const Key key : request.keys) {
      const auto at = rows_.find(key);
      if (at == rows_.end()) {
        std::fill_n(out, dim_, 0.0f);
      } else {
        std::copy_n(at->second.data(), dim_, out);
      }
      out += dim_;
    }
  }
  void Push(const Request& request, const float* gradients) {
    for (const Key key : request.keys) {
      std::vector<float>& row = rows_[key];
      if (row.empty()) row.assign(2 * dim_, 0.01f);
      Adagrad(row.data(), row.data() + dim_, gradients);
      gradients += dim_;
    }
  }

 private:
  void Adagrad(float* __restrict w, float* __restrict n, const float* __restrict gradient) const {
    for (uint32_t j = 0; j < dim_; ++j) {
      const float sum = n[j] + gradient[j] * gradient[j];
      n[j] = sum;
      w[j] -= 0.1f * gradient[j] / (std::sqrt(sum) + 1e-10f);
    }
  }

  uint32_t dim_;
  std::unordered_map<uint64_t, std::vector<float>> rows_;
};

std::string Spread(std::vector<double> values, double scale) {
  std::sort(values.begin(), values.end());
  return fmt::format("{:8.2f} {:8.2f} {:8.2f}", values.front() * scale,
                     values[values.size() / 2] * scale, values.back() * scale);
}

struct Series {
  std::vector<double> wall;
  std::vector<double> cpu;
  void Add(double amount, const Times& times) {
    wall.push_back(amount / times.wall);
    cpu.push_back(amount / times.cpu);
  }
};

void Print(const char* name, const char* unit, const Series& series) {
  fmt::print("{:<24} {} min/median/max wall {} | cpu {}\n", name, unit, Spread(series.wall, 1e-6),
             Spread(series.cpu, 1e-6));
}

void PrintPair(const char* name, const Series& store, const Series& map) {
  Print(name, "M rows/s", store);
  if (map.cpu.empty()) return;
  Print(fmt::format("  {} unordered_map", name).c_str(), "M rows/s", map);
  std::vector<double> ratios;
  for (size_t i = 0; i < map.cpu.size(); ++i) ratios.push_back(store.cpu[i] / map.cpu[i]);
  fmt::print("  ratio (cpu)            min/median/max      {}\n", Spread(ratios, 1));
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        store_(std::make_unique<Store>(options)),
        map_(options),
        values_(size_t{options.batch} * options.dim),
        gradients_(values_.size()) {
    base::Random random(9);
    for (float& g : gradients_) g = static_cast<float>(random.Uniform() - 0.5);
  }

  void Run() {
    Fill();
    known_ = DrawRequests(options_, 0, 2);
    unknown_ = DrawRequests(options_, options_.rows, 3);
    Pulls();
    Pushes();
    Images();
  }

 private:
  template <class Target>
  void FillOne(Target& target, const char* name) {
    Times total;
    for (uint64_t row = 0; row < options_.rows; row += options_.batch) {
      std::vector<Key> keys;
      for (uint64_t i = row; i < std::min(options_.rows, row + options_.batch); ++i) {
        keys.push_back(KeyOf(i));
      }
      const Request request = Group(std::move(keys), options_.partitions);
      touch_ = touch_ + Measure([&] { target.TouchAhead(); });
      const Times times = Measure([&] { target.Push(request, gradients_.data()); });
      total.wall += times.wall;
      total.cpu += times.cpu;
    }
    fmt::print("{:<24} M rows/s wall {:8.2f} cpu {:8.2f}\n", name,
               static_cast<double>(options_.rows) / total.wall * 1e-6,
               static_cast<double>(options_.rows) / total.cpu * 1e-6);
  }

  void Fill() {
    FillOne(*store_, "fill");
    fmt::print("{:<24} MB/s     wall {:8.2f} cpu {:8.2f}\n", "touch",
               static_cast<double>(store_->touched()) / touch_.wall * 1e-6,
               static_cast<double>(store_->touched()) / touch_.cpu * 1e-6);
    if (options_.with_map) FillOne(map_, "  fill unordered_map");
    fmt::print(
        "{:<24} {:.1f} bytes a row\n", "arena",
        static_cast<double>(store_->arena().used_bytes()) / static_cast<double>(store_->rows()));
  }

  template <class Work>
  Series Each(const std::vector<Request>& requests, Series series, Work&& work) {
    double rows = 0;
    const Times times = Measure([&] {
      for (const Request& request : requests) {
        work(request);
        rows += static_cast<double>(request.keys.size());
      }
    });
    series.Add(rows, times);
    return series;
  }

  void Pulls() {
    Series store, map, fresh;
    for (int round = 0; round < options_.rounds; ++round) {
      store = Each(known_, store, [&](const Request& r) { store_->Pull(r, values_.data()); });
      if (options_.with_map) {
        map = Each(known_, map, [&](const Request& r) { map_.Pull(r, values_.data()); });
      }
      fresh = Each(unknown_, fresh, [&](const Request& r) { store_->Pull(r, values_.data()); });
    }
    PrintPair("pull", store, map);
    Print("pull-new", "M rows/s", fresh);
  }

  void Pushes() {
    Series store, map;
    for (int round = 0; round < options_.rounds; ++round) {
      store = Each(known_, store, [&](const Request& r) { store_->Push(r, gradients_.data()); });
      if (options_.with_map) {
        map = Each(known_, map, [&](const Request& r) { map_.Push(r, gradients_.data()); });
      }
    }
    PrintPair("push", store, map);
  }

  void Images() {
    Series cut, difference, restore;
    double longest_cut = 0;
    for (int round = 0; round < std::min(options_.rounds, 3); ++round) {
      std::vector<protocol::Image> images;
      std::vector<uint32_t> since;
      uint64_t bytes = 0;
      const Times cut_times = Measure([&] {
        for (auto& partition : store_->partitions()) {
          since.push_back(partition->current_cut());
          const Times one = Measure([&] { images.push_back(partition->CutWhole(Tenure(1))); });
          longest_cut = std::max(longest_cut, one.cpu);
          bytes += images.back().Bytes();
        }
      });
      cut.Add(static_cast<double>(bytes), cut_times);
      DifferenceOnce(images, since, &difference);
      auto restored = std::make_unique<Store>(options_);
      const Times restore_times = Measure([&] {
        for (size_t p = 0; p < images.size(); ++p) {
          CHECK(restored->partitions()[p]->Restore({std::move(images[p])}).has_value());
        }
      });
      restore.Add(static_cast<double>(bytes), restore_times);
      CHECK(restored->rows() == store_->rows());
    }
    Print("cut", "MB/s", cut);
    fmt::print("  longest cut of one partition {:.2f} ms (cpu)\n", longest_cut * 1e3);
    Print("difference: rows scanned", "M rows/s", difference);
    Print("restore (first touch)", "MB/s", restore);
  }

  void DifferenceOnce(const std::vector<protocol::Image>& images,
                      const std::vector<uint32_t>& since, Series* series) {
    for (size_t i = 0; i < known_.size(); i += 100) store_->Push(known_[i], gradients_.data());
    const Times times = Measure([&] {
      for (size_t p = 0; p < images.size(); ++p) {
        (void)store_->partitions()[p]->CutDifference(Tenure(1), images[p].header.stamp, since[p]);
      }
    });
    series->Add(static_cast<double>(store_->rows()), times);
  }

  Options options_;
  std::unique_ptr<Store> store_;
  PlainMap map_;
  std::vector<float> values_;
  std::vector<float> gradients_;
  std::vector<Request> known_;
  std::vector<Request> unknown_;
  Times touch_;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--no-map") {
      options.with_map = false;
      continue;
    }
    const auto value = i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0;
    const auto small = static_cast<uint32_t>(std::clamp<uint64_t>(value, 1, 1u << 20));
    if (name == "--rows") options.rows = std::max<uint64_t>(value, 1);
    if (name == "--dim") options.dim = small;
    if (name == "--batch") options.batch = small;
    if (name == "--partitions") options.partitions = std::min(small, protocol::kMaxPartitions);
    if (name == "--rounds") options.rounds = static_cast<int>(small);
    if (name == "--requests") options.requests = small;
  }
  return options;
}

}  // namespace
}  // namespace freshet::ps

int main(int argc, char** argv) {
  freshet::transport::TuneMallocForFrames();
  const freshet::ps::Options options = freshet::ps::Parse(argc, argv);
  fmt::print("{} rows, dim {}, adagrad, {} keys a request over {} partitions, {} requests\n",
             options.rows, options.dim, options.batch, options.partitions, options.requests);
  freshet::ps::Bench(options).Run();
  return 0;
}
