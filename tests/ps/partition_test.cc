// SPDX-License-Identifier: Apache-2.0
#include "ps/partition.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "tests/ps/push_rows.h"
#include "tests/ps/store_fixture.h"

namespace freshet::ps {
namespace {

using base::ErrorCode;
using protocol::Image;
using protocol::Key;
using protocol::LogId;
using protocol::OptimizerKind;
using protocol::Overlap;
using protocol::PartitionId;
using protocol::Stamp;
using protocol::TableId;
using protocol::Tenure;

constexpr uint64_t kMiB = uint64_t{1} << 20;
const LogId kLog{2};

// One partition with a table for every optimizer, and a way to train it.
class PartitionTest : public ::testing::Test {
 protected:
  PartitionTest() {
    tables_.set_seed(5);
    for (uint16_t kind = 1; kind <= 7; ++kind) {
      EXPECT_TRUE(
          tables_.Add(MakeTable(kind, kind == 7 ? 8 : 5, static_cast<OptimizerKind>(kind))));
    }
    EXPECT_TRUE(tables_.Add(MakeTable(9, 16, OptimizerKind::kAdagrad)));
  }

  // One batch: some rows in every table, and its span. The same seed does the same.
  void Step(Partition& partition, uint64_t seed, size_t rows = 40) {
    base::Random random(seed);
    for (uint16_t id = 1; id <= 9; ++id) {
      const TableLayout* layout = tables_.Find(TableId(id));
      if (layout == nullptr) continue;
      const Batch batch = DrawBatch(random, *layout, 1, rows, 3000);
      const std::vector<RowRun> runs = {
          {partition.Shard(TableId(id)), 0, static_cast<uint32_t>(rows)}};
      ASSERT_TRUE(ReserveAndPush(runs, batch.keys, batch.gradients.data()));
    }
    partition.RecordApplied(kLog, {seed * 10, seed * 10 + 10});
  }

  // Everything a partition is, to the bit: blocks of a whole image in order, and the applied sets.
  static void ExpectSame(Partition& a, Partition& b) {
    EXPECT_EQ(a.version(), b.version());
    EXPECT_EQ(a.rows(), b.rows());
    const Image x = a.CutWhole(Tenure(99));
    const Image y = b.CutWhole(Tenure(99));
    EXPECT_EQ(x.header, y.header);
    ASSERT_EQ(x.blocks.size(), y.blocks.size());
    for (size_t i = 0; i < x.blocks.size(); ++i) {
      ASSERT_EQ(x.blocks[i].size(), y.blocks[i].size());
      ASSERT_EQ(std::memcmp(x.blocks[i].data(), y.blocks[i].data(), x.blocks[i].size()), 0) << i;
    }
  }

  Partition Make() { return Partition(PartitionId(3), tables_, arena_); }

  TableSet tables_;
  RowArena arena_{RowArenaOptions{.limit_bytes = 256 * kMiB}};
};

TEST_F(PartitionTest, JudgesSpansByWhatIsApplied) {
  Partition partition = Make();
  EXPECT_EQ(partition.Judge(kLog, {0, 10}), Overlap::kDisjoint);
  partition.RecordApplied(kLog, {0, 10});
  EXPECT_EQ(partition.version(), 1u);
  EXPECT_EQ(partition.Judge(kLog, {0, 10}), Overlap::kContained);
  EXPECT_EQ(partition.Judge(kLog, {2, 3}), Overlap::kContained);
  EXPECT_EQ(partition.Judge(kLog, {5, 15}), Overlap::kPartial);
  EXPECT_EQ(partition.Judge(kLog, {10, 20}), Overlap::kDisjoint);
  EXPECT_EQ(partition.Judge(LogId(0), {0, 10}), Overlap::kDisjoint);
  EXPECT_EQ(partition.Judge(kLog, {30, 30}), Overlap::kContained);
  partition.RecordApplied(kLog, {20, 30});
  EXPECT_EQ(partition.version(), 2u);
  EXPECT_EQ(partition.applied().Of(kLog), (protocol::SpanSet{{0, 10}, {20, 30}}));
}

TEST_F(PartitionTest, UnknownTablesHaveNoShardUntilAdded) {
  Partition partition = Make();
  EXPECT_EQ(partition.Shard(TableId(20)), nullptr);
  ASSERT_TRUE(tables_.Add(MakeTable(20, 4, OptimizerKind::kSgd)));
  TableShard* shard = partition.Shard(TableId(20));
  ASSERT_NE(shard, nullptr);
  EXPECT_EQ(partition.Shard(TableId(20)), shard);
}

TEST_F(PartitionTest, RestoredFromAWholeImageItIsTheSameAndGoesOnTheSame) {
  Partition original = Make();
  for (uint64_t seed = 1; seed <= 30; ++seed) Step(original, seed);
  const Image image = original.CutWhole(Tenure(4));
  EXPECT_EQ(image.header.stamp, (Stamp{Tenure(4), 30}));
  EXPECT_TRUE(image.header.whole());
  EXPECT_EQ(image.header.rows, original.rows());
  EXPECT_EQ(image.header.applied, original.applied());

  Partition restored = Make();
  ASSERT_TRUE(restored.Restore({image}));
  ExpectSame(original, restored);
  // Optimizer state and steps came along: both learn the same from the same.
  for (uint64_t seed = 31; seed <= 60; ++seed) {
    Step(original, seed);
    Step(restored, seed);
  }
  ExpectSame(original, restored);
}

TEST_F(PartitionTest, ABaseAndItsDifferencesAreTheWhole) {
  Partition original = Make();
  std::vector<Image> chain;
  uint32_t cut = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Step(original, seed, 10);
    if (seed % 8 != 0) continue;
    const uint32_t now = original.current_cut();
    chain.push_back(chain.empty()
                        ? original.CutWhole(Tenure(4))
                        : original.CutDifference(Tenure(4), chain.back().header.stamp, cut));
    cut = now;
  }
  ASSERT_EQ(chain.size(), 5u);
  for (size_t i = 1; i < chain.size(); ++i) {
    EXPECT_FALSE(chain[i].header.whole());
    EXPECT_GT(chain[i].header.rows, 0u);
    EXPECT_LE(chain[i].header.rows, 8u * 8 * 10);
  }
  Partition restored = Make();
  ASSERT_TRUE(restored.Restore(chain));
  ExpectSame(original, restored);

  Partition stepwise = Make();
  ASSERT_TRUE(stepwise.Restore({chain[0]}));
  for (size_t i = 1; i < chain.size(); ++i) {
    const auto merged = stepwise.Merge(chain[i].blocks);
    ASSERT_TRUE(merged);
    EXPECT_EQ(*merged, chain[i].header.rows);
    stepwise.Settle(chain[i].header.stamp, chain[i].header.applied);
  }
  ExpectSame(original, stepwise);
}

TEST_F(PartitionTest, SlicesOfDifferentMomentsAndADifferenceAreOneImage) {
  Partition source = Make();
  uint64_t seed = 1;
  for (; seed <= 30; ++seed) Step(source, seed);
  Partition target = Make();
  uint32_t since = 0;
  protocol::CopyPosition at;
  for (bool more = true; more;) {
    if (at == protocol::CopyPosition()) since = source.BeginRound();
    const auto slice = source.CutSlice(at, std::nullopt, 1);
    ASSERT_TRUE(target.Merge(slice.blocks));
    Step(source, seed++);  // while it is copied it learns
    at = slice.next;
    more = slice.more;
  }
  const auto rest = source.CutSlice({}, since, SIZE_MAX / 16);
  EXPECT_FALSE(rest.more);
  ASSERT_TRUE(target.Merge(rest.blocks));
  target.Settle({Tenure(1), source.version()}, source.applied());
  ExpectSame(source, target);
}

TEST_F(PartitionTest, RoomForAllRowsOfASourceIsMadeAtOnce) {
  Partition source = Make();
  for (uint64_t seed = 1; seed <= 60; ++seed) Step(source, seed);
  Partition target = Make();
  ASSERT_TRUE(target.Reserve(source.RowsByTable()));
  EXPECT_EQ(target.rows(), 0u);
  const uint64_t bytes = target.bytes();
  const auto slice = source.CutSlice({}, std::nullopt, SIZE_MAX / 16);
  EXPECT_EQ(slice.rows, source.rows());
  ASSERT_TRUE(target.Merge(slice.blocks));
  EXPECT_EQ(target.rows(), source.rows());
  EXPECT_EQ(target.bytes(), bytes);
}

TEST_F(PartitionTest, ADifferenceHoldsOnlyWhatChangedSinceItsBase) {
  Partition partition = Make();
  for (uint64_t seed = 1; seed <= 10; ++seed) Step(partition, seed);
  uint32_t cut = partition.current_cut();
  const Image base = partition.CutWhole(Tenure(1));
  const Image nothing = partition.CutDifference(Tenure(1), base.header.stamp, cut);
  EXPECT_EQ(nothing.header.rows, 0u);
  EXPECT_TRUE(nothing.blocks.empty());
  Step(partition, 11, 7);
  // An image cut for someone else in between takes nothing away.
  (void)partition.CutWhole(Tenure(1));
  const Image some = partition.CutDifference(Tenure(1), base.header.stamp, cut);
  EXPECT_EQ(some.header.rows, 8u * 7);
}

TEST_F(PartitionTest, AfterARestoreTheChainGoesOnFromTheStoredImage) {
  Partition original = Make();
  Step(original, 1);
  const Image base = original.CutWhole(Tenure(1));
  Partition second = Make();
  ASSERT_TRUE(second.Restore({base}));
  const uint32_t since = second.current_cut() - 1;
  Step(second, 2, 5);
  const Image difference = second.CutDifference(Tenure(2), base.header.stamp, since);
  EXPECT_EQ(difference.header.rows, 8u * 5);
  EXPECT_EQ(difference.header.stamp, (Stamp{Tenure(2), 2}));
  Partition third = Make();
  ASSERT_TRUE(third.Restore({base, difference}));
  ExpectSame(second, third);
}

TEST_F(PartitionTest, AnEmptyPartitionHasAnImageToo) {
  Partition partition = Make();
  const Image image = partition.CutWhole(Tenure(1));
  EXPECT_EQ(image.header.rows, 0u);
  Partition restored = Make();
  ASSERT_TRUE(restored.Restore({image}));
  EXPECT_EQ(restored.rows(), 0u);
}

TEST_F(PartitionTest, LargeImagesComeInBlocksOfTheTargetSize) {
  Partition partition = Make();
  base::Random random(1);
  const Batch batch = DrawBatch(random, *tables_.Find(TableId(9)), 1, 9000, 1u << 30);
  const std::vector<RowRun> runs = {{partition.Shard(TableId(9)), 0, 9000}};
  ASSERT_TRUE(ReserveAndPush(runs, batch.keys, batch.gradients.data()));
  partition.RecordApplied(kLog, {0, 1});
  const Image image = partition.CutWhole(Tenure(1));
  ASSERT_EQ(image.blocks.size(), 5u);  // 140 bytes a row, 1872 rows a block
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_LE(image.blocks[i].size(), protocol::kBlockTargetBytes);
    EXPECT_GT(image.blocks[i].size(), protocol::kBlockTargetBytes * 9 / 10);
  }
  Partition restored = Make();
  ASSERT_TRUE(restored.Restore({image}));
  ExpectSame(partition, restored);
}

TEST_F(PartitionTest, ForEachRowVisitsEveryRowOnce) {
  Partition partition = Make();
  for (uint64_t seed = 1; seed <= 5; ++seed) Step(partition, seed);
  std::map<Key, int> seen;
  const uint32_t dim = tables_.Find(TableId(7))->dim;
  partition.ForEachRow(TableId(7), [&](Key key, std::span<const float> weights) {
    EXPECT_EQ(weights.size(), dim);
    ++seen[key];
  });
  EXPECT_EQ(seen.size(), partition.Shard(TableId(7))->rows());
  for (const auto& [key, times] : seen) EXPECT_EQ(times, 1);
  partition.ForEachRow(TableId(200), [](Key, std::span<const float>) { FAIL(); });
}

TEST_F(PartitionTest, ImagesThatDoNotFitLeaveItEmpty) {
  Partition original = Make();
  Step(original, 1);
  uint32_t cut = original.current_cut();
  const Image base = original.CutWhole(Tenure(1));
  Step(original, 2);
  const Image first = original.CutDifference(Tenure(1), base.header.stamp, cut);
  cut = original.current_cut() - 1;
  Step(original, 3);
  const Image second = original.CutDifference(Tenure(1), first.header.stamp, cut);

  const auto refused = [this](const std::vector<Image>& images, ErrorCode code) {
    Partition partition = Make();
    const auto ok = partition.Restore(images);
    ASSERT_FALSE(ok);
    EXPECT_EQ(ok.error().code, code) << ok.error().message;
    EXPECT_EQ(partition.rows(), 0u);
    EXPECT_EQ(partition.bytes(), 0u);
    EXPECT_EQ(partition.version(), 0u);
    EXPECT_TRUE(partition.applied().logs().empty());
  };
  refused({}, ErrorCode::kConflict);
  refused({first}, ErrorCode::kConflict);
  refused({base, second}, ErrorCode::kConflict);
  refused({base, first, first}, ErrorCode::kConflict);
  refused({base, base}, ErrorCode::kConflict);
  Image other = base;
  other.header.partition = PartitionId(4);
  refused({other}, ErrorCode::kConflict);
  Image fewer = base;
  fewer.blocks.pop_back();
  refused({fewer}, ErrorCode::kCorrupt);
  Image doubled = base;
  doubled.blocks.push_back(doubled.blocks[0]);
  doubled.header.rows += protocol::ReadBlock(doubled.blocks[0])->rows;
  refused({doubled}, ErrorCode::kCorrupt);
}

TEST_F(PartitionTest, TablesUnknownOrOfAnotherShapeAreRefused) {
  Partition original = Make();
  Step(original, 1);
  const Image image = original.CutWhole(Tenure(1));
  TableSet none;
  Partition without(PartitionId(3), none, arena_);
  EXPECT_EQ(without.Restore({image}).error().code, ErrorCode::kNotFound);
  TableSet wider;
  for (uint16_t id = 1; id <= 9; ++id) {
    ASSERT_TRUE(wider.Add(MakeTable(id, 32, OptimizerKind::kAdagrad)));
  }
  Partition other(PartitionId(3), wider, arena_);
  EXPECT_EQ(other.Restore({image}).error().code, ErrorCode::kCorrupt);
}

TEST_F(PartitionTest, WithoutMemoryARestoreFailsAndGivesEverythingBack) {
  Partition original = Make();
  for (uint64_t seed = 1; seed <= 30; ++seed) Step(original, seed);
  const Image image = original.CutWhole(Tenure(1));
  RowArena small({.limit_bytes = 64 * 1024});
  Partition partition(PartitionId(3), tables_, small);
  EXPECT_EQ(partition.Restore({image}).error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(small.used_bytes(), 0u);
}

TEST_F(PartitionTest, RandomDamageNeverDoesMoreThanFail) {
  Partition original = Make();
  for (uint64_t seed = 1; seed <= 3; ++seed) Step(original, seed);
  const Image image = original.CutWhole(Tenure(1));
  base::Random random(9);
  int restored = 0;
  for (int round = 0; round < 1000; ++round) {
    Image damaged = image;
    const size_t at = random.Below(damaged.blocks.size());
    const auto& whole = image.blocks[at];
    const size_t keep = random.Chance(0.1) ? random.Below(whole.size()) : whole.size();
    auto bytes = protocol::Buffer::Copy(whole.bytes().subspan(0, keep));
    for (uint64_t n = random.Below(8); n > 0 && keep > 0; --n) {
      // The header is damaged more often than its share of the bytes.
      const size_t byte = random.Below(random.Chance(0.5) ? std::min<size_t>(keep, 16) : keep);
      bytes.mutable_data()[byte] = static_cast<std::byte>(random.Next());
    }
    damaged.blocks[at] = bytes;
    Partition partition = Make();
    if (partition.Restore({damaged})) {
      ++restored;  // damage within keys or values is for the store's checksums to find
    } else {
      ASSERT_EQ(partition.rows(), 0u);
    }
  }
  EXPECT_GT(restored, 0);
  EXPECT_LT(restored, 1000);
}

}  // namespace
}  // namespace freshet::ps
