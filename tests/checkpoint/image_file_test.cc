// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/image_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <set>

#include "checkpoint/lmdb_image_store.h"
#include "tests/checkpoint/testing.h"

namespace freshet::checkpoint {
namespace {

using base::ErrorCode;
using protocol::Image;
using protocol::PartitionId;
using testing::MakeImage;
using testing::MakeStamp;
using testing::ReadFile;
using testing::Same;
using testing::TempDir;
using testing::WriteFile;

std::vector<Image> Chain() {
  return {MakeImage({.partition = 300, .stamp = MakeStamp(4, 5), .block_bytes = {700, 77}}),
          MakeImage({.partition = 300, .stamp = MakeStamp(4, 9), .base = MakeStamp(4, 5)}),
          MakeImage({.partition = 300,
                     .stamp = MakeStamp(6, 10),
                     .base = MakeStamp(4, 9),
                     .block_bytes = {}})};
}

TEST(ImageFile, GivesBackWhatWasWrittenAndTellsAboutIt) {
  const TempDir dir;
  const std::string path = dir.path() + "/a.img";
  const auto written = WriteImageFile(path, Chain());
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(written->partition, PartitionId(300));
  EXPECT_EQ(written->stamp, MakeStamp(6, 10));
  EXPECT_EQ(written->applied, Chain().back().header.applied);
  EXPECT_EQ(written->images, 3u);
  EXPECT_EQ(written->bytes, std::filesystem::file_size(path));
  const auto read = ReadImageFile(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->info, *written);
  EXPECT_TRUE(Same(read->images, Chain()));
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(ImageFile, TakesWhatAStoreLoadsIntoAnotherStore) {
  const TempDir dir;
  const auto from = LmdbImageStore::Open({.directory = dir.path() + "/from"});
  ASSERT_TRUE(from);
  for (const Image& image : Chain()) ASSERT_TRUE((*from)->Save(image));
  const auto exported = (*from)->Export(PartitionId(300), dir.path() + "/a.img");
  ASSERT_TRUE(exported) << exported.error().message;
  EXPECT_EQ((*from)->Export(PartitionId(4), dir.path() + "/b.img").error().code,
            ErrorCode::kNotFound);
  const auto file = ReadImageFile(dir.path() + "/a.img");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->info, *exported);
  const auto to = LmdbImageStore::Open({.directory = dir.path() + "/to"});
  ASSERT_TRUE(to);
  const auto saved = (*to)->SaveAll(file->images);
  ASSERT_TRUE(saved);
  EXPECT_EQ(*saved, std::vector<char>({1, 1, 1}));
  EXPECT_TRUE(Same(*(*to)->Load(PartitionId(300)), Chain()));
}

TEST(ImageFile, OtherImagesHaveAnotherChecksum) {
  const TempDir dir;
  const std::string path = dir.path() + "/a.img";
  std::set<uint64_t> sums;
  std::vector<Image> images = Chain();
  sums.insert(WriteImageFile(path, images)->checksum);
  images[1].header.applied.Mutable(protocol::LogId(1)).Add({100, 101});
  sums.insert(WriteImageFile(path, images)->checksum);
  images[0].blocks[1] = protocol::Buffer::Copy(std::string(77, 'x'));
  sums.insert(WriteImageFile(path, images)->checksum);
  images.pop_back();
  sums.insert(WriteImageFile(path, images)->checksum);
  EXPECT_EQ(sums.size(), 4u);
}

TEST(ImageFile, AFlippedBitAnywhereIsCorrupt) {
  const TempDir dir;
  const std::string path = dir.path() + "/a.img";
  ASSERT_TRUE(WriteImageFile(path, Chain()));
  const std::string good = ReadFile(path);
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    WriteFile(path, bad);
    const auto read = ReadImageFile(path);
    ASSERT_FALSE(read) << "byte " << at;
    ASSERT_EQ(read.error().code, ErrorCode::kCorrupt) << read.error().message;
    ASSERT_NE(read.error().message.find(path), std::string::npos);
  }
}

TEST(ImageFile, AnyOtherLengthIsCorrupt) {
  const TempDir dir;
  const std::string path = dir.path() + "/a.img";
  ASSERT_TRUE(WriteImageFile(path, Chain()));
  const std::string good = ReadFile(path);
  for (size_t length = 0; length < good.size(); ++length) {
    WriteFile(path, good.substr(0, length));
    const auto read = ReadImageFile(path);
    ASSERT_FALSE(read) << length << " bytes";
    ASSERT_EQ(read.error().code, ErrorCode::kCorrupt);
  }
  WriteFile(path, good + good);
  EXPECT_EQ(ReadImageFile(path).error().code, ErrorCode::kCorrupt);
}

TEST(ImageFile, PartsOfTwoFilesDoNotMakeAThird) {
  const TempDir dir;
  const std::string path = dir.path() + "/a.img";
  ASSERT_TRUE(WriteImageFile(path, Chain()));
  const std::string first = ReadFile(path);
  std::vector<Image> other = Chain();
  other[1].header.applied.Mutable(protocol::LogId(1)).Add({18, 19});  // spans grow, none is added
  other[2].header.applied.Mutable(protocol::LogId(1)).Add({19, 20});
  ASSERT_TRUE(WriteImageFile(path, other));
  const std::string second = ReadFile(path);
  ASSERT_EQ(first.size(), second.size());
  // Sound records on both sides, each with its own checksum; only the end tells.
  size_t differing = 0;
  for (size_t cut = 1; cut < first.size(); ++cut) {
    const std::string mixed = first.substr(0, cut) + second.substr(cut);
    if (mixed == first || mixed == second) continue;
    ++differing;
    WriteFile(path, mixed);
    ASSERT_FALSE(ReadImageFile(path)) << "cut at " << cut;
  }
  EXPECT_GT(differing, 100u);
}

TEST(ImageFile, HugeSizesAreNotBelieved) {
  const TempDir dir;
  const std::string path = dir.path() + "/a.img";
  ASSERT_TRUE(WriteImageFile(path, Chain()));
  std::string bytes = ReadFile(path);
  for (size_t i = 0; i < 8; ++i) bytes[24 + i] = '\xFF';  // the first record's size
  WriteFile(path, bytes);
  EXPECT_EQ(ReadImageFile(path).error().code, ErrorCode::kCorrupt);
}

TEST(ImageFile, MissingFilesAndDirectoriesAreToldApartFromDamage) {
  const TempDir dir;
  EXPECT_EQ(ReadImageFile(dir.path() + "/none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ReadImageFile(dir.path()).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(WriteImageFile(dir.path() + "/no/a.img", Chain()).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(WriteImageFile(dir.path() + "/a.img", {}).error().code, ErrorCode::kInvalidArgument);
}

TEST(ImageFile, AFailedWriteLeavesTheFormerFileAndNoDraft) {
  const TempDir dir;
  const std::string path = dir.path() + "/a.img";
  ASSERT_TRUE(WriteImageFile(path, Chain()));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::vector<Image> longer = Chain();
  longer[0].blocks.push_back(protocol::Buffer::Copy(std::string(100'000, 'y')));
  const auto written = WriteImageFile(path, longer);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kIo);
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
  const auto read = ReadImageFile(path);
  ASSERT_TRUE(read);
  EXPECT_TRUE(Same(read->images, Chain()));
}

}  // namespace
}  // namespace freshet::checkpoint
