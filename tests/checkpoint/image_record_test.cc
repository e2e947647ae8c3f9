// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/image_record.h"

#include <gtest/gtest.h>

namespace freshet::checkpoint {
namespace {

using base::ErrorCode;
using protocol::PartitionId;
using protocol::Tenure;

ImageRecord Example() {
  ImageRecord record;
  record.partition = PartitionId(7);
  record.number = 2;
  record.stamp = {Tenure(3), 41};
  record.base = {Tenure(2), 40};
  record.header = "the header";
  record.blocks = {{100, 1}, {200, 2}};
  return record;
}

TEST(ImageRecord, DecodesWhatItEncodes) {
  const auto decoded = DecodeRecord({PartitionId(7), 2}, EncodeRecord(Example()));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->stamp, Example().stamp);
  EXPECT_EQ(decoded->base, Example().base);
  EXPECT_EQ(decoded->header, "the header");
  ASSERT_EQ(decoded->blocks.size(), 2u);
  EXPECT_EQ(decoded->blocks[1].checksum, 2u);
  EXPECT_EQ(decoded->BlockBytes(), 300u);
}

TEST(ImageRecord, BytesOnDiskStayReadable) {
  // Format 1, by hand: a change of the layout must come with another kImageStoreFormat.
  ASSERT_EQ(kImageStoreFormat, 1u);
  const std::string bytes = EncodeRecord(Example());
  ASSERT_EQ(bytes.size(), 56u + 10 + 2 * 16 + 8);
  EXPECT_EQ(bytes.substr(0, 16), std::string("FRIM\1\0\7\0\2\0\0\0\2\0\0\0", 16));
  EXPECT_EQ(bytes.substr(16, 8), std::string("\12\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(bytes.substr(24, 16), std::string("\3\0\0\0\0\0\0\0\51\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(bytes.substr(bytes.size() - 8), "\xCC\x09\x14\x35\x8B\xB7\x1A\xFF");
}

TEST(ImageRecord, EveryFlippedBitAndEveryLengthIsCorrupt) {
  const std::string bytes = EncodeRecord(Example());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    const auto decoded = DecodeRecord({PartitionId(7), 2}, damaged);
    ASSERT_FALSE(decoded) << bit;
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeRecord({PartitionId(7), 2}, bytes.substr(0, size))) << size;
  }
  EXPECT_FALSE(DecodeRecord({PartitionId(7), 2}, bytes + '\0'));
}

TEST(ImageRecord, OfAnotherPlaceIsAConflict) {
  const std::string bytes = EncodeRecord(Example());
  EXPECT_EQ(DecodeRecord({PartitionId(8), 2}, bytes).error().code, ErrorCode::kConflict);
  EXPECT_EQ(DecodeRecord({PartitionId(7), 1}, bytes).error().code, ErrorCode::kConflict);
}

TEST(ImageRecord, KeysSortByPartitionThenNumberThenBlock) {
  const PartitionId last(UINT16_MAX);
  EXPECT_LT(RecordKey({PartitionId(1), 500}), RecordKey({PartitionId(2), 0}));
  EXPECT_LT(RecordKey({PartitionId(255), 1}), RecordKey({PartitionId(256), 0}));
  EXPECT_LT(RecordKey({last, UINT32_MAX}), RecordsEnd(last));
  EXPECT_LT(RecordsEnd(PartitionId(1)), RecordKey({PartitionId(2), 0}));
  EXPECT_LT(BlockKey({last, UINT32_MAX}, UINT32_MAX), BlocksEnd(last));
  EXPECT_LT(BlockKey({PartitionId(1), 1}, 1 << 30), BlockKey({PartitionId(1), 2}, 0));
  EXPECT_LT(BlocksEnd(PartitionId(1)), BlockKey({PartitionId(2), 0}, 0));
  RecordPlace place;
  ASSERT_TRUE(ParseRecordKey(RecordKey({PartitionId(513), 66000}), &place));
  EXPECT_EQ(place.partition, PartitionId(513));
  EXPECT_EQ(place.number, 66000u);
  EXPECT_FALSE(ParseRecordKey(BlockKey({PartitionId(1), 1}, 1), &place));
}

}  // namespace
}  // namespace freshet::checkpoint
