// SPDX-License-Identifier: Apache-2.0
// Real files, where they are.
#include <gmock/gmock.h>

#include <set>

#include "tests/base/data_file.h"
#include "tests/stream/testing.h"

namespace freshet::stream {
namespace {

#define NEEDS(path, name)                        \
  const std::string path = base::DataFile(name); \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << base::NoData(name)

TEST(RealDataTest, MovielensRatings) {
  NEEDS(path, "ml-latest-small/ratings.csv");
  auto log = OpenLog(path, *LoadSchema("movielens"));
  ASSERT_EQ(log->end(), 100836u);
  const RecordBatch batch = ReadAll(*log);
  EXPECT_EQ(batch.rows, 100836u);
  EXPECT_EQ(batch.timestamps[0], 964982703000);
  double liked = 0;
  for (float label : batch.labels) liked += label;
  EXPECT_EQ(liked, 48580);
  std::set<uint64_t> users;
  std::set<uint64_t> movies;
  for (uint32_t i = 0; i < batch.rows; ++i) {
    users.insert(batch.sparse[2 * i]);
    movies.insert(batch.sparse[2 * i + 1]);
  }
  EXPECT_EQ(users.size(), 610u);
  EXPECT_EQ(movies.size(), 9724u);
}

TEST(RealDataTest, MovielensTitlesHaveQuotes) {
  NEEDS(path, "ml-latest-small/movies.csv");
  auto log = OpenLog(path, MakeSchema("header: true\ncolumns:\n"
                                      "- {name: movieId, role: label, threshold: 1000}\n"
                                      "- {name: title, role: sparse}\n"
                                      "- {name: genres, role: sparse}\n"));
  ASSERT_EQ(log->end(), 9742u);
  EXPECT_EQ(ReadAll(*log).rows, 9742u);
}

TEST(RealDataTest, CriteoSamplesWithAndWithoutId) {
  for (const auto& [name, rows] : {std::pair{"criteo/kaggle2014_train.tiny.csv", 1999u},
                                   {"criteo/deepctr_criteo_sample.csv", 200u}}) {
    NEEDS(path, name);
    auto log = OpenLog(path, *LoadSchema("criteo-csv"), 5);
    EXPECT_EQ(log->end(), 5 * rows);
    const RecordBatch batch = ReadAll(*log);
    EXPECT_EQ(batch.rows, 5 * rows);
    EXPECT_EQ(batch.dense_count, 13u);
    EXPECT_EQ(batch.sparse_count, 39u);
  }
}

}  // namespace
}  // namespace freshet::stream
