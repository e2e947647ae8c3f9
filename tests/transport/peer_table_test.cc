// SPDX-License-Identifier: Apache-2.0
#include "transport/peer_table.h"

#include <gtest/gtest.h>

namespace freshet::transport {
namespace {

TEST(PeerTableTest, APeerKeepsItsId) {
  PeerIds ids;
  PeerTable peers(ids, 4);
  const PeerId a = peers.Heard("a");
  const PeerId b = peers.Heard("b");
  EXPECT_NE(a, b);
  EXPECT_EQ(peers.Heard("a"), a);
  ASSERT_NE(peers.RoutingIdOf(b), nullptr);
  EXPECT_EQ(*peers.RoutingIdOf(b), "b");
  EXPECT_EQ(peers.RoutingIdOf(PeerId(77)), nullptr);
}

TEST(PeerTableTest, TheOneSilentForLongestIsForgottenAndGetsANewId) {
  PeerIds ids;
  PeerTable peers(ids, 2);
  const PeerId a = peers.Heard("a");
  const PeerId b = peers.Heard("b");
  peers.Heard("a");
  peers.Heard("c");
  EXPECT_EQ(peers.size(), 2u);
  EXPECT_EQ(peers.forgotten(), 1u);
  EXPECT_NE(peers.RoutingIdOf(a), nullptr);
  EXPECT_EQ(peers.RoutingIdOf(b), nullptr);
  EXPECT_GT(peers.Heard("b"), b);
}

TEST(PeerTableTest, AForgottenPeerStaysUnknownUntilItSpeaks) {
  PeerIds ids;
  PeerTable peers(ids, 2);
  const PeerId a = peers.Heard("a");
  peers.Forget(a);
  peers.Forget(a);
  EXPECT_EQ(peers.size(), 0u);
  EXPECT_EQ(peers.RoutingIdOf(a), nullptr);
  EXPECT_NE(peers.Heard("a"), a);
}

}  // namespace
}  // namespace freshet::transport
