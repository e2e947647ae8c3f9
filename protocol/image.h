// SPDX-License-Identifier: Apache-2.0
// Image: a partition's rows + applied sets + version, cut at one instant; whole, or the difference to
// an older image. What is stored, shipped and restored is always this.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "protocol/buffer.h"
#include "protocol/ids.h"
#include "protocol/span.h"

namespace freshet::protocol {

// Orders the images of one partition (G3): the writer's tenure, then the number of changes.
struct Stamp {
  Tenure tenure;
  uint64_t version = 0;
  constexpr auto operator<=>(const Stamp&) const = default;
};

struct ImageHeader {
  PartitionId partition;
  Stamp stamp;
  // A difference applies onto exactly this stamp; tenure 0 = a whole image.
  Stamp base;
  AppliedSets applied;
  uint64_t rows = 0;  // in this image's blocks

  bool whole() const { return base.tenure.value() == 0; }
  bool operator==(const ImageHeader&) const = default;
};

// A block holds rows of one table; at most kBlockTargetBytes unless one row is larger. Layout, little-endian, no padding but
// where said (format version kImageFormat):
//   u32 magic 'FRB1'  u16 table  u16 reserved=0  u32 rows  u32 row_floats (weights + optimizer state)
//   u64 keys[rows]   u32 counts[rows] (padded with zero to 8 bytes)   f32 values[rows][row_floats]
// A store adds its own checksum per block.
struct Image {
  ImageHeader header;
  std::vector<Buffer> blocks;

  uint64_t Bytes() const;
};

inline constexpr uint16_t kImageFormat = 1;
inline constexpr uint32_t kBlockMagic = 0x31425246;  // "FRB1"
inline constexpr size_t kBlockTargetBytes = 256 * 1024;
inline constexpr size_t kBlockHeaderBytes = 16;

// A block's parts, checked against its size; pointers into the block.
struct BlockView {
  TableId table;
  uint32_t rows = 0;
  uint32_t row_floats = 0;
  const uint64_t* keys = nullptr;
  const uint32_t* counts = nullptr;
  const float* values = nullptr;
};

size_t BlockBytes(uint32_t rows, uint32_t row_floats);
// Writes the block's header into `block` (of BlockBytes(..)); the arrays are at the offsets ReadBlock gives.
void WriteBlockHeader(Buffer& block, TableId table, uint32_t rows, uint32_t row_floats);
// kCorrupt unless the block is exactly what its header says.
base::Result<BlockView> ReadBlock(const Buffer& block);

Buffer EncodeImageHeader(const ImageHeader& header);
base::Result<ImageHeader> DecodeImageHeader(const Buffer& bytes);

}  // namespace freshet::protocol
