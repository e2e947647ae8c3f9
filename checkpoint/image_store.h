// SPDX-License-Identifier: Apache-2.0
// ImageStore: where partition images survive. The real one is LmdbImageStore; the simulator has
// one.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/image_file.h"
#include "protocol/image.h"

namespace freshet::checkpoint {

// What the store holds of one partition.
struct StoredImage {
  protocol::PartitionId partition;
  protocol::Stamp stamp;
  uint64_t bytes = 0;             // of the base and all differences
  uint64_t difference_bytes = 0;  // of the differences alone
};

// Blocking and thread safe: brains call it through an Executor. Every call is atomic: after a crash
// an image is there whole or not at all (I3). Rows and applied sets travel in one image (G1).
class ImageStore {
 public:
  virtual ~ImageStore() = default;

  virtual base::Result<std::vector<StoredImage>> List() = 0;

  // The newest state of the partition: a base, then differences, to be applied in this order. Every
  // checksum was verified. kNotFound: no image. kCorrupt: says what is damaged.
  virtual base::Result<std::vector<protocol::Image>> Load(protocol::PartitionId partition) = 0;

  // After Load said kCorrupt: removes the first damaged image and those behind it, so that Load gives
  // the older state before them, or kNotFound if not even the base is sound. Returns how many went.
  virtual base::Result<uint32_t> Repair(protocol::PartitionId partition) = 0;

  // Durable when it returns. A whole image replaces what is there; a difference is appended iff its
  // base stamp is the stored stamp. kConflict, and nothing changes, unless the stamp is higher than
  // the stored one (G3) and the base fits. kResourceExhausted (disk full): nothing changed. kIo:
  // not durable; the image is there whole or not at all, and a restart tells which.
  virtual base::Result<> Save(const protocol::Image& image) = 0;

  // Several images in one transaction: all or none; the conflicts of single ones are skipped and
  // reported by position in `saved` (1 = saved, 0 = skipped by conflict).
  virtual base::Result<std::vector<char>> SaveAll(const std::vector<protocol::Image>& images) = 0;

  // Removes the partition's image iff its stamp's tenure is lower than `below` (G13).
  virtual base::Result<> Remove(protocol::PartitionId partition, protocol::Tenure below) = 0;

  // Copies what Load returns to a file that did not exist: with the errors of Load and of
  // WriteImageFile. Stores without files need not be able to.
  virtual base::Result<ImageFileInfo> Export(protocol::PartitionId partition,
                                             const std::string& path) {
    return base::Fail(base::ErrorCode::kUnavailable,
                      "no image of partition " + std::to_string(partition.value()) +
                          " can be copied to " + path + ": this store keeps none in files");
  }
};

}  // namespace freshet::checkpoint
