// SPDX-License-Identifier: Apache-2.0
#include "ps/table_shard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "base/random.h"
#include "ps/table_set.h"

namespace freshet::ps {
namespace {

using protocol::Key;
using protocol::TableId;

constexpr uint64_t kMiB = uint64_t{1} << 20;

const TableLayout& AddTable(TableSet& tables, uint32_t dim) {
  protocol::Table table;
  table.id = TableId(1);
  table.schema.name = "t";
  table.schema.dim = dim;
  table.schema.init = {{protocol::InitKind::kUniform, 1.0f, 0, dim}};
  EXPECT_TRUE(tables.Add(table));
  return *tables.Find(TableId(1));
}

TEST(TableShard, AnEmptyShardHoldsNoMemory) {
  TableSet tables;
  RowArena arena({.limit_bytes = kMiB});
  TableShard shard(AddTable(tables, 16), arena);
  EXPECT_EQ(shard.Find(1), 0u);
  EXPECT_EQ(shard.bytes(), 0u);
  EXPECT_EQ(arena.used_bytes(), 0u);
  EXPECT_TRUE(shard.HasRoom(0));
  EXPECT_FALSE(shard.HasRoom(1));
}

// Through every growth of the index and of the first block, for strides of one step to several pages.
TEST(TableShard, FindsExactlyWhatWasCreated) {
  for (const uint32_t dim : {1u, 2u, 5u, 8u, 16u, 17u, 100u, 4096u}) {
    TableSet tables;
    RowArena arena({.limit_bytes = 512 * kMiB});
    const TableLayout& layout = AddTable(tables, dim);
    TableShard shard(layout, arena);
    base::Random random(dim);
    std::map<Key, uint32_t> model;
    const uint64_t rows = dim > 1000 ? 300 : 5000;
    std::vector<float> expected(layout.row_floats);
    while (model.size() < rows) {
      // Neighbouring keys as well as far ones; 0 and the highest key are keys like others.
      const Key key = random.Chance(0.5) ? random.Below(8 * rows) : ~random.Below(8 * rows);
      const RowHandle found = shard.Find(key);
      ASSERT_EQ(found != 0, model.count(key) == 1) << dim;
      if (found != 0) continue;
      ASSERT_TRUE(shard.Reserve(1));
      RowMeta* meta = shard.MetaOf(shard.RowAt(shard.Create(key)));
      ASSERT_EQ(meta->key, key);
      meta->count = static_cast<uint32_t>(model.size());
      model[key] = meta->count;
    }
    ASSERT_EQ(shard.rows(), rows);
    for (const auto& [key, count] : model) {
      std::byte* row = shard.RowAt(shard.Find(key));
      ASSERT_EQ(shard.MetaOf(row)->key, key);
      ASSERT_EQ(shard.MetaOf(row)->count, count);
      layout.InitRow(key, expected.data());
      ASSERT_EQ(std::memcmp(row, expected.data(), layout.row_floats * sizeof(float)), 0);
    }
    // The blocks tell the same without the index, in the order of creation.
    uint32_t at = 0;
    for (size_t i = 0; i < shard.blocks(); ++i) {
      const auto block = shard.BlockAt(i);
      for (uint32_t j = 0; j < block.count; ++j) ASSERT_EQ(block.metas[j].count, at++);
    }
    ASSERT_EQ(at, rows);
    ASSERT_EQ(arena.used_bytes(), shard.bytes());
  }
}

TEST(TableShard, ReservingAheadMovesNothingLater) {
  TableSet tables;
  RowArena arena({.limit_bytes = 64 * kMiB});
  TableShard shard(AddTable(tables, 16), arena);
  ASSERT_TRUE(shard.Reserve(10'000));
  const uint64_t bytes = shard.bytes();
  const RowHandle first = shard.Create(0);
  for (Key key = 1; key < 10'000; ++key) {
    ASSERT_TRUE(shard.HasRoom(1));
    shard.Create(key);
  }
  EXPECT_EQ(shard.Find(0), first);
  EXPECT_EQ(shard.bytes(), bytes);
}

TEST(TableShard, MemoryStaysNearWhatTheRowsNeed) {
  TableSet tables;
  RowArena arena({.limit_bytes = 64 * kMiB});
  TableShard shard(AddTable(tables, 16), arena);
  for (Key key = 0; key < 40'000; ++key) {
    ASSERT_TRUE(shard.Reserve(1));
    shard.Create(key);
    if (key == 0) {
      EXPECT_LE(shard.bytes(), 2 * RowArena::kMinBlockBytes);
    }
  }
  // 128 bytes a row, 16 of meta, at most 37 of index; blocks end up to a block behind the rows.
  EXPECT_LE(shard.bytes(), 40'000u * (128 + 16 + 37) + 128 * 1024);
}

TEST(TableShard, RefusesAtTheLimitAndGivesEverythingBack) {
  TableSet tables;
  RowArena arena({.limit_bytes = kMiB});
  const TableLayout& layout = AddTable(tables, 16);
  {
    TableShard shard(layout, arena);
    Key key = 0;
    while (shard.Reserve(1)) shard.Create(key++);
    EXPECT_GT(key, 2000u);
    EXPECT_EQ(shard.Reserve(1).error().code, base::ErrorCode::kResourceExhausted);
    EXPECT_EQ(shard.rows(), key);
    for (Key k = 0; k < key; ++k) ASSERT_NE(shard.Find(k), 0u);
    EXPECT_LE(arena.used_bytes(), kMiB);
  }
  EXPECT_EQ(arena.used_bytes(), 0u);
}

}  // namespace
}  // namespace freshet::ps
