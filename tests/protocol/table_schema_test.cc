// SPDX-License-Identifier: Apache-2.0
#include "protocol/table_schema.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

namespace freshet::protocol {
namespace {

TableSchema Sparse() {
  TableSchema schema;
  schema.name = "embedding";
  schema.dim = 16;
  schema.init = {{InitKind::kUniform, 0.05f, 0, 16}};
  return schema;
}

TableSchema Dense() {
  TableSchema schema;
  schema.name = "tower";
  schema.kind = TableKind::kDense;
  schema.dim = 64;
  schema.dense_rows = 10;
  schema.init = {{InitKind::kNormal, 0.1f, 100, 640}, {InitKind::kUniform, 0.1f, 0, 100}};
  return schema;
}

void ExpectRefused(TableSchema schema, const std::string& field,
                   const std::function<void(TableSchema&)>& spoil) {
  ASSERT_TRUE(ValidateTable(schema));
  spoil(schema);
  const auto ok = ValidateTable(schema);
  ASSERT_FALSE(ok) << field;
  EXPECT_EQ(ok.error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_NE(ok.error().message.find(field), std::string::npos) << ok.error().message;
}

TEST(ValidateTable, TakesSoundTables) {
  EXPECT_TRUE(ValidateTable(Sparse()));
  EXPECT_TRUE(ValidateTable(Dense()));
  EXPECT_TRUE(ValidateTable(AuditTableSchema()));
}

TEST(ValidateTable, NamesTheBadField) {
  ExpectRefused(Sparse(), "name", [](auto& s) { s.name = ""; });
  ExpectRefused(Sparse(), "name", [](auto& s) { s.name = "Embedding"; });
  ExpectRefused(Sparse(), "name", [](auto& s) { s.name = std::string(65, 'a'); });
  ExpectRefused(Sparse(), "dim", [](auto& s) { s.dim = 0; });
  ExpectRefused(Sparse(), "dim", [](auto& s) { s.dim = kMaxDim + 1; });
  ExpectRefused(Sparse(), "kind", [](auto& s) { s.kind = static_cast<TableKind>(9); });
  ExpectRefused(Sparse(), "dense_rows", [](auto& s) { s.dense_rows = 1; });
  ExpectRefused(Dense(), "dense_rows", [](auto& s) { s.dense_rows = 0; });
  ExpectRefused(Dense(), "dense_rows", [](auto& s) { s.dense_rows = UINT64_MAX; });
  ExpectRefused(Sparse(), "optimizer",
                [](auto& s) { s.optimizer.kind = static_cast<OptimizerKind>(0); });
  ExpectRefused(Sparse(), "learning_rate", [](auto& s) { s.optimizer.learning_rate = 0; });
  ExpectRefused(Sparse(), "learning_rate", [](auto& s) { s.optimizer.learning_rate = NAN; });
  ExpectRefused(Sparse(), "momentum", [](auto& s) { s.optimizer.momentum = 1.0f; });
  ExpectRefused(Sparse(), "initial_accumulator",
                [](auto& s) { s.optimizer.initial_accumulator = -1.0f; });
  ExpectRefused(Sparse(), "epsilon", [](auto& s) { s.optimizer.epsilon = 0; });
  ExpectRefused(Sparse(), "beta1", [](auto& s) { s.optimizer.beta1 = 1.0f; });
  ExpectRefused(Sparse(), "beta2", [](auto& s) { s.optimizer.beta2 = -0.5f; });
  ExpectRefused(Sparse(), "decay", [](auto& s) { s.optimizer.decay = 2.0f; });
  ExpectRefused(Sparse(), "l1", [](auto& s) { s.optimizer.l1 = -1.0f; });
  ExpectRefused(Sparse(), "l2", [](auto& s) { s.optimizer.l2 = INFINITY; });
  ExpectRefused(Sparse(), "lr_power", [](auto& s) { s.optimizer.lr_power = 0.5f; });
  ExpectRefused(Sparse(), "ftrl_beta", [](auto& s) { s.optimizer.ftrl_beta = -1.0f; });
}

TEST(ValidateTable, ChecksInitRanges) {
  ExpectRefused(Sparse(), "init", [](auto& s) { s.init[0].end_float = 17; });
  ExpectRefused(Sparse(), "init", [](auto& s) { s.init[0].begin_float = 16; });
  ExpectRefused(Sparse(), "init", [](auto& s) { s.init[0].scale = -1.0f; });
  ExpectRefused(Sparse(), "init", [](auto& s) { s.init[0].kind = static_cast<InitKind>(7); });
  ExpectRefused(Dense(), "overlap", [](auto& s) { s.init[1].end_float = 101; });
  ExpectRefused(AuditTableSchema(), "init", [](auto& s) {
    s.init = {{InitKind::kUniform, 0.1f, 0, 2}};
  });
  ExpectRefused(AuditTableSchema(), "dim", [](auto& s) { s.dim = 7; });
}

TEST(StateFloats, IsWhatTheOptimizerKeeps) {
  TableSchema schema = Sparse();
  const auto floats = [&schema](OptimizerKind kind) {
    schema.optimizer.kind = kind;
    return StateFloats(schema);
  };
  EXPECT_EQ(floats(OptimizerKind::kSgd), 0u);
  EXPECT_EQ(floats(OptimizerKind::kMomentum), 16u);
  EXPECT_EQ(floats(OptimizerKind::kAdagrad), 16u);
  EXPECT_EQ(floats(OptimizerKind::kRmsprop), 16u);
  EXPECT_EQ(floats(OptimizerKind::kFtrl), 32u);
  EXPECT_EQ(floats(OptimizerKind::kAdam), 33u);
  EXPECT_EQ(floats(OptimizerKind::kSum), 0u);
}

TEST(ParseOptimizer, KnowsItsNamesAndListsThem) {
  EXPECT_EQ(*ParseOptimizer("adagrad"), OptimizerKind::kAdagrad);
  EXPECT_EQ(*ParseOptimizer("ftrl"), OptimizerKind::kFtrl);
  const auto unknown = ParseOptimizer("adamw");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, base::ErrorCode::kNotFound);
  EXPECT_NE(unknown.error().message.find("sgd, momentum, adagrad, adam, ftrl, rmsprop, sum"),
            std::string::npos);
}

// A cluster's images are worthless if this ever changes.
TEST(PartitionOf, StaysWhatItWas) {
  const uint16_t expected[] = {226, 145, 151, 29, 110, 99};
  for (Key key = 0; key < 6; ++key) {
    EXPECT_EQ(PartitionOf(kAuditTable, key, 256).value(), expected[key]);
  }
  EXPECT_EQ(PartitionOf(TableId(3), 0, 256).value(), 114);
  EXPECT_EQ(PartitionOf(TableId(3), 1, 256).value(), 206);
  EXPECT_EQ(PartitionOf(TableId(3), Key{1} << 63, 256).value(), 131);
  EXPECT_EQ(PartitionOf(TableId(3), ~Key{0}, 256).value(), 208);
  EXPECT_EQ(PartitionOf(TableId(1), 42, 1).value(), 0);
}

TEST(PartitionOf, SpreadsNeighbouringKeysEvenly) {
  constexpr uint32_t kPartitions = 100;
  std::vector<int> count(kPartitions);
  for (Key key = 0; key < 100'000; ++key)
    ++count[PartitionOf(TableId(1), key, kPartitions).value()];
  for (const int c : count) {
    EXPECT_GT(c, 1000 - 200);
    EXPECT_LT(c, 1000 + 200);
  }
}

}  // namespace
}  // namespace freshet::protocol
