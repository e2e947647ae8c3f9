// SPDX-License-Identifier: Apache-2.0
#include "worker/client/row_copy.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/random.h"

namespace freshet::worker {
namespace {

std::vector<uint32_t> Shuffled(uint32_t rows, base::Random& random) {
  std::vector<uint32_t> order(rows);
  std::iota(order.begin(), order.end(), 0u);
  for (uint32_t i = rows; i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  return order;
}

// All dimensions with a loop of their own, some without, and rows that end in the middle of a line.
TEST(RowCopy, GathersInOrderAndScattersBack) {
  base::Random random(1);
  for (const uint32_t dim : {1u, 2u, 3u, 8u, 15u, 16u, 17u, 32u, 33u, 64u, 200u}) {
    for (const uint32_t rows : {0u, 1u, 5u, 16u, 17u, 300u}) {
      const std::vector<uint32_t> order = Shuffled(rows, random);
      std::vector<float> table(rows * dim);
      for (float& value : table) value = static_cast<float>(random.Uniform());
      std::vector<float> grouped(table.size());
      GatherRows(table.data(), order, dim, grouped.data());
      for (uint32_t i = 0; i < rows; ++i) {
        for (uint32_t d = 0; d < dim; ++d) {
          ASSERT_EQ(grouped[i * dim + d], table[order[i] * dim + d]) << dim << " " << rows;
        }
      }
      std::vector<float> back(table.size());
      ScatterRows(grouped.data(), order, dim, back.data());
      ASSERT_EQ(back, table) << dim << " " << rows;
    }
  }
}

TEST(RowCopy, TouchesOnlyTheRowsThatAreNamed) {
  const std::vector<float> table = {0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<float> out(4, -1);
  GatherRows(table.data(), std::vector<uint32_t>{3}, 2, out.data());
  EXPECT_EQ(out, (std::vector<float>{6, 7, -1, -1}));
  std::vector<float> rows(8, -1);
  ScatterRows(out.data(), std::vector<uint32_t>{1}, 2, rows.data());
  EXPECT_EQ(rows, (std::vector<float>{-1, -1, 6, 7, -1, -1, -1, -1}));
}

}  // namespace
}  // namespace freshet::worker
