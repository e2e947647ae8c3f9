// SPDX-License-Identifier: Apache-2.0
// The models learn: progressive AUC (predict, then learn) of one pass in file order.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "tests/base/data_file.h"
#include "tests/worker/model/local_trainer.h"

namespace freshet::worker {
namespace {

constexpr uint32_t kBatchRows = 512;

uint64_t HashField(uint64_t field, const std::string& value) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char c : value) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return base::Mix64(hash + base::Mix64(field));
}

constexpr const char* kRatings = "ml-latest-small/ratings.csv";

// userId,movieId,rating,timestamp; label: rating >= 4. Empty if the file is not there.
std::vector<LocalBatch> ReadRatings() {
  std::ifstream file(base::DataFile(kRatings));
  std::vector<LocalBatch> batches;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    const size_t movie = line.find(',') + 1;
    const size_t rating = line.find(',', movie) + 1;
    if (batches.empty() || batches.back().rows == kBatchRows) batches.emplace_back();
    LocalBatch& batch = batches.back();
    batch.rows++;
    batch.keys.push_back(HashField(0, line.substr(0, movie - 1)));
    batch.keys.push_back(HashField(1, line.substr(movie, rating - 1 - movie)));
    batch.labels.push_back(std::stof(line.substr(rating)) >= 4.0f ? 1.0f : 0.0f);
  }
  return batches;
}

struct Run {
  std::string model;
  std::map<std::string, std::string> config;
  InputShape shape;
  uint64_t seed = 1;
};

protocol::ValidationHistogram Train(const Run& run, const std::vector<LocalBatch>& batches) {
  auto model = CreateModel(run.model, run.config, run.shape);
  EXPECT_TRUE(model.has_value());
  LocalTrainer trainer(**model, run.seed);
  protocol::ValidationHistogram validation;
  for (const LocalBatch& batch : batches) trainer.Step(batch, validation);
  return validation;
}

// What a loop in PyTorch reached on the same file (Adagrad 0.1, dim 16, MLP 64-32, batch 512).
struct Figure {
  const char* model;
  double auc;
};

class MovielensTest : public testing::TestWithParam<Figure> {};

TEST_P(MovielensTest, DefaultsReachTheAucOfAPyTorchLoop) {
  const std::vector<LocalBatch> batches = ReadRatings();
  if (batches.empty()) GTEST_SKIP() << base::NoData(kRatings);
  const Figure figure = GetParam();
  for (const uint64_t seed : {1, 2, 3}) {
    const auto validation = Train({figure.model, {}, {0, 2}, seed}, batches);
    std::cout << figure.model << " seed " << seed << ": auc " << validation.Auc() << " logloss "
              << validation.LogLoss() << "\n";
    EXPECT_EQ(validation.records(), 100836u);
    EXPECT_GE(validation.Auc(), figure.auc - 0.005);
  }
}

INSTANTIATE_TEST_SUITE_P(AllModels, MovielensTest,
                         testing::Values(Figure{"lr", 0.6902}, Figure{"fm", 0.6921},
                                         Figure{"wide_deep", 0.6902}, Figure{"deepfm", 0.7043}),
                         [](const auto& info) { return std::string(info.param.model); });

// Click records with planted weights. `best` holds the predictions of the planted model itself.
struct Planted {
  std::vector<LocalBatch> batches;
  protocol::ValidationHistogram best;
};

constexpr InputShape kPlantedShape{4, 8};

// Nearly normal, as a function of the key.
double PlantedWeight(protocol::Key key) {
  base::Random random(key);
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += random.Uniform();
  return 0.5 * sum;
}

Planted DrawPlanted(uint32_t batches) {
  base::Random random(11);
  Planted out;
  for (uint32_t b = 0; b < batches; ++b) {
    LocalBatch& batch = out.batches.emplace_back();
    batch.rows = kBatchRows;
    for (uint32_t r = 0; r < kBatchRows; ++r) {
      double logit = -1.5;
      for (uint32_t f = 0; f < kPlantedShape.sparse_count; ++f) {
        const auto id = static_cast<uint64_t>(std::pow(200.0, random.Uniform()));
        batch.keys.push_back(base::Mix64(base::Mix64(f) + id));
        logit += PlantedWeight(batch.keys.back());
      }
      for (uint32_t d = 0; d < kPlantedShape.dense_count; ++d) {
        batch.dense.push_back(static_cast<float>(random.Uniform() * 4.0));
        logit += (d % 2 == 0 ? 0.4 : -0.4) * (batch.dense.back() - 2.0);
      }
      batch.labels.push_back(random.Chance(1.0 / (1.0 + std::exp(-logit))) ? 1.0f : 0.0f);
      out.best.Add(static_cast<float>(logit), batch.labels.back());
    }
  }
  return out;
}

class PlantedTest : public testing::TestWithParam<const char*> {};

// The second half of the pass only: the first one has nothing to predict with.
TEST_P(PlantedTest, PassOverPlantedRecordsComesNearTheBestPossibleAuc) {
  const Planted planted = DrawPlanted(300);
  auto model = CreateModel(GetParam(), {}, kPlantedShape);
  ASSERT_TRUE(model.has_value());
  LocalTrainer trainer(**model, 5);
  protocol::ValidationHistogram validation;
  for (size_t b = 0; b < planted.batches.size(); ++b) {
    if (b == planted.batches.size() / 2) validation.Clear();
    trainer.Step(planted.batches[b], validation);
  }
  std::cout << GetParam() << ": auc " << validation.Auc() << ", best possible "
            << planted.best.Auc() << "\n";
  EXPECT_GE(validation.Auc(), planted.best.Auc() - 0.02);
  EXPECT_LE(validation.LogLoss(), planted.best.LogLoss() + 0.02);
}

INSTANTIATE_TEST_SUITE_P(AllModels, PlantedTest, testing::Values("lr", "fm", "wide_deep", "deepfm"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace freshet::worker
