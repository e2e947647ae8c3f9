// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_stores.h"

#include <utility>

#include "base/check.h"
#include "base/mutant.h"

namespace freshet::sim {

using base::Error;
using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Buffer;
using protocol::Image;
using protocol::PartitionId;

namespace {

// Through the format on disk, so that nothing survives that it does not hold.
Image DeepCopy(const Image& image) {
  Image copy;
  auto header = protocol::DecodeImageHeader(protocol::EncodeImageHeader(image.header));
  CHECK(header.has_value());
  copy.header = std::move(*header);
  for (const Buffer& block : image.blocks) copy.blocks.push_back(Buffer::Copy(block.bytes()));
  return copy;
}

}  // namespace

Error DiskAccess::Told(ErrorCode code, const char* what) {
  ++failures_;
  return {code, what};
}

Error DiskAccess::Die() {
  dead_ = true;
  die();
  return Told(ErrorCode::kIo, "the process has ended");
}

Result<> DiskAccess::Write(const std::function<void()>& write) {
  const auto fail = [](Error error) { return tl::unexpected<Error>(std::move(error)); };
  if (dead_) return fail(Told(ErrorCode::kIo, "the process has ended"));
  if (random_.Chance(faults_.full)) {
    return fail(Told(ErrorCode::kResourceExhausted, "simulated full disk"));
  }
  if (random_.Chance(faults_.crash)) {
    if (random_.Chance(0.5)) write();
    return fail(Die());
  }
  const bool fails = random_.Chance(faults_.write_fails);
  if (fails && random_.Chance(0.5)) return fail(Told(ErrorCode::kIo, "simulated write error"));
  write();
  if (fails) return fail(Told(ErrorCode::kIo, "simulated sync error"));
  return {};
}

Result<> DiskAccess::Read() {
  if (!random_.Chance(faults_.read_fails)) return {};
  return tl::unexpected<Error>(Told(ErrorCode::kIo, "simulated read error"));
}

const protocol::ImageHeader* SimDisk::Newest(PartitionId partition) const {
  const auto found = images.find(partition);
  return found == images.end() ? nullptr : &found->second.back().header;
}

Result<std::vector<checkpoint::StoredImage>> SimImageStore::List() {
  std::vector<checkpoint::StoredImage> list;
  for (const auto& [partition, chain] : disk_.images) {
    auto& stored = list.emplace_back();
    stored.partition = partition;
    stored.stamp = chain.back().header.stamp;
    for (const Image& image : chain) {
      stored.bytes += image.Bytes();
      if (!image.header.whole()) stored.difference_bytes += image.Bytes();
    }
  }
  return list;
}

Result<std::vector<Image>> SimImageStore::Load(PartitionId partition) {
  if (auto read = access_.Read(); !read) return Fail(read.error().code, read.error().message);
  const auto found = disk_.images.find(partition);
  if (found == disk_.images.end()) return Fail(ErrorCode::kNotFound, "no image");
  if (disk_.damaged.contains(partition)) return Fail(ErrorCode::kCorrupt, "simulated damage");
  std::vector<Image> images;
  for (const Image& image : found->second) images.push_back(DeepCopy(image));
  return images;
}

Result<uint32_t> SimImageStore::Repair(PartitionId partition) {
  const auto damaged = disk_.damaged.find(partition);
  if (damaged == disk_.damaged.end()) return 0;
  SimDisk::Chain& chain = disk_.images.at(partition);
  const size_t sound = damaged->second;
  const auto removed = static_cast<uint32_t>(chain.size() - sound);
  auto written = access_.Write([&] {
    ++disk_.repairs;
    disk_.damaged.erase(damaged);
    sound == 0 ? static_cast<void>(disk_.images.erase(partition)) : chain.resize(sound);
  });
  if (!written) return Fail(written.error().code, written.error().message);
  return removed;
}

bool SimImageStore::SaveOne(const Image& image) {
  const protocol::ImageHeader& header = image.header;
  const protocol::ImageHeader* newest = disk_.Newest(header.partition);
  if (newest != nullptr && header.stamp <= newest->stamp) return false;
  if (!header.whole() && (newest == nullptr || newest->stamp != header.base)) return false;
  auto& chain = disk_.images[header.partition];
  if (header.whole()) {
    chain.clear();
    disk_.damaged.erase(header.partition);
  }
  chain.push_back(DeepCopy(image));
  return true;
}

void SimImageStore::SaveRowsWithoutSet(const Image& image) {
  const protocol::ImageHeader* newest = disk_.Newest(image.header.partition);
  protocol::AppliedSets before = newest == nullptr ? protocol::AppliedSets() : newest->applied;
  if (SaveOne(image))
    disk_.images[image.header.partition].back().header.applied = std::move(before);
}

Result<> SimImageStore::Save(const Image& image) {
  auto saved = SaveAll({image});
  if (!saved) return Fail(saved.error().code, saved.error().message);
  if (saved->front() == 0) return Fail(ErrorCode::kConflict, "a newer image is there");
  return {};
}

Result<std::vector<char>> SimImageStore::SaveAll(const std::vector<Image>& images) {
  if (MUTANT(kTwoTransactions) && access_.Draw(0.02)) {
    for (const Image& image : images) SaveRowsWithoutSet(image);
    access_.die();
    return Fail(ErrorCode::kIo, "killed between two transactions");
  }
  std::vector<char> saved;
  auto written = access_.Write([&] {
    for (const Image& image : images) saved.push_back(SaveOne(image) ? 1 : 0);
  });
  if (!written) return Fail(written.error().code, written.error().message);
  return saved;
}

Result<> SimImageStore::Remove(PartitionId partition, protocol::Tenure below) {
  return access_.Write([&] {
    const protocol::ImageHeader* newest = disk_.Newest(partition);
    if (newest == nullptr || newest->stamp.tenure >= below) return;
    disk_.images.erase(partition);
    disk_.damaged.erase(partition);
  });
}

Result<checkpoint::ImageFileInfo> SimImageStore::Export(PartitionId partition,
                                                        const std::string& path) {
  auto images = Load(partition);
  if (!images) return Fail(images.error().code, images.error().message);
  checkpoint::ImageFileInfo info;
  info.partition = partition;
  info.stamp = images->back().header.stamp;
  info.applied = images->back().header.applied;
  info.images = static_cast<uint32_t>(images->size());
  for (const Image& image : *images) info.bytes += image.Bytes();
  auto written = access_.Write([&] { vault_.files[path] = std::move(*images); });
  if (!written) return Fail(written.error().code, written.error().message);
  return info;
}

Result<> SimStateStore::Save(const Buffer& state) {
  return access_.Write([&] {
    const Cell before = std::exchange(cell_, Buffer::Copy(state.bytes()));
    if (on_saved) on_saved(before, state);
  });
}

Result<> SimBackupWriter::Finish(master::BackupManifest manifest, const Buffer& state) {
  vault_.finished.push_back({std::move(manifest), Buffer::Copy(state.bytes()), image_dir()});
  return {};
}

}  // namespace freshet::sim
