// SPDX-License-Identifier: Apache-2.0
#include "ps/row_init.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace freshet::ps {
namespace {

using protocol::InitKind;
using protocol::TableKind;
using protocol::TableSchema;

TableSchema Schema(const std::string& name, uint32_t dim, std::vector<protocol::InitSpec> init) {
  TableSchema schema;
  schema.name = name;
  schema.dim = dim;
  schema.init = std::move(init);
  return schema;
}

std::vector<float> Row(const TableSchema& schema, uint64_t seed, protocol::Key key) {
  std::vector<float> row(schema.dim, 99.0f);
  RowInit(schema, seed).Fill(key, row.data());
  return row;
}

// Computed apart, by another program. A replay on any machine must give these bits.
TEST(RowInit, UniformStaysWhatItWas) {
  const auto row = Row(Schema("embedding", 4, {{InitKind::kUniform, 0.05f, 0, 4}}), 7, 123456789);
  EXPECT_EQ(
      row, (std::vector<float>{0x1.ca5d34p-8f, -0x1.a563f4p-6f, -0x1.791d26p-5f, -0x1.984deep-5f}));
}

TEST(RowInit, NormalStaysWhatItWas) {
  const auto row = Row(Schema("embedding", 4, {{InitKind::kNormal, 0.01f, 0, 4}}), 7, 123456789);
  EXPECT_EQ(row,
            (std::vector<float>{0x1.407964p-7f, 0x1.07ed70p-7f, 0x1.0f6084p-6f, -0x1.40cc7ap-7f}));
}

TEST(RowInit, DependsOnSeedTableAndKeyOnly) {
  const auto schema = Schema("a", 8, {{InitKind::kUniform, 1.0f, 0, 8}});
  EXPECT_EQ(Row(schema, 1, 5), Row(schema, 1, 5));
  EXPECT_NE(Row(schema, 1, 5), Row(schema, 2, 5));
  EXPECT_NE(Row(schema, 1, 5), Row(schema, 1, 6));
  EXPECT_NE(Row(schema, 1, 5), Row(Schema("b", 8, schema.init), 1, 5));
}

TEST(RowInit, SparseEntriesCoverTheirColumnsAndTheRestIsZero) {
  const auto row = Row(Schema("a", 6,
                              {{InitKind::kUniform, 1.0f, 4, 5},
                               {InitKind::kZero, 0, 5, 6},
                               {InitKind::kNormal, 1.0f, 1, 3}}),
                       1, 1);
  EXPECT_EQ(row[0], 0.0f);
  EXPECT_NE(row[1], 0.0f);
  EXPECT_NE(row[2], 0.0f);
  EXPECT_EQ(row[3], 0.0f);
  EXPECT_NE(row[4], 0.0f);
  EXPECT_EQ(row[5], 0.0f);
}

TEST(RowInit, DenseEntriesArePositionsInTheTensor) {
  // Rows of 4: the first entry ends inside row 1, the second begins in row 1 and ends inside row 3.
  auto schema =
      Schema("tower", 4, {{InitKind::kUniform, 1.0f, 0, 6}, {InitKind::kUniform, 1e-3f, 7, 13}});
  schema.kind = TableKind::kDense;
  schema.dense_rows = 5;
  std::vector<float> tensor;
  for (protocol::Key key = 0; key < 5; ++key) {
    const auto row = Row(schema, 1, key);
    tensor.insert(tensor.end(), row.begin(), row.end());
  }
  for (size_t i = 0; i < tensor.size(); ++i) {
    if (i < 6) {
      EXPECT_GT(std::fabs(tensor[i]), 1e-3f) << i;
    }
    if (i == 6 || i >= 13) {
      EXPECT_EQ(tensor[i], 0.0f) << i;
    }
    if (i >= 7 && i < 13) {
      EXPECT_NE(tensor[i], 0.0f) << i;
      EXPECT_LE(std::fabs(tensor[i]), 1e-3f) << i;
    }
  }
  EXPECT_EQ(Row(schema, 1, ~protocol::Key{0}), std::vector<float>(4, 0.0f));
}

TEST(RowInit, HasTheMomentsItPromises) {
  constexpr uint32_t kDim = 32;
  constexpr int kRows = 4000;
  for (const InitKind kind : {InitKind::kUniform, InitKind::kNormal}) {
    const RowInit init(Schema("a", kDim, {{kind, 2.0f, 0, kDim}}), 3);
    double sum = 0;
    double squares = 0;
    float least = 0;
    float most = 0;
    for (protocol::Key key = 0; key < kRows; ++key) {
      float row[kDim];
      init.Fill(key, row);
      for (const float x : row) {
        sum += x;
        squares += double{x} * x;
        least = std::min(least, x);
        most = std::max(most, x);
      }
    }
    const double n = kRows * kDim;
    EXPECT_NEAR(sum / n, 0.0, 0.02);
    if (kind == InitKind::kUniform) {
      EXPECT_NEAR(squares / n, 4.0 / 3.0, 0.02);
      EXPECT_GE(least, -2.0f);
      EXPECT_LT(most, 2.0f);
    } else {
      EXPECT_NEAR(squares / n, 4.0, 0.06);
      EXPECT_LT(least, -6.0f);
      EXPECT_GT(most, 6.0f);
    }
  }
}

}  // namespace
}  // namespace freshet::ps
