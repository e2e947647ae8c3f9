// SPDX-License-Identifier: Apache-2.0
// freshet_image_writer: saves images through the real store and says on stdout what is about to be saved
// and what was acknowledged; or, with --check, reads everything back and says what is there. What an
// image holds follows from its partition and version, so that every byte can be compared. Made to be run
// under a tracer that lets system calls fail. Exit code 3: the store takes no more writes.
#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "base/config.h"
#include "checkpoint/lmdb_image_store.h"
#include "tests/checkpoint/testing.h"

namespace freshet::checkpoint {
namespace {

using protocol::Image;
using protocol::PartitionId;
using testing::MakeStamp;

constexpr uint16_t kPartitions = 4;
constexpr int kNoMoreWrites = 3;
constexpr int kWrong = 1;

// Versions count up by one; every fifth image is whole, at a partition's own turn.
Image ImageOf(uint16_t partition, uint64_t version) {
  const bool whole = (version + partition) % 5 == 0 || version == 1;
  return testing::MakeImage({.partition = partition,
                             .stamp = MakeStamp(1, version),
                             .base = whole ? MakeStamp(0, 0) : MakeStamp(1, version - 1),
                             .block_bytes = {64 * version % 9000, 20000, 5000}});
}

void Say(const std::string& line) {
  if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) _exit(kWrong);
}

int Check(LmdbImageStore& store) {
  for (uint16_t p = 0; p < kPartitions; ++p) {
    const auto chain = store.Load(PartitionId(p));
    if (!chain && chain.error().code == base::ErrorCode::kNotFound) continue;
    if (!chain) {
      Say(fmt::format("damaged {}\n", chain.error().message));
      return kWrong;
    }
    for (const Image& image : *chain) {
      if (testing::Same(image, ImageOf(p, image.header.stamp.version))) continue;
      Say(fmt::format("wrong {} {}\n", p, image.header.stamp.version));
      return kWrong;
    }
    Say(fmt::format("found {} {}\n", p, chain->back().header.stamp.version));
  }
  return 0;
}

int Write(LmdbImageStore& store, uint32_t saves) {
  std::map<uint16_t, uint64_t> versions;
  const auto list = store.List();
  if (!list) return kWrong;
  for (const StoredImage& stored : *list) {
    versions[stored.partition.value()] = stored.stamp.version;
  }
  for (uint32_t i = 0; i < saves; ++i) {
    const auto partition = static_cast<uint16_t>(i % kPartitions);
    const uint64_t version = versions[partition] + 1;
    Say(fmt::format("begin {} {}\n", partition, version));
    const auto saved = store.Save(ImageOf(partition, version));
    if (saved) {
      versions[partition] = version;
      Say(fmt::format("ack {} {}\n", partition, version));
      continue;
    }
    Say(fmt::format("failed {} {} {}\n", partition, version, saved.error().message));
    // A full disk is tried again; whoever the disk failed ends, as a server does.
    if (saved.error().code != base::ErrorCode::kResourceExhausted) return kNoMoreWrites;
  }
  return 0;
}

int Main(int argc, char** argv) {
  std::string dir;
  uint32_t saves = 60;
  bool check = false;
  base::ConfigFields fields;
  fields.Add("dir", &dir, "directory of the store").Required();
  fields.Add("saves", &saves, {.min = 1}, "how many images to save");
  fields.Add("check", &check, "read instead");
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet_image_writer", .description = "Saves images that can be told apart."});
  if (end) return *end;
  auto store = LmdbImageStore::Open({.directory = dir});
  if (!store) {
    Say(fmt::format("not opened {}\n", store.error().message));
    return kNoMoreWrites;
  }
  return check ? Check(**store) : Write(**store, saves);
}

}  // namespace
}  // namespace freshet::checkpoint

int main(int argc, char** argv) { return freshet::checkpoint::Main(argc, argv); }
