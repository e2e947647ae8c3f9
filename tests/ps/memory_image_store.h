// SPDX-License-Identifier: Apache-2.0
// An ImageStore in memory that keeps the rules of the real one and fails when a test says so.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/image_store.h"

namespace freshet::ps {

class MemoryImageStore final : public checkpoint::ImageStore {
 public:
  // Partition -> a whole image, then its differences.
  std::map<protocol::PartitionId, std::vector<protocol::Image>> chains;
  // Of the next write; then writing works again.
  std::optional<base::ErrorCode> next_write_fails;
  // From this image of the partition on everything is damaged.
  std::map<protocol::PartitionId, size_t> damaged_from;
  // What was asked for, in this order.
  std::vector<std::vector<protocol::ImageHeader>> writes;
  std::vector<protocol::PartitionId> loads;
  std::vector<protocol::PartitionId> removed;
  std::map<std::string, checkpoint::ImageFileInfo> exported;  // by path

  base::Result<std::vector<checkpoint::StoredImage>> List() override {
    return std::vector<checkpoint::StoredImage>();
  }

  base::Result<std::vector<protocol::Image>> Load(protocol::PartitionId partition) override {
    loads.push_back(partition);
    const auto chain = chains.find(partition);
    if (chain == chains.end()) return base::Fail(base::ErrorCode::kNotFound, "no image");
    const auto damage = damaged_from.find(partition);
    if (damage != damaged_from.end()) return base::Fail(base::ErrorCode::kCorrupt, "damaged");
    return chain->second;
  }

  base::Result<uint32_t> Repair(protocol::PartitionId partition) override {
    auto& chain = chains.at(partition);
    const size_t sound = damaged_from.extract(partition).mapped();
    const auto lost = static_cast<uint32_t>(chain.size() - sound);
    chain.resize(sound);
    if (chain.empty()) chains.erase(partition);
    return lost;
  }

  base::Result<> Save(const protocol::Image& image) override {
    auto saved = SaveAll({image});
    if (!saved) return tl::unexpected(saved.error());
    if (saved->front() == 0) return base::Fail(base::ErrorCode::kConflict, "does not fit");
    return {};
  }

  base::Result<std::vector<char>> SaveAll(const std::vector<protocol::Image>& images) override {
    auto& write = writes.emplace_back();
    for (const auto& image : images) write.push_back(image.header);
    if (const auto code = std::exchange(next_write_fails, std::nullopt)) {
      return base::Fail(*code, "as the test says");
    }
    std::vector<char> saved;
    for (const auto& image : images) saved.push_back(SaveOne(image) ? 1 : 0);
    return saved;
  }

  base::Result<> Remove(protocol::PartitionId partition, protocol::Tenure below) override {
    removed.push_back(partition);
    const auto chain = chains.find(partition);
    if (chain != chains.end() && chain->second.back().header.stamp.tenure < below) {
      chains.erase(chain);
    }
    return {};
  }

  base::Result<checkpoint::ImageFileInfo> Export(protocol::PartitionId partition,
                                                 const std::string& path) override {
    const auto chain = Load(partition);
    if (!chain) return tl::unexpected(chain.error());
    if (const auto code = std::exchange(next_write_fails, std::nullopt)) {
      return base::Fail(*code, "as the test says");
    }
    const protocol::ImageHeader& newest = chain->back().header;
    return exported[path] = {.partition = partition,
                             .stamp = newest.stamp,
                             .applied = newest.applied,
                             .images = static_cast<uint32_t>(chain->size()),
                             .bytes = 1000,
                             .checksum = newest.stamp.version};
  }

 private:
  bool SaveOne(const protocol::Image& image) {
    const auto found = chains.find(image.header.partition);
    const protocol::ImageHeader* newest =
        found == chains.end() ? nullptr : &found->second.back().header;
    if (newest != nullptr && image.header.stamp <= newest->stamp) return false;
    if (!image.header.whole() && (newest == nullptr || newest->stamp != image.header.base)) {
      return false;
    }
    auto& chain = chains[image.header.partition];
    if (image.header.whole()) chain.clear();
    chain.push_back(image);
    return true;
  }
};

}  // namespace freshet::ps
