// SPDX-License-Identifier: Apache-2.0
#include "ps/table_set.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace freshet::ps {
namespace {

using protocol::OptimizerKind;
using protocol::Table;
using protocol::TableId;

Table MakeTable(uint16_t id, uint32_t dim, OptimizerKind kind = OptimizerKind::kAdagrad) {
  Table table;
  table.id = TableId(id);
  table.schema.name = fmt::format("t{}", id);
  table.schema.dim = dim;
  table.schema.optimizer.kind = kind;
  return table;
}

TEST(TableSet, KnowsWhatWasAdded) {
  TableSet tables;
  EXPECT_EQ(tables.Find(TableId(3)), nullptr);
  ASSERT_TRUE(tables.Add(MakeTable(3, 16)));
  ASSERT_NE(tables.Find(TableId(3)), nullptr);
  EXPECT_EQ(tables.Find(TableId(2)), nullptr);
  EXPECT_EQ(tables.Find(TableId(4)), nullptr);
  EXPECT_EQ(tables.Schema(TableId(3))->name, "t3");
  EXPECT_EQ(tables.Schema(TableId(4)), nullptr);
  EXPECT_EQ(tables.Find(TableId(3))->row_floats, 32u);
}

TEST(TableSet, AddingAgainChangesNothingAndAnotherSchemaIsRefused) {
  TableSet tables;
  ASSERT_TRUE(tables.Add(MakeTable(1, 16)));
  const TableLayout* layout = tables.Find(TableId(1));
  EXPECT_TRUE(tables.Add(MakeTable(1, 16)));
  EXPECT_EQ(tables.Add(MakeTable(1, 8)).error().code, base::ErrorCode::kConflict);
  for (uint16_t id = 2; id < 200; ++id) ASSERT_TRUE(tables.Add(MakeTable(id, 4)));
  EXPECT_EQ(tables.Find(TableId(1)), layout);
  EXPECT_EQ(layout->dim, 16u);
}

TEST(TableSet, RefusesBadSchemasAndIds) {
  TableSet tables;
  EXPECT_EQ(tables.Add(MakeTable(1, 0)).error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(tables.Add(MakeTable(256, 4)).error().code, base::ErrorCode::kInvalidArgument);
}

TEST(TableSet, RowsAreAlignedWhereItPays) {
  TableSet tables;
  auto stride = [&tables, id = uint16_t{0}](uint32_t dim, OptimizerKind kind) mutable {
    EXPECT_TRUE(tables.Add(MakeTable(++id, dim, kind)));
    return tables.Find(TableId(id))->stride_bytes;
  };
  EXPECT_EQ(stride(1, OptimizerKind::kSgd), 16u);
  EXPECT_EQ(stride(1, OptimizerKind::kAdagrad), 16u);
  EXPECT_EQ(stride(5, OptimizerKind::kSgd), 32u);
  EXPECT_EQ(stride(8, OptimizerKind::kAdagrad), 64u);
  EXPECT_EQ(stride(13, OptimizerKind::kSgd), 64u);
  EXPECT_EQ(stride(16, OptimizerKind::kAdagrad), 128u);
  EXPECT_EQ(stride(17, OptimizerKind::kAdagrad), 144u);
  EXPECT_EQ(stride(64, OptimizerKind::kAdam), 832u);
}

}  // namespace
}  // namespace freshet::ps
