// SPDX-License-Identifier: Apache-2.0
#include "master/recovery_watch.h"

#include <gtest/gtest.h>

namespace freshet::master {
namespace {

using std::chrono::milliseconds;

base::Instant At(int64_t ms) { return base::Instant(milliseconds(ms)); }

TEST(RecoveryWatch, TellsHowLongAServerWasAwayAndWhatWasLearntAgain) {
  RecoveryWatch watch;
  EXPECT_FALSE(watch.OnServing("ps-0", At(0)));
  watch.OnDeath("ps-0", At(1000), 500);
  EXPECT_TRUE(watch.OnProgress(At(1010), 500).empty()) << "it does not serve yet";
  EXPECT_EQ(watch.OnServing("ps-0", At(1030)), 30);
  EXPECT_FALSE(watch.OnServing("ps-0", At(1040))) << "told once";
  EXPECT_TRUE(watch.OnProgress(At(1050), 420).empty());
  EXPECT_TRUE(watch.OnProgress(At(1100), 499).empty());
  const auto caught_up = watch.OnProgress(At(1200), 510);
  ASSERT_EQ(caught_up.size(), 1u);
  EXPECT_EQ(caught_up[0].replayed_records, 80u);
  EXPECT_EQ(caught_up[0].milliseconds, 200);
  EXPECT_TRUE(watch.empty());
}

TEST(RecoveryWatch, OneThatDiesAgainServesSinceThenButCatchesUpWithTheFirstTime) {
  RecoveryWatch watch;
  watch.OnDeath("ps-0", At(1000), 500);
  EXPECT_EQ(watch.OnServing("ps-0", At(1020)), 20);
  watch.OnDeath("ps-0", At(3000), 450);
  EXPECT_EQ(watch.OnServing("ps-0", At(3025)), 25);
  EXPECT_TRUE(watch.OnProgress(At(3050), 460).empty());
  const auto caught_up = watch.OnProgress(At(4000), 500);
  ASSERT_EQ(caught_up.size(), 1u);
  EXPECT_EQ(caught_up[0].replayed_records, 40u);
  EXPECT_EQ(caught_up[0].milliseconds, 3000);
}

}  // namespace
}  // namespace freshet::master
