// SPDX-License-Identifier: Apache-2.0
#include "ps/batch_ops.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "tests/ps/push_rows.h"
#include "tests/ps/store_fixture.h"

namespace freshet::ps {
namespace {

using protocol::Key;
using protocol::OptimizerKind;
using protocol::TableId;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint32_t kPartitions = 16;

// Rows as a plain map, one key at a time.
class Model {
 public:
  explicit Model(const TableLayout& layout) : layout_(layout) {}

  void Push(const Batch& batch) {
    for (size_t i = 0; i < batch.keys.size(); ++i) {
      auto [at, fresh] = rows_.try_emplace(batch.keys[i]);
      if (fresh) {
        at->second.resize(layout_.row_floats);
        layout_.InitRow(batch.keys[i], at->second.data());
      }
      float* const rows[] = {at->second.data()};
      const float* const gradients[] = {&batch.gradients[i * layout_.dim]};
      layout_.optimizer.Apply(rows, gradients);
    }
  }
  void ExpectPull(const std::vector<Key>& keys, const std::vector<float>& values) const {
    std::vector<float> initial(layout_.dim);
    for (size_t i = 0; i < keys.size(); ++i) {
      const auto at = rows_.find(keys[i]);
      if (at == rows_.end()) layout_.init.Fill(keys[i], initial.data());
      const float* expected = at == rows_.end() ? initial.data() : at->second.data();
      ASSERT_EQ(std::memcmp(&values[i * layout_.dim], expected, layout_.dim * sizeof(float)), 0);
    }
  }
  size_t size() const { return rows_.size(); }

 private:
  const TableLayout& layout_;
  std::map<Key, std::vector<float>> rows_;
};

void CompareWithModel(uint32_t dim, OptimizerKind kind) {
  TableSet tables;
  tables.set_seed(11);
  ASSERT_TRUE(tables.Add(MakeTable(1, dim, kind)));
  const TableLayout& layout = *tables.Find(TableId(1));
  RowArena arena({.limit_bytes = 256 * kMiB});
  Cluster cluster(tables, arena, kPartitions);
  Model model(layout);
  base::Random random(dim);
  for (int round = 0; round < 60; ++round) {
    // From less than a chunk to many, from runs of one key to long ones.
    const size_t count = 1 + random.Below(round % 5 == 0 ? 1000 : 100);
    const Batch batch = DrawBatch(random, layout, kPartitions, count, 5000);
    std::vector<float> values(count * dim, -7.0f);
    const auto runs = cluster.Runs(TableId(1), batch);
    PullRows(runs, batch.keys, values.data());
    model.ExpectPull(batch.keys, values);
    EXPECT_EQ(cluster.rows(), model.size());
    if (round % 3 == 2) continue;
    ASSERT_TRUE(ReserveAndPush(runs, batch.keys, batch.gradients.data()));
    model.Push(batch);
    ASSERT_EQ(cluster.rows(), model.size());
    PullRows(runs, batch.keys, values.data());
    model.ExpectPull(batch.keys, values);
  }
}

TEST(BatchOps, AgreesWithAPlainMapForEveryOptimizer) {
  for (int kind = 1; kind <= 7; ++kind) {
    SCOPED_TRACE(kind);
    CompareWithModel(16, static_cast<OptimizerKind>(kind));
    CompareWithModel(6, static_cast<OptimizerKind>(kind));
  }
}

TEST(BatchOps, AgreesWithAPlainMapForEveryDimension) {
  for (const uint32_t dim : {1u, 2u, 3u, 8u, 15u, 17u, 32u, 64u, 200u, 1024u}) {
    SCOPED_TRACE(dim);
    CompareWithModel(dim, OptimizerKind::kAdagrad);
  }
}

class OneShard : public ::testing::Test {
 protected:
  void Make(uint32_t dim, uint64_t limit_bytes) {
    ASSERT_TRUE(tables_.Add(MakeTable(1, dim, OptimizerKind::kSgd)));
    arena_ = std::make_unique<RowArena>(RowArenaOptions{.limit_bytes = limit_bytes});
    partition_ = std::make_unique<Partition>(protocol::PartitionId(0), tables_, *arena_);
    shard_ = partition_->Shard(TableId(1));
  }
  std::vector<RowRun> Run(const std::vector<Key>& keys) {
    return {{shard_, 0, static_cast<uint32_t>(keys.size())}};
  }
  TableSet tables_;
  std::unique_ptr<RowArena> arena_;
  std::unique_ptr<Partition> partition_;
  TableShard* shard_ = nullptr;
};

TEST_F(OneShard, KeysOutsideTheRunsAreLeftAlone) {
  Make(2, kMiB);
  const std::vector<Key> keys = {1, 2, 3, 4};
  const std::vector<RowRun> runs = {{shard_, 1, 3}};
  std::vector<float> values(8, -7.0f);
  PullRows(runs, keys, values.data());
  EXPECT_EQ(values[1], -7.0f);
  EXPECT_NE(values[2], -7.0f);
  EXPECT_NE(values[5], -7.0f);
  EXPECT_EQ(values[6], -7.0f);
  const std::vector<float> gradients(8, 1.0f);
  ASSERT_TRUE(ReserveAndPush(runs, keys, gradients.data()));
  EXPECT_EQ(shard_->rows(), 2u);
  EXPECT_EQ(shard_->Find(1), 0u);
  EXPECT_NE(shard_->Find(2), 0u);
}

TEST_F(OneShard, NoRunsMeansNothingToDo) {
  Make(2, kMiB);
  PullRows({}, {}, nullptr);
  EXPECT_TRUE(ReserveAndPush({}, {}, nullptr));
  const std::vector<RowRun> empty = {{shard_, 0, 0}};
  PullRows(empty, {}, nullptr);
  EXPECT_TRUE(ReserveAndPush(empty, {}, nullptr));
}

TEST_F(OneShard, EqualKeysLearnOneAfterTheOther) {
  Make(1, kMiB);
  const std::vector<Key> keys = {5, 5, 5};
  const std::vector<float> gradients = {1.0f, 2.0f, 3.0f};
  float before = 0;
  PullRows(Run({5}), std::vector<Key>{5}, &before);
  ASSERT_TRUE(ReserveAndPush(Run(keys), keys, gradients.data()));
  float after = 0;
  PullRows(Run({5}), std::vector<Key>{5}, &after);
  EXPECT_NEAR(after, before - 0.6f, 1e-6f);
  EXPECT_EQ(shard_->rows(), 1u);
  EXPECT_EQ(shard_->MetaOf(shard_->RowAt(shard_->Find(5)))->count, 3u);
}

TEST_F(OneShard, AtTheLimitAPushChangesNothingAndKnownRowsStillLearn) {
  Make(16, kMiB);
  std::vector<Key> known;
  const std::vector<float> gradients(16 * 64, 1.0f);
  base::Result<> pushed;
  std::vector<Key> keys(64);
  for (Key next = 0; pushed;) {
    for (Key& key : keys) key = next++;
    pushed = ReserveAndPush(Run(keys), keys, gradients.data());
    if (pushed) known.insert(known.end(), keys.begin(), keys.end());
  }
  EXPECT_EQ(pushed.error().code, base::ErrorCode::kResourceExhausted);
  EXPECT_EQ(shard_->rows(), known.size());
  // Known rows mixed with new ones: all or nothing.
  keys[0] = known[0];
  std::vector<float> before(16);
  PullRows(Run({known[0]}), std::vector<Key>{known[0]}, before.data());
  EXPECT_FALSE(ReserveAndPush(Run(keys), keys, gradients.data()));
  std::vector<float> after(16);
  PullRows(Run({known[0]}), std::vector<Key>{known[0]}, after.data());
  EXPECT_EQ(after, before);
  keys.assign(known.begin(), known.begin() + 64);
  EXPECT_TRUE(ReserveAndPush(Run(keys), keys, gradients.data()));
  PullRows(Run({known[0]}), std::vector<Key>{known[0]}, after.data());
  EXPECT_NE(after, before);
}

TEST_F(OneShard, KnownKeysAreLookedForAtMostOnceToFindRoom) {
  Make(16, kMiB);
  std::vector<Key> keys(1);
  const std::vector<float> gradients(16 * 1000, 1.0f);
  for (; shard_->rows() < 100 || shard_->HasRoom(1); ++keys[0]) {
    ASSERT_TRUE(ReserveAndPush(Run(keys), keys, gradients.data()));
  }
  for (Key key = 1; key < 50; ++key) keys.push_back(key);
  ASSERT_TRUE(ReserveAndPush(Run(keys), keys, gradients.data()));
  EXPECT_TRUE(shard_->HasRoom(keys.size()));
}

TEST_F(OneShard, AfterReservingPushesSucceed) {
  Make(16, kMiB);
  std::vector<Key> keys(5000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
  ASSERT_TRUE(ReserveRows(Run(keys), keys));
  EXPECT_EQ(shard_->rows(), 0u);
  // Whatever else takes the rest of the memory.
  while (arena_->Allocate(RowArena::kMinBlockBytes) != nullptr) {
  }
  const std::vector<float> gradients(16 * keys.size(), 1.0f);
  EXPECT_TRUE(ReserveAndPush(Run(keys), keys, gradients.data()));
}

TEST(BatchOps, ADenseTableHasOnlyItsRows) {
  TableSet tables;
  auto table = MakeTable(1, 4, OptimizerKind::kSgd);
  table.schema.kind = protocol::TableKind::kDense;
  table.schema.dense_rows = 10;
  ASSERT_TRUE(tables.Add(table));
  RowArena arena({.limit_bytes = kMiB});
  Partition partition(protocol::PartitionId(0), tables, arena);
  const std::vector<float> gradients(8, 1.0f);
  const std::vector<RowRun> runs = {{partition.Shard(TableId(1)), 0, 2}};
  EXPECT_TRUE(ReserveAndPush(runs, std::vector<Key>{0, 9}, gradients.data()));
  const auto refused = ReserveAndPush(runs, std::vector<Key>{1, 10}, gradients.data());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(partition.rows(), 2u);
}

}  // namespace
}  // namespace freshet::ps
