// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/image_record.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "checkpoint/checksum.h"

namespace freshet::checkpoint {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::PartitionId;
using protocol::Tenure;

static_assert(std::endian::native == std::endian::little, "files are little-endian");

namespace {

constexpr uint32_t kRecordMagic = 0x4D495246;  // "FRIM"
constexpr char kRecordPrefix = 'h';
constexpr char kBlockPrefix = 'b';
constexpr size_t kFixedBytes = 4 + 2 + 2 + 4 + 4 + 5 * 8;
constexpr size_t kChecksumBytes = 8;
constexpr size_t kStoredBlockBytes = 16;

template <class T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Reads what Append wrote; the caller has checked that it is there.
template <class T>
T Take(std::string_view* bytes) {
  T value;
  std::memcpy(&value, bytes->data(), sizeof(value));
  bytes->remove_prefix(sizeof(value));
  return value;
}

// Big-endian, so that keys sort by number.
template <class T>
void AppendSorted(std::string* out, T value) {
  for (size_t i = sizeof(T); i-- > 0;) out->push_back(static_cast<char>(value >> (8 * i)));
}

std::string Key(char prefix, RecordPlace place) {
  std::string key(1, prefix);
  AppendSorted(&key, place.partition.value());
  AppendSorted(&key, place.number);
  return key;
}

}  // namespace

uint64_t ImageRecord::BlockBytes() const {
  uint64_t sum = 0;
  for (const StoredBlock& block : blocks) sum += block.bytes;
  return sum;
}

ImageRecord MakeRecord(const protocol::Image& image, uint32_t number) {
  ImageRecord record;
  record.partition = image.header.partition;
  record.number = number;
  record.stamp = image.header.stamp;
  record.base = image.header.base;
  const protocol::Buffer header = protocol::EncodeImageHeader(image.header);
  record.header.assign(reinterpret_cast<const char*>(header.data()), header.size());
  record.blocks.reserve(image.blocks.size());
  return record;
}

std::string EncodeRecord(const ImageRecord& record) {
  std::string out;
  out.reserve(kFixedBytes + record.header.size() + record.blocks.size() * kStoredBlockBytes +
              kChecksumBytes);
  Append(&out, kRecordMagic);
  Append(&out, protocol::kImageFormat);
  Append(&out, record.partition.value());
  Append(&out, record.number);
  Append(&out, static_cast<uint32_t>(record.blocks.size()));
  Append(&out, static_cast<uint64_t>(record.header.size()));
  Append(&out, record.stamp.tenure.value());
  Append(&out, record.stamp.version);
  Append(&out, record.base.tenure.value());
  Append(&out, record.base.version);
  out += record.header;
  for (const StoredBlock& block : record.blocks) {
    Append(&out, block.bytes);
    Append(&out, block.checksum);
  }
  Append(&out, Checksum(out));
  return out;
}

Result<ImageRecord> DecodeRecord(RecordPlace place, std::string_view bytes) {
  const auto corrupt = [](std::string_view what) {
    return Fail(ErrorCode::kCorrupt, fmt::format("its record {}", what));
  };
  if (bytes.size() < kFixedBytes + kChecksumBytes) return corrupt("is too short");
  std::string_view sum = bytes.substr(bytes.size() - kChecksumBytes);
  bytes.remove_suffix(kChecksumBytes);
  if (Take<uint64_t>(&sum) != Checksum(bytes)) return corrupt("has a wrong checksum");
  if (Take<uint32_t>(&bytes) != kRecordMagic) return corrupt("is not one");
  if (Take<uint16_t>(&bytes) != protocol::kImageFormat) return corrupt("has an unknown format");
  ImageRecord record;
  record.partition = PartitionId(Take<uint16_t>(&bytes));
  record.number = Take<uint32_t>(&bytes);
  if (record.partition != place.partition || record.number != place.number) {
    return Fail(ErrorCode::kConflict, "its record belongs elsewhere");
  }
  const uint32_t blocks = Take<uint32_t>(&bytes);
  const uint64_t header_bytes = Take<uint64_t>(&bytes);
  record.stamp.tenure = Tenure(Take<uint64_t>(&bytes));
  record.stamp.version = Take<uint64_t>(&bytes);
  record.base.tenure = Tenure(Take<uint64_t>(&bytes));
  record.base.version = Take<uint64_t>(&bytes);
  if (header_bytes > bytes.size() ||
      bytes.size() - header_bytes != uint64_t{blocks} * kStoredBlockBytes) {
    return corrupt("has a wrong length");
  }
  record.header.assign(bytes.substr(0, header_bytes));
  bytes.remove_prefix(header_bytes);
  record.blocks.resize(blocks);
  for (StoredBlock& block : record.blocks) {
    block.bytes = Take<uint64_t>(&bytes);
    block.checksum = Take<uint64_t>(&bytes);
  }
  return record;
}

std::string RecordKey(RecordPlace place) { return Key(kRecordPrefix, place); }

std::string BlockKey(RecordPlace place, uint32_t block) {
  std::string key = Key(kBlockPrefix, place);
  AppendSorted(&key, block);
  return key;
}

bool ParseRecordKey(std::string_view key, RecordPlace* place) {
  if (key.size() != 1 + 2 + 4 || key[0] != kRecordPrefix) return false;
  uint64_t value = 0;
  for (const char c : key.substr(1)) value = value << 8 | static_cast<uint8_t>(c);
  place->partition = PartitionId(static_cast<uint16_t>(value >> 32));
  place->number = static_cast<uint32_t>(value);
  return true;
}

bool IsBlockKey(std::string_view key) {
  return key.size() == 1 + 2 + 4 + 4 && key[0] == kBlockPrefix;
}

std::string RecordsEnd(PartitionId partition) {
  return Key(kRecordPrefix, {partition, UINT32_MAX}) + '\xFF';
}

std::string BlocksEnd(PartitionId partition) {
  return Key(kBlockPrefix, {partition, UINT32_MAX}) + std::string(5, '\xFF');
}

}  // namespace freshet::checkpoint
