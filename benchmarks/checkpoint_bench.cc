// SPDX-License-Identifier: Apache-2.0
// What durable images cost, against plain files holding the same bytes in the same round:
//   write     all images into an empty store, one transaction each, against write + fsync of each
//   rewrite   all images again, replacing the old ones (freed room is used again), against the same
//   group     all images into an empty store, eight a transaction, against one fsync at the end
//   cold      loading every image with the page cache dropped, against read() of the plain file
//   warm      the same with the page cache warm
// and the time of one DurableCell write (4 KiB), against pwrite + fdatasync of the same bytes.
// checkpoint_bench [--dir D] [--partitions N] [--kib N] [--rounds N]
#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "checkpoint/durable_cell.h"
#include "checkpoint/lmdb_image_store.h"

namespace freshet::checkpoint {
namespace {

using protocol::Buffer;
using protocol::Image;
using protocol::PartitionId;
using protocol::Tenure;

struct Options {
  std::string dir = "/tmp";
  uint64_t partitions = 256;
  uint64_t kib = 5000;  // per image
  int rounds = 5;
};

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<Image> MakeImages(const Options& options) {
  base::Random random(1);
  std::vector<Image> images(options.partitions);
  for (uint64_t partition = 0; partition < options.partitions; ++partition) {
    Image& image = images[partition];
    image.header.partition = PartitionId(static_cast<uint16_t>(partition));
    for (uint64_t left = options.kib << 10; left > 0;) {
      const uint64_t bytes = std::min<uint64_t>(left, protocol::kBlockTargetBytes);
      Buffer block = Buffer::Allocate(bytes);
      for (uint64_t& word : block.MutableAs<uint64_t>()) word = random.Next();
      image.blocks.push_back(std::move(block));
      left -= bytes;
    }
  }
  return images;
}

void DropCache(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
  close(fd);
}

enum class Sync : uint8_t { kEach, kOnce };

double WritePlain(const std::string& path, const std::vector<Image>& images, Sync sync) {
  std::filesystem::remove(path);
  const double start = Seconds();
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  for (const Image& image : images) {
    for (const Buffer& block : image.blocks) {
      CHECK(write(fd, block.data(), block.size()) == static_cast<ssize_t>(block.size()));
    }
    CHECK(sync == Sync::kOnce || fsync(fd) == 0);
  }
  CHECK(fsync(fd) == 0);
  close(fd);
  return Seconds() - start;
}

// Into a fresh buffer per block, an image at a time in memory: what a load must do at least.
double ReadPlain(const std::string& path, const std::vector<Image>& images) {
  const double start = Seconds();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  for (const Image& image : images) {
    std::vector<Buffer> blocks;
    for (const Buffer& block : image.blocks) {
      Buffer buffer = Buffer::Allocate(block.size());
      CHECK(read(fd, buffer.mutable_data(), buffer.size()) == static_cast<ssize_t>(block.size()));
      blocks.push_back(std::move(buffer));
    }
  }
  close(fd);
  return Seconds() - start;
}

std::unique_ptr<LmdbImageStore> OpenStore(const std::string& directory) {
  auto store = LmdbImageStore::Open({.directory = directory});
  CHECK(store);
  return std::move(*store);
}

double SaveEach(LmdbImageStore& store, std::vector<Image>& images, uint64_t version) {
  const double start = Seconds();
  for (Image& image : images) {
    image.header.stamp = {Tenure(1), version};
    CHECK(store.Save(image));
  }
  return Seconds() - start;
}

double SaveGroups(LmdbImageStore& store, std::vector<Image>& images, uint64_t version) {
  const double start = Seconds();
  for (size_t at = 0; at < images.size(); at += 8) {
    std::vector<Image> group;
    for (size_t i = at; i < std::min(at + 8, images.size()); ++i) {
      images[i].header.stamp = {Tenure(1), version};
      group.push_back(images[i]);
    }
    CHECK(store.SaveAll(group));
  }
  return Seconds() - start;
}

double LoadAll(LmdbImageStore& store, const std::vector<Image>& images) {
  const double start = Seconds();
  for (const Image& image : images) {
    const auto loaded = store.Load(image.header.partition);
    CHECK(loaded && loaded->front().blocks.size() == image.blocks.size());
  }
  return Seconds() - start;
}

// Seconds of the store and of the plain file, one of each per round.
struct Comparison {
  std::string name;
  std::vector<double> store = {};
  std::vector<double> plain = {};

  template <class Plain, class Store>
  void Measure(bool plain_first, const Plain& run_plain, const Store& run_store) {
    if (plain_first) plain.push_back(run_plain());
    store.push_back(run_store());
    if (!plain_first) plain.push_back(run_plain());
  }
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Print(const Comparison& comparison, double megabytes) {
  std::vector<double> ratios;
  for (size_t i = 0; i < comparison.store.size(); ++i) {
    ratios.push_back(comparison.plain[i] / comparison.store[i]);
  }
  const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
  fmt::print(
      "{:8} store {:6.0f} MB/s   plain file {:6.0f} MB/s   speed ratio {:.2f} / {:.2f} / {:.2f}\n",
      comparison.name, megabytes / Median(comparison.store), megabytes / Median(comparison.plain),
      *least, Median(ratios), *most);
}

void CompareImages(const Options& options) {
  std::vector<Image> images = MakeImages(options);
  const double megabytes = static_cast<double>(options.partitions * (options.kib << 10)) / 1e6;
  const std::string plain = options.dir + "/plain";
  const std::string stored = options.dir + "/store";
  Comparison write{"write"}, group{"group"}, rewrite{"rewrite"}, cold{"cold"}, warm{"warm"};
  uint64_t file_bytes = 0;
  const auto plain_once = [&] { return WritePlain(plain, images, Sync::kOnce); };
  const auto plain_each = [&] { return WritePlain(plain, images, Sync::kEach); };
  const auto plain_read = [&] { return ReadPlain(plain, images); };
  for (int round = 0; round < options.rounds; ++round) {
    const bool plain_first = round % 2 == 0;  // whoever is second finds a busier disk
    std::filesystem::remove_all(stored);
    auto store = OpenStore(stored);
    group.Measure(plain_first, plain_once, [&] { return SaveGroups(*store, images, 1); });
    store.reset();
    std::filesystem::remove_all(stored);
    store = OpenStore(stored);
    write.Measure(plain_first, plain_each, [&] { return SaveEach(*store, images, 1); });
    rewrite.Measure(plain_first, plain_each, [&] { return SaveEach(*store, images, 2); });
    store.reset();
    file_bytes = std::filesystem::file_size(stored + "/data.mdb");
    DropCache(plain);
    DropCache(stored + "/data.mdb");
    store = OpenStore(stored);
    cold.Measure(plain_first, plain_read, [&] { return LoadAll(*store, images); });
    warm.Measure(plain_first, plain_read, [&] { return LoadAll(*store, images); });
  }
  fmt::print("{} images of {} KiB, {} rounds; medians; ratios: least / median / most\n",
             options.partitions, options.kib, options.rounds);
  for (const Comparison* c : {&write, &rewrite, &group, &cold, &warm}) Print(*c, megabytes);
  fmt::print("file after the rewrite: {:.2f} times the images\n",
             static_cast<double>(file_bytes) / megabytes / 1e6);
  std::filesystem::remove_all(stored);
  std::filesystem::remove(plain);
}

void Print(const std::string& name, std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  fmt::print("{:24} p50 {:6.0f} us   p99 {:6.0f} us   most {:6.0f} us\n", name,
             seconds[seconds.size() / 2] * 1e6, seconds[seconds.size() * 99 / 100] * 1e6,
             seconds.back() * 1e6);
}

void CompareCell(const Options& options) {
  constexpr int kWrites = 500;
  auto cell = DurableCell::Open({.directory = options.dir + "/cell", .name = "bench"});
  CHECK(cell);
  const std::string plain = options.dir + "/plain";
  const int fd = open(plain.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  std::string blob(4096, 'x');
  std::vector<double> of_cell, of_plain;
  for (int i = 0; i < kWrites; ++i) {
    blob[i % blob.size()] ^= 1;
    double start = Seconds();
    CHECK((*cell)->Write(blob));
    of_cell.push_back(Seconds() - start);
    start = Seconds();
    CHECK(pwrite(fd, blob.data(), blob.size(), 0) == static_cast<ssize_t>(blob.size()));
    CHECK(fdatasync(fd) == 0);
    of_plain.push_back(Seconds() - start);
  }
  close(fd);
  Print("DurableCell, 4 KiB", of_cell);
  Print("pwrite + fdatasync", of_plain);
  std::filesystem::remove_all(options.dir + "/cell");
  std::filesystem::remove(plain);
}

int Run(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--dir") options.dir = argv[i + 1];
    if (name == "--partitions") options.partitions = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--kib") options.kib = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--rounds") options.rounds = std::atoi(argv[i + 1]);
  }
  options.dir += "/freshet-checkpoint-bench";
  std::filesystem::create_directories(options.dir);
  CompareCell(options);
  CompareImages(options);
  std::filesystem::remove_all(options.dir);
  return 0;
}

}  // namespace
}  // namespace freshet::checkpoint

int main(int argc, char** argv) {
  // As in the daemons: otherwise every block is mapped, faulted in and unmapped again.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  return freshet::checkpoint::Run(argc, argv);
}
