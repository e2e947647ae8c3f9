// SPDX-License-Identifier: Apache-2.0
#include "protocol/image.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/random.h"

namespace freshet::protocol {
namespace {

ImageHeader SampleHeader() {
  ImageHeader header;
  header.partition = PartitionId(77);
  header.stamp = {Tenure(5), 1000};
  header.base = {Tenure(4), 900};
  header.applied.Mutable(LogId(0)) = {{0, 512}, {1024, 2048}};
  header.applied.Mutable(LogId(3)) = {{7, 9}};
  header.rows = 12345;
  return header;
}

Buffer SampleBlock(uint32_t rows, uint32_t row_floats) {
  Buffer block = Buffer::Allocate(BlockBytes(rows, row_floats));
  std::memset(block.mutable_data(), 0, block.size());
  WriteBlockHeader(block, TableId(2), rows, row_floats);
  return block;
}

Buffer Prefix(const Buffer& whole, size_t size) {
  return Buffer::Copy(whole.bytes().subspan(0, size));
}

TEST(ImageHeader, ComesBackAsItWas) {
  const ImageHeader header = SampleHeader();
  const auto back = DecodeImageHeader(EncodeImageHeader(header));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, header);
  EXPECT_FALSE(back->whole());
  EXPECT_EQ(*DecodeImageHeader(EncodeImageHeader(ImageHeader())), ImageHeader());
}

// Format 1, byte for byte: images of earlier versions must stay readable.
TEST(ImageHeader, ReadsTheBytesOfFormat1) {
  const uint8_t bytes[] = {'F', 'R', 'I', '1', 1, 0, 9, 0,   // magic, format, partition
                           3,   0,   0,   0,   0, 0, 0, 0,   // tenure
                           8,   0,   0,   0,   0, 0, 0, 0,   // version
                           0,   0,   0,   0,   0, 0, 0, 0,   // base tenure
                           0,   0,   0,   0,   0, 0, 0, 0,   // base version
                           2,   1,   0,   0,   0, 0, 0, 0,   // rows
                           1,   0,   0,   0,                 // logs
                           4,   0,   1,   0,   0, 0,         // log, spans
                           0,   0,   0,   0,   0, 0, 0, 0,   // begin
                           16,  0,   0,   0,   0, 0, 0, 0};  // end
  const auto header = DecodeImageHeader(Buffer::Copy(std::as_bytes(std::span(bytes))));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->partition.value(), 9);
  EXPECT_EQ(header->stamp, (Stamp{Tenure(3), 8}));
  EXPECT_TRUE(header->whole());
  EXPECT_EQ(header->rows, 258u);
  EXPECT_EQ(header->applied.Of(LogId(4)), (SpanSet{{0, 16}}));
}

TEST(ImageHeader, RefusesEveryPrefixAndTrailingBytes) {
  const Buffer whole = EncodeImageHeader(SampleHeader());
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto header = DecodeImageHeader(Prefix(whole, size));
    ASSERT_FALSE(header) << size;
    EXPECT_EQ(header.error().code, base::ErrorCode::kCorrupt);
  }
  Buffer longer = Buffer::Allocate(whole.size() + 1);
  std::memset(longer.mutable_data(), 0, longer.size());
  std::memcpy(longer.mutable_data(), whole.data(), whole.size());
  EXPECT_FALSE(DecodeImageHeader(longer));
}

TEST(ImageHeader, RefusesAnotherFormat) {
  Buffer bytes = EncodeImageHeader(SampleHeader());
  bytes.mutable_data()[4] = std::byte{2};
  const auto header = DecodeImageHeader(bytes);
  ASSERT_FALSE(header);
  EXPECT_NE(header.error().message.find("format 2"), std::string::npos);
}

TEST(ImageHeader, RandomDamageNeverDoesMoreThanFail) {
  base::Random random(1);
  const Buffer whole = EncodeImageHeader(SampleHeader());
  for (int round = 0; round < 20'000; ++round) {
    Buffer bytes = Buffer::Copy(whole.bytes());
    for (uint64_t n = random.Below(4) + 1; n > 0; --n) {
      bytes.mutable_data()[random.Below(bytes.size())] = static_cast<std::byte>(random.Next());
    }
    const auto header = DecodeImageHeader(bytes);
    if (!header) continue;
    // What is accepted is sound: it is written back to the same bytes.
    const Buffer again = EncodeImageHeader(*header);
    ASSERT_EQ(again.size(), bytes.size());
    ASSERT_EQ(std::memcmp(again.data(), bytes.data(), bytes.size()), 0);
  }
}

TEST(Block, PartsAreWhereTheyWereWritten) {
  for (const uint32_t rows : {1u, 2u, 5u}) {
    Buffer block = SampleBlock(rows, 3);
    EXPECT_EQ(block.size(), 16 + rows * 8 + (rows + rows % 2) * 4 + rows * 12);
    const auto view = ReadBlock(block);
    ASSERT_TRUE(view);
    EXPECT_EQ(view->table, TableId(2));
    EXPECT_EQ(view->rows, rows);
    EXPECT_EQ(view->row_floats, 3u);
    const auto offset = [&block](const void* part) {
      return static_cast<const std::byte*>(part) - block.data();
    };
    EXPECT_EQ(offset(view->keys), 16);
    EXPECT_EQ(offset(view->counts), 16 + rows * 8);
    EXPECT_EQ(offset(view->values + rows * 3), static_cast<ptrdiff_t>(block.size()));
  }
}

TEST(Block, RefusesWhatItsHeaderDoesNotSay) {
  const Buffer block = SampleBlock(5, 3);
  for (size_t size = 0; size < block.size(); ++size) {
    ASSERT_FALSE(ReadBlock(Prefix(block, size))) << size;
  }
  const auto with = [&block](size_t at, uint32_t value) {
    Buffer bytes = Buffer::Copy(block.bytes());
    std::memcpy(bytes.mutable_data() + at, &value, sizeof value);
    return ReadBlock(bytes);
  };
  EXPECT_TRUE(with(0, kBlockMagic));
  EXPECT_FALSE(with(0, 0));           // magic
  EXPECT_FALSE(with(6, 1));           // reserved (and rows)
  EXPECT_FALSE(with(8, 0));           // no rows
  EXPECT_FALSE(with(8, UINT32_MAX));  // more than 2^32 bytes of rows
  EXPECT_FALSE(with(12, 0));          // no floats
  EXPECT_FALSE(with(12, UINT32_MAX));
  EXPECT_FALSE(with(16 + 5 * 12, 1));  // padding
}

TEST(Block, RandomDamageNeverReadsOutside) {
  base::Random random(2);
  const Buffer block = SampleBlock(5, 3);
  for (int round = 0; round < 20'000; ++round) {
    Buffer bytes = Buffer::Copy(block.bytes());
    for (uint64_t n = random.Below(3) + 1; n > 0; --n) {
      bytes.mutable_data()[random.Below(kBlockHeaderBytes)] = static_cast<std::byte>(random.Next());
    }
    const auto view = ReadBlock(bytes);
    if (!view) continue;
    const auto* end =
        reinterpret_cast<const std::byte*>(view->values + uint64_t{view->rows} * view->row_floats);
    ASSERT_EQ(end, bytes.data() + bytes.size());
  }
}

TEST(Image, BytesAreThoseOfItsBlocks) {
  Image image;
  EXPECT_EQ(image.Bytes(), 0u);
  image.blocks = {SampleBlock(1, 1), SampleBlock(2, 4)};
  EXPECT_EQ(image.Bytes(), BlockBytes(1, 1) + BlockBytes(2, 4));
}

}  // namespace
}  // namespace freshet::protocol
