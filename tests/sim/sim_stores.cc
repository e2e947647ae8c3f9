// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_stores.h"

#include <utility>

#include "base/check.h"
#include "base/mutant.h"

namespace freshet::sim {

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
  if (random_.Chance(faults_.read_fails)) return Fail(ErrorCode::kIo, "simulated read error");
  const auto found = disk_.images.find(partition);
  if (found == disk_.images.end()) return Fail(ErrorCode::kNotFound, "no image");
  std::vector<Image> images;
  for (const Image& image : found->second) images.push_back(DeepCopy(image));
  return images;
}

bool SimImageStore::SaveOne(const Image& image) {
  const protocol::ImageHeader& header = image.header;
  const protocol::ImageHeader* newest = disk_.Newest(header.partition);
  if (newest != nullptr && header.stamp <= newest->stamp) return false;
  if (!header.whole() && (newest == nullptr || newest->stamp != header.base)) return false;
  auto& chain = disk_.images[header.partition];
  if (header.whole()) chain.clear();
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
  if (random_.Chance(faults_.full)) {
    return Fail(ErrorCode::kResourceExhausted, "simulated full disk");
  }
  const bool fails = random_.Chance(faults_.write_fails);
  if (fails && random_.Chance(0.5)) return Fail(ErrorCode::kIo, "simulated write error");
  if (MUTANT(kTwoTransactions) && random_.Chance(0.02)) {
    for (const Image& image : images) SaveRowsWithoutSet(image);
    die();
    return Fail(ErrorCode::kIo, "killed between two transactions");
  }
  std::vector<char> saved;
  for (const Image& image : images) saved.push_back(SaveOne(image) ? 1 : 0);
  if (fails) return Fail(ErrorCode::kIo, "simulated sync error");
  return saved;
}

Result<> SimImageStore::Remove(PartitionId partition, protocol::Tenure below) {
  if (random_.Chance(faults_.write_fails)) return Fail(ErrorCode::kIo, "simulated write error");
  const protocol::ImageHeader* newest = disk_.Newest(partition);
  if (newest != nullptr && newest->stamp.tenure < below) disk_.images.erase(partition);
  return {};
}

Result<> SimStateStore::Save(const Buffer& state) {
  const bool fails = random_.Chance(faults_.write_fails);
  if (!fails || random_.Chance(0.5)) cell_ = Buffer::Copy(state.bytes());
  if (fails) return Fail(ErrorCode::kIo, "simulated sync error");
  return {};
}

}  // namespace freshet::sim
