// SPDX-License-Identifier: Apache-2.0
#include "protocol/view.h"

#include <gtest/gtest.h>

namespace freshet::protocol {
namespace {

View SoundView() {
  View view;
  view.number = ViewNumber(3);
  view.nodes = {{"ps-0", Incarnation(1), "tcp://127.0.0.1:1"},
                {"ps-1", Incarnation(2), "tcp://127.0.0.1:2"}};
  view.places = {{0, Tenure(1), {}, kNoNode}, {1, Tenure(1), MigrationId(9), 0}, {}};
  view.tables = {{kAuditTable, AuditTableSchema()}};
  return view;
}

std::string Refusal(const View& view) {
  const auto result = ValidateView(view);
  return result ? "" : result.error().message;
}

TEST(View, ASoundOneIsTaken) { EXPECT_EQ(Refusal(SoundView()), ""); }

TEST(View, FindsNodesAndTablesByName) {
  const View view = SoundView();
  EXPECT_EQ(view.FindNode("ps-1"), 1);
  EXPECT_FALSE(view.FindNode("ps-2").has_value());
  ASSERT_NE(view.FindTable("freshet_audit"), nullptr);
  EXPECT_EQ(view.FindTable("freshet_audit")->id, kAuditTable);
  EXPECT_EQ(view.FindTable("other"), nullptr);
  EXPECT_EQ(view.partitions(), 3u);
}

TEST(View, APlaceOnANodeThatIsNotThereIsRefused) {
  View view = SoundView();
  view.places[0].node = 2;
  EXPECT_NE(Refusal(view).find("partition 0"), std::string::npos);
  view = SoundView();
  view.places[1].target = 7;
  EXPECT_NE(Refusal(view).find("partition 1"), std::string::npos);
}

TEST(View, NodesWithoutANameOrWithTheSameOneAreRefused) {
  View view = SoundView();
  view.nodes[1].name = "ps-0";
  EXPECT_NE(Refusal(view).find("ps-0"), std::string::npos);
  view.nodes[1].name = "";
  EXPECT_NE(Refusal(view), "");
}

TEST(View, TablesOutOfOrderOrUnsoundAreRefused) {
  View view = SoundView();
  view.tables[0].id = TableId(1);
  EXPECT_NE(Refusal(view), "");
  view = SoundView();
  view.tables[0].schema.dim = 0;
  EXPECT_NE(Refusal(view).find("freshet_audit"), std::string::npos);
}

TEST(View, MorePartitionsThanThereMayBeAreRefused) {
  View view = SoundView();
  view.places.resize(kMaxPartitions + 1);
  EXPECT_NE(Refusal(view), "");
}

}  // namespace
}  // namespace freshet::protocol
