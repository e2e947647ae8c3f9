// SPDX-License-Identifier: Apache-2.0
#include "protocol/image.h"

#include <bit>
#include <cstring>
#include <string>
#include <utility>

namespace freshet::protocol {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

static_assert(std::endian::native == std::endian::little, "images are little-endian in memory");

constexpr uint32_t kHeaderMagic = 0x31495246;  // "FRI1"
// magic, format, partition, 2 x (tenure, version), rows, logs
constexpr size_t kFixedHeaderBytes = 4 + 2 + 2 + 4 * 8 + 8 + 4;
constexpr size_t kLogBytes = 2 + 4;
constexpr size_t kSpanBytes = 16;

constexpr size_t PadTo8(size_t bytes) { return (bytes + 7) / 8 * 8; }

tl::unexpected<base::Error> Corrupt(const std::string& what) {
  return Fail(ErrorCode::kCorrupt, what);
}

struct BlockHeader {
  uint32_t magic = kBlockMagic;
  uint16_t table = 0;
  uint16_t reserved = 0;
  uint32_t rows = 0;
  uint32_t row_floats = 0;
};
static_assert(sizeof(BlockHeader) == kBlockHeaderBytes);

class ByteWriter {
 public:
  explicit ByteWriter(Buffer& out) : at_(out.mutable_data()) {}
  template <class T>
  void Put(T value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }

 private:
  std::byte* at_;
};

// Every read is checked against what is left.
class ByteReader {
 public:
  explicit ByteReader(const Buffer& bytes) : at_(bytes.data()), left_(bytes.size()) {}
  size_t left() const { return left_; }
  template <class T>
  bool Get(T* value) {
    if (left_ < sizeof *value) return false;
    std::memcpy(value, at_, sizeof *value);
    at_ += sizeof *value;
    left_ -= sizeof *value;
    return true;
  }

 private:
  const std::byte* at_;
  size_t left_;
};

bool ReadApplied(ByteReader& reader, uint32_t logs, AppliedSets* out) {
  if (logs > reader.left() / kLogBytes) return false;
  for (uint32_t i = 0; i < logs; ++i) {
    uint16_t log = 0;
    uint32_t count = 0;
    if (!reader.Get(&log) || !reader.Get(&count)) return false;
    if (count > reader.left() / kSpanBytes) return false;
    if (i > 0 && LogId(log) <= out->logs().back().log) return false;
    std::vector<Span> spans(count);
    for (Span& span : spans) {
      if (!reader.Get(&span.begin) || !reader.Get(&span.end)) return false;
    }
    LogSpanSet entry{LogId(log), {}};
    if (!SpanSet::FromSpans(std::move(spans), &entry.set)) return false;
    out->logs().push_back(std::move(entry));
  }
  return true;
}

}  // namespace

uint64_t Image::Bytes() const {
  uint64_t bytes = 0;
  for (const Buffer& block : blocks) bytes += block.size();
  return bytes;
}

size_t BlockBytes(uint32_t rows, uint32_t row_floats) {
  return kBlockHeaderBytes + size_t{rows} * sizeof(uint64_t) +
         PadTo8(size_t{rows} * sizeof(uint32_t)) + size_t{rows} * row_floats * sizeof(float);
}

void WriteBlockHeader(Buffer& block, TableId table, uint32_t rows, uint32_t row_floats) {
  const BlockHeader header{.table = table.value(), .rows = rows, .row_floats = row_floats};
  std::memcpy(block.mutable_data(), &header, sizeof header);
  if (rows % 2 != 0) {
    const uint32_t padding = 0;
    std::memcpy(block.mutable_data() + sizeof header + size_t{rows} * 12, &padding, sizeof padding);
  }
}

Result<BlockView> ReadBlock(const Buffer& block) {
  BlockHeader header;
  if (block.size() < sizeof header) return Corrupt("image block is shorter than its header");
  std::memcpy(&header, block.data(), sizeof header);
  if (header.magic != kBlockMagic) return Corrupt("image block has no magic");
  if (header.reserved != 0) return Corrupt("image block has a reserved field set");
  if (header.rows == 0 || header.row_floats == 0) return Corrupt("image block without rows");
  // Bounded before multiplying, so that no product can wrap.
  if (header.rows > block.size() / sizeof(uint64_t) ||
      header.row_floats > block.size() / sizeof(float) / header.rows ||
      BlockBytes(header.rows, header.row_floats) != block.size()) {
    return Corrupt("image block of " + std::to_string(block.size()) + " bytes claims " +
                   std::to_string(header.rows) + " rows of " + std::to_string(header.row_floats) +
                   " floats");
  }
  BlockView view{
      .table = TableId(header.table), .rows = header.rows, .row_floats = header.row_floats};
  const std::byte* at = block.data() + sizeof header;
  view.keys = reinterpret_cast<const uint64_t*>(at);
  at += size_t{view.rows} * sizeof(uint64_t);
  view.counts = reinterpret_cast<const uint32_t*>(at);
  if (view.rows % 2 != 0 && view.counts[view.rows] != 0) {
    return Corrupt("image block has its padding set");
  }
  at += PadTo8(size_t{view.rows} * sizeof(uint32_t));
  view.values = reinterpret_cast<const float*>(at);
  return view;
}

Buffer EncodeImageHeader(const ImageHeader& header) {
  size_t bytes = kFixedHeaderBytes;
  for (const LogSpanSet& entry : header.applied.logs()) {
    bytes += kLogBytes + entry.set.spans().size() * kSpanBytes;
  }
  Buffer out = Buffer::Allocate(bytes);
  ByteWriter writer(out);
  writer.Put(kHeaderMagic);
  writer.Put(kImageFormat);
  writer.Put(header.partition.value());
  writer.Put(header.stamp.tenure.value());
  writer.Put(header.stamp.version);
  writer.Put(header.base.tenure.value());
  writer.Put(header.base.version);
  writer.Put(header.rows);
  writer.Put(static_cast<uint32_t>(header.applied.logs().size()));
  for (const LogSpanSet& entry : header.applied.logs()) {
    writer.Put(entry.log.value());
    writer.Put(static_cast<uint32_t>(entry.set.spans().size()));
    for (const Span& span : entry.set.spans()) {
      writer.Put(span.begin);
      writer.Put(span.end);
    }
  }
  return out;
}

Result<ImageHeader> DecodeImageHeader(const Buffer& bytes) {
  ByteReader reader(bytes);
  uint32_t magic = 0;
  uint16_t format = 0;
  uint16_t partition = 0;
  if (!reader.Get(&magic) || magic != kHeaderMagic) return Corrupt("image header has no magic");
  if (!reader.Get(&format)) return Corrupt("image header is cut off");
  if (format != kImageFormat) {
    return Corrupt("image format " + std::to_string(format) + " is not the known format " +
                   std::to_string(kImageFormat));
  }
  ImageHeader header;
  uint64_t tenure = 0;
  uint64_t base_tenure = 0;
  uint32_t logs = 0;
  const bool complete = reader.Get(&partition) && reader.Get(&tenure) &&
                        reader.Get(&header.stamp.version) && reader.Get(&base_tenure) &&
                        reader.Get(&header.base.version) && reader.Get(&header.rows) &&
                        reader.Get(&logs);
  if (!complete) return Corrupt("image header is cut off");
  header.partition = PartitionId(partition);
  header.stamp.tenure = Tenure(tenure);
  header.base.tenure = Tenure(base_tenure);
  if (!ReadApplied(reader, logs, &header.applied)) {
    return Corrupt("image header has damaged applied sets");
  }
  if (reader.left() != 0) return Corrupt("image header has bytes behind its end");
  return header;
}

}  // namespace freshet::protocol
