// SPDX-License-Identifier: Apache-2.0
// ImageRecord: what the image store writes beside the blocks of an image, and the keys of both.
// A partition's images are numbered: 0 = the whole one, 1.. = the differences in their order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "protocol/image.h"

namespace freshet::checkpoint {

// The directory's format: bump it with any change here, in the checksum or in the image format.
inline constexpr uint32_t kImageStoreFormat = 1;

struct StoredBlock {
  uint64_t bytes = 0;
  uint64_t checksum = 0;
};

// Layout, little-endian: u32 magic 'FRIM', u16 image format, u16 partition, u32 number, u32 blocks,
// u64 header bytes, u64 tenure, u64 version, u64 base tenure, u64 base version, the encoded header,
// blocks x {u64 bytes, u64 checksum}, u64 checksum of all before. It binds the blocks to their
// place.
struct ImageRecord {
  protocol::PartitionId partition;
  uint32_t number = 0;
  protocol::Stamp stamp;
  protocol::Stamp base;  // tenure 0 = whole
  std::string header;    // protocol::EncodeImageHeader
  std::vector<StoredBlock> blocks;

  uint64_t BlockBytes() const;
};

struct RecordPlace {
  protocol::PartitionId partition;
  uint32_t number = 0;
};

// All but the blocks.
ImageRecord MakeRecord(const protocol::Image& image, uint32_t number);
std::string EncodeRecord(const ImageRecord& record);
// kCorrupt unless every byte is what EncodeRecord made; kConflict: for another place.
base::Result<ImageRecord> DecodeRecord(RecordPlace place, std::string_view bytes);

// Keys sort by partition, then number, then block.
std::string RecordKey(RecordPlace place);
std::string BlockKey(RecordPlace place, uint32_t block);
// False unless `key` is one that RecordKey, or BlockKey, makes.
bool ParseRecordKey(std::string_view key, RecordPlace* place);
bool IsBlockKey(std::string_view key);
// After every key of the partition's records, or blocks.
std::string RecordsEnd(protocol::PartitionId partition);
std::string BlocksEnd(protocol::PartitionId partition);

}  // namespace freshet::checkpoint
