// SPDX-License-Identifier: Apache-2.0
// What CreateModel accepts and which tables it declares.
#include "worker/model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "worker/model/config.h"

namespace freshet::worker {
namespace {

using base::ErrorCode;
using protocol::InitKind;
using protocol::OptimizerKind;
using protocol::TableKind;
using protocol::TableSchema;
using testing::HasSubstr;
using Config = std::map<std::string, std::string>;

constexpr InputShape kShape{13, 26};

std::vector<TableSchema> TablesOf(const std::string& name, const Config& config = {}) {
  auto model = CreateModel(name, config, kShape);
  EXPECT_TRUE(model.has_value()) << (model ? "" : model.error().message);
  return model ? (*model)->Tables() : std::vector<TableSchema>{};
}

base::Error ErrorOf(const std::string& name, const Config& config, InputShape shape = kShape) {
  auto model = CreateModel(name, config, shape);
  EXPECT_FALSE(model.has_value());
  return model ? base::Error{} : model.error();
}

TEST(ModelTest, TablesOfEveryModelAreValidAndEndWithTheDenseOne) {
  for (const std::string& name : KnownModels()) {
    const auto tables = TablesOf(name);
    for (const TableSchema& table : tables) {
      EXPECT_TRUE(protocol::ValidateTable(table).has_value()) << name << " " << table.name;
      EXPECT_EQ(table.kind == TableKind::kDense, &table == &tables.back());
    }
    EXPECT_EQ(tables.back().name, "dense");
    EXPECT_EQ(tables.back().dim, 64u);
  }
}

TEST(ModelTest, TablesHaveTheDocumentedNamesAndDimensions) {
  EXPECT_EQ(TablesOf("lr")[0].name, "linear");
  EXPECT_EQ(TablesOf("lr")[0].dim, 1u);
  EXPECT_EQ(TablesOf("fm")[0].name, "embedding");
  EXPECT_EQ(TablesOf("fm")[0].dim, 17u);
  EXPECT_EQ(TablesOf("deepfm", {{"dim", "8"}})[0].dim, 9u);
  const auto wide_deep = TablesOf("wide_deep");
  ASSERT_EQ(wide_deep.size(), 3u);
  EXPECT_EQ(wide_deep[0].name, "wide");
  EXPECT_EQ(wide_deep[0].dim, 1u);
  EXPECT_EQ(wide_deep[0].optimizer.kind, OptimizerKind::kFtrl);
  EXPECT_EQ(wide_deep[1].name, "embedding");
  EXPECT_EQ(wide_deep[1].dim, 16u);
}

TEST(ModelTest, DenseTableHoldsBiasDenseColumnsAndLayers) {
  EXPECT_EQ(TablesOf("lr")[1].dense_rows, 1u);  // 1 + 13 floats
  const TableSchema dense = TablesOf("deepfm", {{"hidden", "64-32"}}).back();
  const uint64_t inputs = 26 * 16 + 13;
  const uint64_t first = 14;
  const uint64_t second = first + (inputs + 1) * 64;
  const uint64_t output = second + 65 * 32;
  EXPECT_EQ(dense.dense_rows, (output + 32 + 63) / 64);
  ASSERT_EQ(dense.init.size(), 3u);
  EXPECT_EQ(dense.init[0].begin_float, first);
  EXPECT_EQ(dense.init[0].end_float, first + inputs * 64);
  EXPECT_EQ(dense.init[1].begin_float, second);
  EXPECT_EQ(dense.init[1].end_float, second + 64 * 32);
  EXPECT_EQ(dense.init[2].begin_float, output);
  EXPECT_EQ(dense.init[2].end_float, output + 32);
  for (const auto& init : dense.init) EXPECT_EQ(init.kind, InitKind::kUniform);
  EXPECT_NEAR(dense.init[1].scale, std::sqrt(6.0 / 64), 1e-6);
}

TEST(ModelTest, FirstOrderWeightsStartAtZeroAndVectorsDoNot) {
  const TableSchema embedding = TablesOf("fm", {{"init_scale", "0.5"}})[0];
  ASSERT_EQ(embedding.init.size(), 1u);
  EXPECT_EQ(embedding.init[0].begin_float, 1u);
  EXPECT_EQ(embedding.init[0].end_float, 17u);
  EXPECT_EQ(embedding.init[0].scale, 0.5f);
  EXPECT_TRUE(TablesOf("lr")[0].init.empty());
}

TEST(ModelTest, ConfigReachesTheOptimizers) {
  const auto tables = TablesOf("wide_deep", {{"optimizer", "adam"},
                                             {"learning_rate", "0.002"},
                                             {"dense_learning_rate", "0.003"},
                                             {"wide_learning_rate", "0.5"},
                                             {"l2", "1e-5"}});
  EXPECT_EQ(tables[0].optimizer.kind, OptimizerKind::kFtrl);
  EXPECT_EQ(tables[0].optimizer.learning_rate, 0.5f);
  EXPECT_EQ(tables[1].optimizer.kind, OptimizerKind::kAdam);
  EXPECT_EQ(tables[1].optimizer.learning_rate, 0.002f);
  EXPECT_EQ(tables[2].optimizer.learning_rate, 0.003f);
  for (const TableSchema& table : tables) EXPECT_EQ(table.optimizer.l2, 1e-5f);
}

TEST(ModelTest, DefaultLearningRatesFitTheOptimizer) {
  EXPECT_EQ(TablesOf("deepfm")[0].optimizer.kind, OptimizerKind::kAdagrad);
  EXPECT_FLOAT_EQ(TablesOf("deepfm")[0].optimizer.learning_rate, 0.1f);
  EXPECT_FLOAT_EQ(TablesOf("deepfm")[1].optimizer.learning_rate, 0.02f);
  EXPECT_FLOAT_EQ(TablesOf("lr")[1].optimizer.learning_rate, 0.05f);
  EXPECT_FLOAT_EQ(TablesOf("deepfm", {{"learning_rate", "1"}})[1].optimizer.learning_rate, 0.2f);
  EXPECT_FLOAT_EQ(TablesOf("deepfm", {{"optimizer", "adam"}})[1].optimizer.learning_rate, 0.001f);
}

TEST(ModelTest, UnknownModelListsTheKnownOnes) {
  const base::Error error = ErrorOf("resnet", {});
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_THAT(error.message, HasSubstr("'resnet'"));
  EXPECT_THAT(error.message, HasSubstr("lr, fm, wide_deep, deepfm"));
}

TEST(ModelTest, UnknownKeyListsTheKnownOnes) {
  const base::Error error = ErrorOf("deepfm", {{"hiden", "64"}});
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("'hiden'"));
  EXPECT_THAT(error.message, HasSubstr("dim, hidden, init_scale"));
  // A key that has no effect on this model is as wrong as a mistyped one.
  EXPECT_EQ(ErrorOf("lr", {{"dim", "8"}}).code, ErrorCode::kInvalidArgument);
}

TEST(ModelTest, BadValuesAreRefusedByName) {
  const std::pair<std::string, std::string> bad[] = {
      {"dim", "0"},          {"dim", "-1"},
      {"dim", "4096"},       {"dim", "x"},
      {"dim", ""},           {"dim", "16 "},
      {"hidden", ""},        {"hidden", "64-"},
      {"hidden", "-64"},     {"hidden", "64--32"},
      {"hidden", "0"},       {"hidden", "9000"},
      {"hidden", "64,32"},   {"l2", "-1"},
      {"l2", "nan"},         {"l2", "inf"},
      {"optimizer", "sum"},  {"optimizer", "adamw"},
      {"init_scale", "-1"},  {"learning_rate", "0"},
      {"learning_rate", ""}, {"learning_rate", "1e9"}};
  for (const auto& [key, value] : bad) {
    const base::Error error = ErrorOf("deepfm", {{key, value}});
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument) << key << "=" << value;
    EXPECT_THAT(error.message, HasSubstr(key));
  }
  EXPECT_THAT(ErrorOf("fm", {{"optimizer", "adamw"}}).message, HasSubstr("adagrad"));
}

TEST(ModelTest, ShapesThatCannotLearnOrFitAreRefused) {
  EXPECT_EQ(ErrorOf("lr", {}, {0, 0}).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ErrorOf("deepfm", {{"dim", "4095"}, {"hidden", "8192-8192"}}).code,
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace freshet::worker
