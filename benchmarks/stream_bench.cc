// SPDX-License-Identifier: Apache-2.0
// Reading and writing logs on one core, from the page cache:
//   OpenPlain        line index of a file (scan)
//   ReadMovielens    userId,movieId,rating,timestamp lines, batches of 512
//   ReadCriteo       40 tab-separated columns, batches of 512
//   ReadCriteoGzip   the same, packed
//   Generate         `freshet generate`
// Files are made up in a temporary directory with the shape of the real ones.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <zlib.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/random.h"
#include "stream/file_log.h"
#include "stream/generator.h"

namespace freshet::stream {
namespace {

constexpr uint64_t kMovielensRecords = 1'000'000;
constexpr uint64_t kCriteoRecords = 200'000;
constexpr uint64_t kBatchRecords = 512;

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "stream_bench: %s\n", what.c_str());
  std::exit(1);
}

class Files {
 public:
  Files() {
    std::string pattern = (std::filesystem::temp_directory_path() / "stream-bench-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) Die("cannot make a temporary directory");
    directory_ = pattern;
    Write(movielens(), Movielens());
    const std::string text = Criteo();
    Write(criteo(), text);
    gzFile packed = gzopen(criteo_gzip().c_str(), "wb6");
    if (packed == nullptr) Die("cannot write a gzip file");
    gzwrite(packed, text.data(), static_cast<unsigned>(text.size()));
    gzclose(packed);
  }
  ~Files() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  std::string movielens() const { return directory_ + "/ratings.csv"; }
  std::string criteo() const { return directory_ + "/criteo.tsv"; }
  std::string criteo_gzip() const { return directory_ + "/criteo.tsv.gz"; }
  std::string generated() const { return directory_ + "/generated.tsv"; }

 private:
  static void Write(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    if (!file.good()) Die("cannot write " + path);
  }

  static std::string Movielens() {
    base::Random random(1);
    std::string text = "userId,movieId,rating,timestamp\n";
    for (uint64_t i = 0; i < kMovielensRecords; ++i) {
      text +=
          fmt::format("{},{},{}.{},{}\n", random.Below(610) + 1, random.Below(190000) + 1,
                      random.Below(5), random.Below(2) * 5, 964982703 + random.Below(500000000));
    }
    return text;
  }

  static std::string Criteo() {
    base::Random random(2);
    std::string text;
    for (uint64_t i = 0; i < kCriteoRecords; ++i) {
      text += random.Chance(0.25) ? '1' : '0';
      for (int column = 0; column < 13; ++column) {
        text += '\t';
        if (!random.Chance(0.2)) text += fmt::format("{:.0f}", std::exp(random.Uniform() * 8) - 1);
      }
      for (int column = 0; column < 26; ++column) {
        text += '\t';
        if (!random.Chance(0.1)) text += fmt::format("{:08x}", random.Next() & 0xFFFFFFFF);
      }
      text += '\n';
    }
    return text;
  }

  std::string directory_;
};

const Files& TheFiles() {
  static const Files files;
  return files;
}

std::unique_ptr<FileLog> Open(const std::string& path, const char* schema_name) {
  auto schema = LoadSchema(schema_name);
  if (!schema) Die(schema.error().message);
  auto log = FileLog::Open({path, *schema, 1});
  if (!log) Die(log.error().message);
  return std::move(*log);
}

void ReadWhole(benchmark::State& state, const std::string& path, const char* schema) {
  auto log = Open(path, schema);
  RecordBatch batch;
  for (auto _ : state) {
    for (protocol::Offset at = 0; at < log->end(); at += kBatchRecords) {
      if (!log->Read({at, std::min(at + kBatchRecords, log->end())}, batch)) Die("cannot read");
      benchmark::DoNotOptimize(batch.sparse.data());
    }
  }
  const auto rounds = static_cast<double>(state.iterations());
  state.SetItemsProcessed(static_cast<int64_t>(rounds * static_cast<double>(log->end())));
}

void OpenPlain(benchmark::State& state) {
  const std::string path = TheFiles().criteo();
  for (auto _ : state) benchmark::DoNotOptimize(Open(path, "criteo"));
  state.SetBytesProcessed(
      static_cast<int64_t>(state.iterations() * std::filesystem::file_size(TheFiles().criteo())));
}

void ReadMovielens(benchmark::State& state) {
  ReadWhole(state, TheFiles().movielens(), "movielens");
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() *
                                               std::filesystem::file_size(TheFiles().movielens())));
}

void ReadCriteo(benchmark::State& state) {
  ReadWhole(state, TheFiles().criteo(), "criteo");
  state.SetBytesProcessed(
      static_cast<int64_t>(state.iterations() * std::filesystem::file_size(TheFiles().criteo())));
}

void ReadCriteoGzip(benchmark::State& state) {
  ReadWhole(state, TheFiles().criteo_gzip(), "criteo");
  state.SetBytesProcessed(
      static_cast<int64_t>(state.iterations() * std::filesystem::file_size(TheFiles().criteo())));
}

void Generate(benchmark::State& state) {
  GeneratorOptions options;
  options.records = 500'000;
  options.existing = ExistingFile::kReplace;
  for (auto _ : state) {
    if (!GenerateLog(options, TheFiles().generated(), {})) Die("cannot generate");
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * options.records));
}

BENCHMARK(OpenPlain)->Unit(benchmark::kMillisecond);
BENCHMARK(ReadMovielens)->Unit(benchmark::kMillisecond);
BENCHMARK(ReadCriteo)->Unit(benchmark::kMillisecond);
BENCHMARK(ReadCriteoGzip)->Unit(benchmark::kMillisecond);
BENCHMARK(Generate)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace freshet::stream

BENCHMARK_MAIN();
