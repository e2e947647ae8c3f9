// SPDX-License-Identifier: Apache-2.0
#include "worker/model/key_dedup.h"

#include <gtest/gtest.h>

#include <unordered_map>
#include <vector>

#include "base/random.h"

namespace freshet::worker {
namespace {

using protocol::Key;

std::vector<Key> ToVector(std::span<const Key> keys) { return {keys.begin(), keys.end()}; }

void ExpectAsWithAMap(const KeyDedup& dedup, const std::vector<Key>& keys) {
  std::unordered_map<Key, uint32_t> first;
  std::vector<Key> distinct;
  ASSERT_EQ(dedup.indices().size(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto [found, fresh] = first.try_emplace(keys[i], static_cast<uint32_t>(distinct.size()));
    if (fresh) distinct.push_back(keys[i]);
    ASSERT_EQ(dedup.indices()[i], found->second) << "occurrence " << i;
  }
  EXPECT_EQ(ToVector(dedup.distinct()), distinct);
}

TEST(KeyDedupTest, KeysComeInTheOrderOfTheirFirstOccurrence) {
  KeyDedup dedup;
  dedup.Assign(std::vector<Key>{9, 4, 9, 0, 4, ~Key{0}, 0});
  EXPECT_EQ(ToVector(dedup.distinct()), (std::vector<Key>{9, 4, 0, ~Key{0}}));
  const std::vector<uint32_t> expected = {0, 1, 0, 2, 1, 3, 2};
  EXPECT_EQ(std::vector<uint32_t>(dedup.indices().begin(), dedup.indices().end()), expected);
}

TEST(KeyDedupTest, RandomBatchesOfAnySizeAgreeWithAMap) {
  KeyDedup dedup;
  base::Random random(5);
  for (int batch = 0; batch < 300; ++batch) {
    const uint64_t values = 1 + random.Below(5000);
    const uint64_t kind = random.Below(4);
    std::vector<Key> keys(random.Below(4000));
    for (Key& key : keys) {
      const uint64_t value = random.Below(values);
      key = kind == 0   ? value
            : kind == 1 ? base::Mix64(value)
            : kind == 2 ? value << 32
                        : value << 52;
    }
    dedup.Assign(keys);
    ExpectAsWithAMap(dedup, keys);
  }
}

TEST(KeyDedupTest, KeysOfAnEarlierBatchAreForgotten) {
  KeyDedup dedup;
  dedup.Assign(std::vector<Key>{1, 2, 3});
  dedup.Assign(std::vector<Key>{3});
  EXPECT_EQ(ToVector(dedup.distinct()), (std::vector<Key>{3}));
  EXPECT_EQ(dedup.indices()[0], 0u);
  dedup.Assign({});
  EXPECT_TRUE(dedup.distinct().empty());
  EXPECT_TRUE(dedup.indices().empty());
}

TEST(KeyDedupTest, MemoryStaysWhereItIsOnceTheLargestBatchWasSeen) {
  KeyDedup dedup;
  base::Random random(6);
  std::vector<Key> keys(3000);
  for (Key& key : keys) key = random.Next();
  dedup.Assign(keys);
  const auto* indices = dedup.indices().data();
  const auto* distinct = dedup.distinct().data();
  for (size_t count : {1u, 2999u, 64u, 3000u}) {
    for (Key& key : keys) key = random.Next();
    dedup.Assign(std::span(keys).first(count));
    EXPECT_EQ(dedup.indices().data(), indices);
    EXPECT_EQ(dedup.distinct().data(), distinct);
    EXPECT_EQ(dedup.distinct().size(), count);
  }
}

}  // namespace
}  // namespace freshet::worker
