// SPDX-License-Identifier: Apache-2.0
// A backup's directory and what becomes of it.
#include "master/restore.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/durable_cell.h"
#include "checkpoint/image_file.h"
#include "checkpoint/lmdb_image_store.h"
#include "master/cluster_state.h"
#include "master/file_backup_writer.h"
#include "protocol/audit.h"
#include "tests/checkpoint/testing.h"

namespace freshet::master {
namespace {

namespace fs = std::filesystem;
using base::ErrorCode;
using checkpoint::testing::MakeImage;
using checkpoint::testing::MakeStamp;
using checkpoint::testing::ReadFile;
using checkpoint::testing::Same;
using checkpoint::testing::WriteFile;
using protocol::Image;
using protocol::PartitionId;

constexpr uint16_t kPartitions = 7;

std::vector<Image> ChainOf(uint16_t p) {
  return {MakeImage({.partition = p, .stamp = MakeStamp(3 + p, 10)}),
          MakeImage({.partition = p, .stamp = MakeStamp(5 + p, 20), .base = MakeStamp(3 + p, 10)})};
}

ClusterState MakeState() {
  ClusterState state;
  state.cluster = protocol::ClusterId(77);
  state.boot = 3;
  state.last_incarnation = protocol::Incarnation(40);
  state.job.name = "clicks";
  state.view.number = protocol::ViewNumber(9);
  state.view.nodes = {{"ps-0", protocol::Incarnation(38), "tcp://127.0.0.1:1"},
                      {"ps-1", protocol::Incarnation(40), "tcp://127.0.0.1:2"}};
  state.view.tables.push_back({protocol::kAuditTable, protocol::AuditTableSchema()});
  for (uint16_t p = 0; p < kPartitions; ++p) {
    // Partition 6 has a stamp above what this state knows; all others have lower ones.
    state.view.places.push_back(
        {static_cast<uint16_t>(p % 2), protocol::Tenure(p == 6 ? 2 : 30), {}, protocol::kNoNode});
  }
  state.nodes.push_back({protocol::Role::kPs, "ps-0", protocol::Incarnation(38), 5, 123, 2, true});
  state.placed = state.completed = true;
  return state;
}

class RestoreTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  std::string ImagePath(uint16_t p) const {
    return Path("backup/images/p" + std::to_string(p) + ".img");
  }

  // As servers and the master write it.
  base::Result<> MakeBackup() {
    fs::create_directories(Path("old"));
    WriteFile(Path("old/cluster.yaml"), "data: x\nps: 2\nps_memory_limit: 1GiB\n");
    FileBackupWriter writer({Path("backup"), Path("old")});
    if (auto prepared = writer.Prepare(); !prepared) return prepared;
    BackupManifest manifest;
    const ClusterState state = MakeState();
    manifest.cluster = state.cluster;
    manifest.job = state.job.name;
    manifest.unix_ms = 1'800'000'000'000;
    manifest.view = state.view.number;
    manifest.partitions = kPartitions;
    for (uint16_t p = 0; p < kPartitions; ++p) {
      const auto info = checkpoint::WriteImageFile(ImagePath(p), ChainOf(p));
      if (!info) return tl::unexpected(info.error());
      manifest.files.push_back(
          {PartitionId(p),
           "p" + std::to_string(p) + ".img",
           info->stamp.tenure,
           info->stamp.version,
           info->bytes,
           info->checksum,
           {{protocol::LogId(1), info->applied.Of(protocol::LogId(1)).Watermark()}}});
    }
    WriteFile(ImagePath(0) + ".tmp", "what a killed server left");
    manifest.replay_from = LowestWatermarks(manifest.files);
    return writer.Finish(manifest, protocol::EncodeStruct(state));
  }

  base::Result<RestoreReport> Restore(uint32_t ps, const std::string& to = "new") {
    return RestoreBackup(
        {.from = Path("backup"), .dir = Path(to), .ps = ps, .cluster = protocol::ClusterId(99)});
  }

  ClusterState StateOf(const std::string& name) {
    auto cell = checkpoint::DurableCell::Open({Path(name) + "/master", "master"});
    EXPECT_TRUE(cell);
    const auto blob = (*cell)->Read();
    EXPECT_TRUE(blob);
    return *protocol::DecodeStruct<ClusterState>(protocol::Buffer::Copy(*blob), "state");
  }

  void ExpectRefused(ErrorCode code, const std::string& what) {
    const auto report = Restore(2);
    ASSERT_FALSE(report) << what;
    EXPECT_EQ(report.error().code, code) << what << ": " << report.error().message;
    EXPECT_FALSE(fs::exists(Path("new"))) << what;
    EXPECT_FALSE(fs::exists(Path("new.restoring"))) << what;
  }

  checkpoint::testing::TempDir dir_;
};

TEST_F(RestoreTest, EveryNumberOfServersGetsNeighbouringPartitionsWhole) {
  ASSERT_TRUE(MakeBackup());
  for (const uint32_t ps : {1u, 2u, 3u, 7u}) {
    const std::string to = "new" + std::to_string(ps);
    const auto report = Restore(ps, to);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->ps, ps);
    EXPECT_EQ(report->partitions, kPartitions);
    const ClusterState state = StateOf(to);
    std::vector<uint32_t> shares(ps, 0);
    for (uint16_t p = 0; p < kPartitions; ++p) {
      const uint16_t owner = state.view.places[p].node;
      ASSERT_LT(owner, ps);
      if (p > 0) {
        EXPECT_LE(state.view.places[p - 1].node, owner);
      }
      ++shares[owner];
      const auto store = checkpoint::LmdbImageStore::Open(
          {.directory = Path(to) + "/" + state.view.nodes[owner].name + "/images"});
      ASSERT_TRUE(store) << store.error().message;
      const auto images = (*store)->Load(PartitionId(p));
      ASSERT_TRUE(images) << images.error().message;
      EXPECT_TRUE(Same(*images, ChainOf(p)));
    }
    const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
    EXPECT_LE(*most - *least, 1u);
    EXPECT_EQ(ReadFile(Path(to) + "/cluster.yaml"),
              "data: x\nps: " + std::to_string(ps) + "\nps_memory_limit: 1GiB\n");
  }
}

TEST_F(RestoreTest, TheNewClusterIsAnotherOneWithTenuresAboveEveryStamp) {
  ASSERT_TRUE(MakeBackup());
  const auto report = Restore(0);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->ps, 2u);  // as before
  const ClusterState before = MakeState();
  const ClusterState state = StateOf("new");
  EXPECT_EQ(state.cluster, protocol::ClusterId(99));
  EXPECT_EQ(state.last_incarnation, before.last_incarnation);
  EXPECT_EQ(state.boot, before.boot);
  EXPECT_GT(state.view.number, before.view.number);
  EXPECT_EQ(state.job, before.job);
  EXPECT_TRUE(state.nodes.empty());
  EXPECT_TRUE(state.placed);
  EXPECT_FALSE(state.completed);
  for (uint16_t p = 0; p < kPartitions; ++p) {
    EXPECT_GT(state.view.places[p].tenure, before.view.places[p].tenure);
    EXPECT_GT(state.view.places[p].tenure, ChainOf(p).back().header.stamp.tenure);
  }
  ASSERT_EQ(report->replay_from.size(), 1u);
  EXPECT_EQ(report->replay_from[0].watermark, 21u);
}

TEST_F(RestoreTest, ABackupThatDidNotEndIsNone) {
  ASSERT_TRUE(MakeBackup());
  fs::remove(Path("backup/manifest.json"));
  ExpectRefused(ErrorCode::kNotFound, "no manifest");
  fs::remove_all(Path("backup"));
  ExpectRefused(ErrorCode::kNotFound, "no directory");
}

TEST_F(RestoreTest, DamageAnywhereIsRefusedAndLeavesNothingBehind) {
  ASSERT_TRUE(MakeBackup());
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(Path("backup"))) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  ASSERT_EQ(files.size(), kPartitions + 3u);  // manifest, state, settings; the leftover is gone
  for (const std::string& file : files) {
    const std::string good = ReadFile(file);
    if (!file.ends_with("manifest.json")) {
      for (const size_t at : {size_t{0}, good.size() / 3, good.size() - 1}) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ 4);
        WriteFile(file, bad);
        ExpectRefused(ErrorCode::kCorrupt, file);
      }
    }
    WriteFile(file, good.substr(0, good.size() - 2));
    ExpectRefused(ErrorCode::kCorrupt, file);
    WriteFile(file, good);
  }
  EXPECT_TRUE(Restore(2));
}

TEST_F(RestoreTest, FilesThatAreSoundButNotTheOnesNamedAreRefused) {
  ASSERT_TRUE(MakeBackup());
  const std::string first = ReadFile(ImagePath(0));
  WriteFile(ImagePath(0), ReadFile(ImagePath(1)));
  ExpectRefused(ErrorCode::kCorrupt, "another partition's");
  std::vector<Image> older = ChainOf(0);
  older.pop_back();
  ASSERT_TRUE(checkpoint::WriteImageFile(ImagePath(0), older));
  ExpectRefused(ErrorCode::kCorrupt, "an older one");
  fs::remove(ImagePath(0));
  ExpectRefused(ErrorCode::kCorrupt, "none");
  WriteFile(ImagePath(0), first);
  EXPECT_TRUE(Restore(2));
}

TEST_F(RestoreTest, NothingIsOverwritten) {
  ASSERT_TRUE(MakeBackup());
  fs::create_directories(Path("new"));
  WriteFile(Path("new/precious"), "x");
  EXPECT_EQ(Restore(2).error().code, ErrorCode::kConflict);
  fs::remove(Path("new/precious"));
  fs::create_directories(Path("new.restoring"));
  EXPECT_EQ(Restore(2).error().code, ErrorCode::kConflict);
  fs::remove(Path("new.restoring"));
  EXPECT_TRUE(Restore(2));  // an empty directory is taken
  EXPECT_EQ(Restore(2).error().code, ErrorCode::kConflict);
  FileBackupWriter again({Path("backup"), Path("old")});
  EXPECT_EQ(again.Prepare().error().code, ErrorCode::kConflict);
  FileBackupWriter relative({"backup2", Path("old")});
  EXPECT_EQ(relative.Prepare().error().code, ErrorCode::kInvalidArgument);
}

TEST_F(RestoreTest, MoreServersThanPartitionsAreRefused) {
  ASSERT_TRUE(MakeBackup());
  EXPECT_EQ(Restore(kPartitions + 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(fs::exists(Path("new.restoring")));
}

TEST_F(RestoreTest, NoManifestIsWrittenWhileAServersFileIsNotToBeSeen) {
  FileBackupWriter writer({Path("backup"), Path("old")});
  ASSERT_TRUE(writer.Prepare());
  BackupManifest manifest;
  manifest.partitions = 1;
  manifest.files.push_back({PartitionId(0), "p0.img", protocol::Tenure(1), 1, 500, 1, {}});
  EXPECT_EQ(writer.Finish(manifest, {}).error().code, ErrorCode::kFailed);
  EXPECT_FALSE(fs::exists(Path("backup/manifest.json")));
}

}  // namespace
}  // namespace freshet::master
