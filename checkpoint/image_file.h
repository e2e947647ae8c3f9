// SPDX-License-Identifier: Apache-2.0
// ImageFile: one partition's images, a whole one and the differences to it, in a file of their own
// that can be copied to other storage. Written once, never changed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/image.h"

namespace freshet::checkpoint {

inline constexpr uint32_t kImageFileFormat = 1;

struct ImageFileInfo {
  protocol::PartitionId partition;
  protocol::Stamp stamp;          // of the last image
  protocol::AppliedSets applied;  // of the last image
  uint32_t images = 0;
  uint64_t bytes = 0;
  // Covers every byte of the file but the last 24; those are checked against it.
  uint64_t checksum = 0;

  bool operator==(const ImageFileInfo&) const = default;
};

struct ImageFile {
  ImageFileInfo info;
  std::vector<protocol::Image> images;
};

// Layout, little-endian: u32 magic 'FRIF', u32 format, u32 images, u32 partition, u64 checksum of
// these; per image: u64 bytes of its record, the record (checkpoint/image_record.h, which has the
// size and checksum of each block), the blocks; then u64 bytes of the file, u64 checksum of the
// checksums of head and records, u64 magic.
//
// `images` = what ImageStore::Load returns. Durable under its name when it returns; on an error
// there is no file of that name, unless there was one before. The draft is `path`.tmp.
// kResourceExhausted: no room; kIo: any other failure of the disk.
base::Result<ImageFileInfo> WriteImageFile(const std::string& path,
                                           const std::vector<protocol::Image>& images);

// Checks every byte. kNotFound: no such file; kCorrupt: damaged, and where. A hostile file cannot
// make it allocate more than the file is long.
base::Result<ImageFile> ReadImageFile(const std::string& path);

}  // namespace freshet::checkpoint
