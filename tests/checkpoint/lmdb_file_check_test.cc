// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_file_check.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <map>

#include "checkpoint/lmdb_format.h"
#include "checkpoint/lmdb_image_store.h"
#include "tests/checkpoint/testing.h"

namespace freshet::checkpoint {
namespace {

using base::ErrorCode;
using protocol::Image;
using protocol::PartitionId;
using testing::MakeImage;
using testing::MakeStamp;
using testing::Same;
using testing::TempDir;

using Model = std::map<uint16_t, std::vector<Image>>;

// Enough for two levels of tree pages, a free list, values inside and outside of tree pages.
Model Fill(const TempDir& dir) {
  Model model;
  auto store = LmdbImageStore::Open({.directory = dir.path()});
  EXPECT_TRUE(store);
  for (uint64_t version = 1; version < 12; ++version) {
    for (uint16_t partition = 0; partition < 12; ++partition) {
      const bool whole = version == 1 || (version + partition) % 5 == 0;
      const Image image = MakeImage({.partition = partition,
                                     .stamp = MakeStamp(1, version),
                                     .base = whole ? MakeStamp(0, 0) : MakeStamp(1, version - 1),
                                     .block_bytes = {3000, 100, 900}});
      EXPECT_TRUE((*store)->Save(image));
      if (whole) model[partition].clear();
      model[partition].push_back(image);
    }
  }
  EXPECT_TRUE((*store)->Remove(PartitionId(5), protocol::Tenure(2)));
  model.erase(5);
  return model;
}

class DamagedFile {
 public:
  explicit DamagedFile(const std::string& path) : fd_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {}
  ~DamagedFile() { close(fd_); }

  PageHeader Page(uint64_t number) const {
    PageHeader header;
    EXPECT_EQ(pread(fd_, &header, sizeof(header), static_cast<off_t>(number * 4096)), 16);
    return header;
  }
  void Flip(uint64_t offset, int bit) const {
    char byte = 0;
    EXPECT_EQ(pread(fd_, &byte, 1, static_cast<off_t>(offset)), 1);
    byte = static_cast<char>(byte ^ 1 << bit);
    EXPECT_EQ(pwrite(fd_, &byte, 1, static_cast<off_t>(offset)), 1);
  }

 private:
  const int fd_;
};

// True: everything is as in the model. False: what is not was reported.
bool IsIntact(const TempDir& dir, const Model& model) {
  auto store = LmdbImageStore::Open({.directory = dir.path()});
  if (!store) {
    EXPECT_EQ(store.error().code, ErrorCode::kCorrupt) << store.error().message;
    return false;
  }
  bool intact = true;
  for (const auto& [partition, chain] : model) {
    const auto loaded = (*store)->Load(PartitionId(partition));
    if (loaded) {
      EXPECT_TRUE(Same(*loaded, chain)) << partition;
    } else {
      EXPECT_EQ(loaded.error().code, ErrorCode::kCorrupt) << loaded.error().message;
      intact = false;
    }
  }
  return intact;
}

TEST(LmdbFileCheck, MissingAndSoundFilesPass) {
  const TempDir dir;
  EXPECT_TRUE(CheckLmdbFile(dir.path() + "/data.mdb"));
  const Model model = Fill(dir);
  EXPECT_TRUE(CheckLmdbFile(dir.path() + "/data.mdb"));
  EXPECT_TRUE(IsIntact(dir, model));
}

TEST(LmdbFileCheck, FileFromACrashAtItsCreationIsStartedAnew) {
  std::string created;
  {
    const TempDir dir;
    ASSERT_TRUE(LmdbImageStore::Open({.directory = dir.path()}));
    created = testing::ReadFile(dir.path() + "/data.mdb");
    ASSERT_EQ(created.size(), 3 * 4096u);
  }
  // Any sectors of it may be missing.
  base::Random random(3);
  for (int i = 0; i < 40; ++i) {
    const TempDir dir;
    std::string bytes = created.substr(0, random.Below(created.size() / 512 + 1) * 512);
    for (size_t at = 0; at < bytes.size(); at += 512) {
      if (random.Chance(0.5)) bytes.replace(at, 512, std::string(512, '\0'));
    }
    testing::WriteFile(dir.path() + "/data.mdb", bytes);
    auto store = LmdbImageStore::Open({.directory = dir.path()});
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_TRUE((*store)->Save(MakeImage({.partition = 1, .stamp = MakeStamp(1, 1)})));
  }
}

TEST(LmdbFileCheck, ShortenedFileIsReported) {
  const TempDir dir;
  const Model model = Fill(dir);
  const std::string file = dir.path() + "/data.mdb";
  const std::string bytes = testing::ReadFile(file);
  for (size_t pages = bytes.size() / 4096; pages-- > 0;) {
    testing::WriteFile(file, bytes.substr(0, pages * 4096 + pages % 7));
    // Without a free page at its end it is as good as before.
    const bool intact = IsIntact(dir, model);
    EXPECT_FALSE(intact && pages < bytes.size() / 4096 / 2) << pages;
  }
}

TEST(LmdbFileCheck, FlippedBitsAreHarmlessOrReportedNeverWrongAndNeverFatal) {
  const TempDir dir;
  const Model model = Fill(dir);
  const std::string file = dir.path() + "/data.mdb";
  const uint64_t pages = std::filesystem::file_size(file) / 4096;
  const DamagedFile damaged(file);
  base::Random random(5);
  int reported = 0;
  for (uint64_t number = 2; number < pages; ++number) {
    const PageHeader header = damaged.Page(number);
    const bool tree = header.flags == kLeafPage || header.flags == kBranchPage;
    for (int i = 0; i < (tree ? 30 : 2); ++i) {
      // Headers and node offsets more often than the rest.
      const uint64_t at = random.Below(i % 2 == 0 ? 64 : 4096);
      const int bit = static_cast<int>(random.Below(8));
      damaged.Flip(number * 4096 + at, bit);
      reported += !IsIntact(dir, model);
      damaged.Flip(number * 4096 + at, bit);
      ASSERT_FALSE(HasFailure()) << "page " << number << " byte " << at << " bit " << bit;
    }
  }
  // Every bit of the newer root that matters, except the low ones of its number: with those changed
  // it may pass for a root that was never replaced.
  const bool odd_is_newer = [&] {
    Meta metas[2];
    const std::string bytes = testing::ReadFile(file);
    for (int i = 0; i < 2; ++i) std::memcpy(&metas[i], &bytes[i * 4096 + 16], sizeof(Meta));
    return metas[1].txn > metas[0].txn;
  }();
  for (uint64_t byte = 0; byte < 16 + sizeof(Meta) - 8; ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      damaged.Flip((odd_is_newer ? 4096 : 0) + byte, bit);
      reported += !IsIntact(dir, model);
      damaged.Flip((odd_is_newer ? 4096 : 0) + byte, bit);
      ASSERT_FALSE(HasFailure()) << "root byte " << byte << " bit " << bit;
    }
  }
  EXPECT_GT(reported, 500);
  EXPECT_TRUE(IsIntact(dir, model));
}

}  // namespace
}  // namespace freshet::checkpoint
