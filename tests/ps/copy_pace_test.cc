// SPDX-License-Identifier: Apache-2.0
#include "ps/copy_pace.h"

#include <gtest/gtest.h>

namespace freshet::ps {
namespace {

using base::Duration;
using base::Instant;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kNone{0};
constexpr uint64_t kSlice = 512 << 10;

// Asks one slice after the other, as soon as it may, each of which takes `took`: how many in a second.
int SlicesInASecond(CopyPace& pace, Duration took, Duration quiet) {
  Instant now;
  const Instant end = now + seconds(1);
  int slices = 0;
  for (; now < end; ++slices) {
    now += pace.Wait(now) + took;
    pace.OnSlice(now, {took, quiet, kSlice});
  }
  return slices;
}

TEST(CopyPace, TakesItsShareOfTheTimeWhileWorkersAreServed) {
  CopyPace pace({.share_percent = 20});
  EXPECT_NEAR(SlicesInASecond(pace, milliseconds(2), kNone), 100, 3);
  EXPECT_TRUE(pace.gives_way());
}

TEST(CopyPace, SlowerAnswersMakeItWaitLonger) {
  CopyPace pace({.share_percent = 25});
  EXPECT_NEAR(SlicesInASecond(pace, milliseconds(1), kNone), 250, 5);
  CopyPace slow({.share_percent = 25});
  EXPECT_NEAR(SlicesInASecond(slow, milliseconds(10), kNone), 25, 2);
}

TEST(CopyPace, DoesNotWaitWhenWorkersAreQuiet) {
  CopyPace pace({.share_percent = 20});
  EXPECT_EQ(SlicesInASecond(pace, milliseconds(2), seconds(1)), 500);
  EXPECT_FALSE(pace.gives_way());
  EXPECT_EQ(pace.MaxSlices(), 4u);
}

TEST(CopyPace, TheWholeShareIsAsFastAsItGoes) {
  CopyPace pace({.share_percent = 100});
  EXPECT_EQ(SlicesInASecond(pace, milliseconds(2), kNone), 500);
}

TEST(CopyPace, BandwidthIsKeptWhetherOrNotWorkersAreServed) {
  CopyPace quiet({.bytes_per_second = 10 * kSlice});
  EXPECT_NEAR(SlicesInASecond(quiet, milliseconds(1), seconds(1)), 10, 1);
  CopyPace served({.bytes_per_second = 10 * kSlice});
  EXPECT_NEAR(SlicesInASecond(served, milliseconds(1), kNone), 10, 1);
}

TEST(CopyPace, OneSliceThatTookForEverDelaysTheNextByABoundedTime) {
  CopyPace pace({.share_percent = 1});
  const Instant now{seconds(60)};
  pace.OnSlice(now, {seconds(5), kNone, kSlice});
  EXPECT_LE(pace.Wait(now), milliseconds(200));
}

}  // namespace
}  // namespace freshet::ps
