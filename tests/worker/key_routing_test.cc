// SPDX-License-Identifier: Apache-2.0
#include "worker/client/key_routing.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "base/random.h"
#include "protocol/table_schema.h"

namespace freshet::worker {
namespace {

using protocol::Key;
using protocol::TableId;

void CheckRouting(const KeyRouting& routing, TableId table, const std::vector<Key>& keys,
                  uint32_t partitions) {
  ASSERT_EQ(routing.table(), table);
  ASSERT_EQ(routing.partitions(), partitions);
  ASSERT_EQ(routing.size(), keys.size());
  ASSERT_EQ(routing.begin(0), 0u);
  ASSERT_EQ(routing.begin(partitions), keys.size());
  std::set<uint32_t> seen;
  for (uint32_t p = 0; p < partitions; ++p) {
    ASSERT_LE(routing.begin(p), routing.begin(p + 1));
    for (uint32_t i = routing.begin(p); i < routing.begin(p + 1); ++i) {
      EXPECT_EQ(protocol::PartitionOf(table, routing.keys()[i], partitions).value(), p);
      EXPECT_EQ(routing.keys()[i], keys[routing.order()[i]]);
      EXPECT_TRUE(seen.insert(routing.order()[i]).second);
      // Keys of one partition keep their order.
      if (i == routing.begin(p)) continue;
      EXPECT_LT(routing.order()[i - 1], routing.order()[i]);
    }
  }
}

TEST(KeyRouting, GroupsEveryKeyByItsPartition) {
  base::Random random(9);
  KeyRouting routing;  // one for all: what the last use left behind must not show
  for (int round = 0; round < 200; ++round) {
    const auto partitions = static_cast<uint32_t>(1 + random.Below(300));
    const TableId table(static_cast<uint16_t>(random.Below(4)));
    std::vector<Key> keys(random.Below(500));
    for (Key& key : keys) key = random.Next() >> random.Below(60);
    routing.Build(table, keys, partitions);
    CheckRouting(routing, table, keys, partitions);
  }
}

TEST(KeyRouting, NoKeysGiveEmptyPartitions) {
  KeyRouting routing;
  routing.Build(TableId(1), {}, 7);
  CheckRouting(routing, TableId(1), {}, 7);
}

}  // namespace
}  // namespace freshet::worker
