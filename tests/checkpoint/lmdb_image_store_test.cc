// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_image_store.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/checkpoint/testing.h"

namespace freshet::checkpoint {
namespace {

using base::ErrorCode;
using protocol::Image;
using protocol::PartitionId;
using protocol::Stamp;
using protocol::Tenure;
using testing::MakeImage;
using testing::MakeStamp;
using testing::Same;
using testing::TempDir;

std::unique_ptr<LmdbImageStore> OpenStore(const TempDir& dir) {
  auto store = LmdbImageStore::Open({.directory = dir.path()});
  EXPECT_TRUE(store) << store.error().message;
  return store ? std::move(*store) : nullptr;
}

TEST(LmdbImageStore, ReturnsABaseAndItsDifferencesInOrderAfterReopening) {
  const TempDir dir;
  const std::vector<Image> chain = {
      MakeImage({.partition = 3, .stamp = MakeStamp(1, 5), .block_bytes = {262144, 262144, 77}}),
      MakeImage({.partition = 3, .stamp = MakeStamp(1, 9), .base = MakeStamp(1, 5)}),
      MakeImage(
          {.partition = 3, .stamp = MakeStamp(2, 10), .base = MakeStamp(1, 9), .block_bytes = {}})};
  {
    const auto store = OpenStore(dir);
    for (const Image& image : chain) ASSERT_TRUE(store->Save(image));
    EXPECT_TRUE(Same(*store->Load(PartitionId(3)), chain));
  }
  const auto store = OpenStore(dir);
  EXPECT_TRUE(Same(*store->Load(PartitionId(3)), chain));
  const auto list = store->List();
  ASSERT_TRUE(list);
  ASSERT_EQ(list->size(), 1u);
  EXPECT_EQ(list->front().partition, PartitionId(3));
  EXPECT_EQ(list->front().stamp, MakeStamp(2, 10));
  EXPECT_GT(list->front().difference_bytes, 5100u);
  EXPECT_GT(list->front().bytes, list->front().difference_bytes + 2 * 262144 + 77);
}

TEST(LmdbImageStore, MissingPartitionIsNotFound) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  EXPECT_EQ(store->Load(PartitionId(0)).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(store->Save(MakeImage({.partition = 4, .stamp = MakeStamp(1, 1)})));
  EXPECT_EQ(store->Load(PartitionId(3)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store->Load(PartitionId(5)).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(store->Remove(PartitionId(5), Tenure(9)));
}

TEST(LmdbImageStore, WholeImageReplacesOnlyALowerStamp) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  const Image first = MakeImage({.partition = 1, .stamp = MakeStamp(2, 5)});
  ASSERT_TRUE(store->Save(first));
  for (const Stamp stamp : {MakeStamp(2, 5), MakeStamp(2, 4), MakeStamp(1, 99)}) {
    const auto saved = store->Save(MakeImage({.partition = 1, .stamp = stamp}));
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().code, ErrorCode::kConflict);
    EXPECT_TRUE(Same(*store->Load(PartitionId(1)), {first}));
  }
  const Image next = MakeImage({.partition = 1, .stamp = MakeStamp(3, 1), .block_bytes = {9}});
  ASSERT_TRUE(store->Save(next));
  EXPECT_TRUE(Same(*store->Load(PartitionId(1)), {next}));
}

TEST(LmdbImageStore, DifferenceGoesOnExactlyItsBase) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  const auto difference = [](Stamp stamp, Stamp base) {
    return MakeImage({.partition = 1, .stamp = stamp, .base = base});
  };
  EXPECT_EQ(store->Save(difference(MakeStamp(1, 2), MakeStamp(1, 1))).error().code,
            ErrorCode::kConflict);
  const Image whole = MakeImage({.partition = 1, .stamp = MakeStamp(1, 5)});
  ASSERT_TRUE(store->Save(whole));
  for (const Stamp base : {MakeStamp(1, 4), MakeStamp(1, 6), MakeStamp(2, 5)}) {
    EXPECT_EQ(store->Save(difference(MakeStamp(3, 9), base)).error().code, ErrorCode::kConflict);
  }
  EXPECT_EQ(store->Save(difference(MakeStamp(1, 5), MakeStamp(1, 5))).error().code,
            ErrorCode::kConflict);
  const Image next = difference(MakeStamp(1, 6), MakeStamp(1, 5));
  ASSERT_TRUE(store->Save(next));
  EXPECT_EQ(store->Save(next).error().code, ErrorCode::kConflict);
  EXPECT_TRUE(Same(*store->Load(PartitionId(1)), {whole, next}));
}

TEST(LmdbImageStore, SaveAllSkipsConflictsAndSaysWhich) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  ASSERT_TRUE(store->Save(MakeImage({.partition = 2, .stamp = MakeStamp(5, 5)})));
  const Image base = MakeImage({.partition = 1, .stamp = MakeStamp(1, 1)});
  const Image stale = MakeImage({.partition = 2, .stamp = MakeStamp(4, 9)});
  const Image next = MakeImage({.partition = 1, .stamp = MakeStamp(1, 2), .base = MakeStamp(1, 1)});
  const auto saved = store->SaveAll({base, stale, next});
  ASSERT_TRUE(saved) << saved.error().message;
  EXPECT_EQ(*saved, (std::vector<char>{1, 0, 1}));
  EXPECT_TRUE(Same(*store->Load(PartitionId(1)), {base, next}));
  EXPECT_EQ(store->Load(PartitionId(2))->front().header.stamp, MakeStamp(5, 5));
}

TEST(LmdbImageStore, RemoveTakesOnlyAnEarlierTenure) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  ASSERT_TRUE(store->Save(MakeImage({.partition = 1, .stamp = MakeStamp(4, 5)})));
  ASSERT_TRUE(store->Save(MakeImage({.partition = 2, .stamp = MakeStamp(3, 5)})));
  ASSERT_TRUE(store->Remove(PartitionId(1), Tenure(4)));
  EXPECT_TRUE(store->Load(PartitionId(1)));
  ASSERT_TRUE(store->Remove(PartitionId(1), Tenure(5)));
  EXPECT_EQ(store->Load(PartitionId(1)).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(store->Load(PartitionId(2)));
  EXPECT_EQ(store->List()->size(), 1u);
}

// The store does what a map of chains does, over random calls and reopenings.
TEST(LmdbImageStore, AgreesWithAModelOverRandomCalls) {
  const TempDir dir;
  base::Random random(1);
  std::map<uint16_t, std::vector<Image>> model;
  auto store = OpenStore(dir);
  int saves = 0;
  for (int step = 0; step < 3000; ++step) {
    const auto partition = static_cast<uint16_t>(random.Below(5) * 16383);
    auto& chain = model[partition];
    const Stamp last = chain.empty() ? MakeStamp(0, 0) : chain.back().header.stamp;
    if (random.Chance(0.05)) {
      const Tenure below(last.tenure.value() + random.Below(2));
      ASSERT_TRUE(store->Remove(PartitionId(partition), below));
      if (last.tenure < below) chain.clear();
    } else if (random.Chance(0.02)) {
      store.reset();
      store = OpenStore(dir);
    } else {
      const Stamp stamp = MakeStamp(std::max<uint64_t>(1, last.tenure.value() + random.Below(2)),
                                    last.version + random.Below(4));
      const Stamp base = random.Chance(0.3)   ? MakeStamp(0, 0)
                         : random.Chance(0.9) ? last
                                              : MakeStamp(last.tenure.value(), last.version + 1);
      std::vector<size_t> blocks(random.Below(5));
      for (size_t& bytes : blocks) bytes = random.Below(random.Chance(0.2) ? 300000 : 3000);
      const Image image =
          MakeImage({.partition = partition, .stamp = stamp, .base = base, .block_bytes = blocks});
      const bool whole = image.header.whole();
      const bool expected =
          whole ? chain.empty() || stamp > last : !chain.empty() && base == last && stamp > last;
      const auto saved = store->Save(image);
      ASSERT_EQ(saved.has_value(), expected) << step;
      ASSERT_TRUE(expected || saved.error().code == ErrorCode::kConflict) << step;
      if (expected && whole) chain.clear();
      if (expected) chain.push_back(image);
      saves += expected;
    }
    const auto loaded = store->Load(PartitionId(partition));
    ASSERT_EQ(loaded.has_value(), !chain.empty()) << step;
    ASSERT_TRUE(!loaded || Same(*loaded, chain)) << step;
  }
  EXPECT_GT(saves, 1000);
  EXPECT_TRUE(store->Verify()->empty());
  size_t held = 0;
  for (const auto& [partition, chain] : model) held += !chain.empty();
  EXPECT_EQ(store->List()->size(), held);
}

// Flips a bit of the bytes at `offset` of `image`'s block in the file of a closed store.
void FlipBitOfBlock(const TempDir& dir, const Image& image, size_t block) {
  const std::string file = dir.path() + "/data.mdb";
  std::string bytes = testing::ReadFile(file);
  const auto& buffer = image.blocks[block];
  const std::string_view head(reinterpret_cast<const char*>(buffer.data()), 64);
  const size_t at = bytes.find(head);
  ASSERT_NE(at, std::string::npos);
  bytes[at + buffer.size() / 2] ^= 4;
  testing::WriteFile(file, bytes);
}

TEST(LmdbImageStore, DamagedBlockIsNamedAndNeverReturned) {
  const TempDir dir;
  const std::vector<Image> chain = {
      MakeImage({.partition = 7, .stamp = MakeStamp(1, 1)}),
      MakeImage({.partition = 7, .stamp = MakeStamp(1, 2), .base = MakeStamp(1, 1)}),
      MakeImage({.partition = 7,
                 .stamp = MakeStamp(1, 3),
                 .base = MakeStamp(1, 2),
                 .block_bytes = {10, 262144}}),
      MakeImage({.partition = 7, .stamp = MakeStamp(1, 4), .base = MakeStamp(1, 3)})};
  const Image other = MakeImage({.partition = 8, .stamp = MakeStamp(1, 1)});
  {
    const auto store = OpenStore(dir);
    for (const Image& image : chain) ASSERT_TRUE(store->Save(image));
    ASSERT_TRUE(store->Save(other));
  }
  FlipBitOfBlock(dir, chain[2], 1);
  const auto store = OpenStore(dir);
  const auto loaded = store->Load(PartitionId(7));
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(loaded.error().message, "partition 7, difference 2 in " + dir.path() +
                                        "/data.mdb: block 1 has a wrong checksum");
  EXPECT_TRUE(Same(*store->Load(PartitionId(8)), {other}));
  const auto damages = store->Verify();
  ASSERT_EQ(damages->size(), 1u);
  EXPECT_EQ(damages->front().partition, PartitionId(7));
  EXPECT_EQ(damages->front().what, loaded.error().message);

  const auto intact = store->LoadIntact(PartitionId(7));
  ASSERT_TRUE(intact);
  EXPECT_TRUE(Same(intact->images, {chain[0], chain[1]}));
  EXPECT_EQ(intact->lost, 2u);
  EXPECT_EQ(intact->damage, loaded.error().message);

  EXPECT_EQ(*store->Repair(PartitionId(7)), 2u);
  EXPECT_EQ(*store->Repair(PartitionId(7)), 0u);
  const Image next = MakeImage({.partition = 7, .stamp = MakeStamp(2, 2), .base = MakeStamp(1, 2)});
  ASSERT_TRUE(store->Save(next));
  EXPECT_TRUE(Same(*store->Load(PartitionId(7)), {chain[0], chain[1], next}));
}

TEST(LmdbImageStore, WhollyDamagedPartitionCanBeCutAndSavedAgain) {
  const TempDir dir;
  const Image base = MakeImage({.partition = 7, .stamp = MakeStamp(1, 1)});
  ASSERT_TRUE(OpenStore(dir)->Save(base));
  FlipBitOfBlock(dir, base, 0);
  const auto store = OpenStore(dir);
  const auto intact = store->LoadIntact(PartitionId(7));
  ASSERT_TRUE(intact);
  EXPECT_TRUE(intact->images.empty());
  EXPECT_EQ(intact->lost, 1u);
  EXPECT_EQ(*store->Repair(PartitionId(7)), 1u);
  EXPECT_EQ(store->Load(PartitionId(7)).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(store->Save(base));
}

TEST(LmdbImageStore, RewritingImagesReusesTheirRoom) {
  const TempDir dir;
  const auto store = OpenStore(dir);
  const auto file_bytes = [&] { return std::filesystem::file_size(dir.path() + "/data.mdb"); };
  uint64_t early = 0;
  for (uint64_t version = 1; version <= 60; ++version) {
    for (uint16_t partition = 0; partition < 4; ++partition) {
      // Sizes vary, so that freed room does not simply fit.
      const size_t tail = 4096 * ((version * 7 + partition) % 50) + 100;
      ASSERT_TRUE(store->Save(MakeImage({.partition = partition,
                                         .stamp = MakeStamp(1, version),
                                         .block_bytes = {262144, 262144, tail}})));
    }
    if (version == 10) early = file_bytes();
  }
  EXPECT_LT(file_bytes(), early * 2);
}

}  // namespace
}  // namespace freshet::checkpoint
