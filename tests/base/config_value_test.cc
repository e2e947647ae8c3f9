// SPDX-License-Identifier: Apache-2.0
#include "base/config_value.h"

#include <gtest/gtest.h>

#include "base/config.h"

namespace freshet::base {
namespace {

using namespace std::chrono_literals;

TEST(ConfigValueTest, ByteSizesHaveBinaryUnits) {
  EXPECT_EQ(ParseByteSize("0")->bytes, 0u);
  EXPECT_EQ(ParseByteSize("65536")->bytes, 65536u);
  EXPECT_EQ(ParseByteSize("64KiB")->bytes, 65536u);
  EXPECT_EQ(ParseByteSize("3MiB")->bytes, 3u << 20);
  EXPECT_EQ(ParseByteSize("1TiB")->bytes, uint64_t{1} << 40);
  for (const char* wrong : {"", "KiB", "-1", "1.5GiB", "1 MiB", "1mb", "8388608TiB", "1KiBx"}) {
    EXPECT_FALSE(ParseByteSize(wrong)) << wrong;
  }
}

TEST(ConfigValueTest, ByteSizesAreShownInTheLargestUnitThatDivides) {
  EXPECT_EQ(FormatByteSize({0}), "0");
  EXPECT_EQ(FormatByteSize({1000}), "1000");
  EXPECT_EQ(FormatByteSize(KiB(1536)), "1536KiB");
  EXPECT_EQ(FormatByteSize(GiB(4)), "4GiB");
}

TEST(ConfigValueTest, DurationsAreMillisecondsUnlessTheySayOtherwise) {
  EXPECT_EQ(ParseMilliseconds("500"), 500ms);
  EXPECT_EQ(ParseMilliseconds("500ms"), 500ms);
  EXPECT_EQ(ParseMilliseconds("10s"), 10s);
  EXPECT_EQ(ParseMilliseconds("5m"), 5min);
  EXPECT_EQ(ParseMilliseconds("2h"), 2h);
  for (const char* wrong : {"", "s", "-1", "1.5s", "1d", "99999999999999999999", "9e3"}) {
    EXPECT_FALSE(ParseMilliseconds(wrong)) << wrong;
  }
}

TEST(ConfigValueTest, NumbersAreReadWholeOrNotAtAll) {
  EXPECT_EQ(ParseInteger("-42"), -42);
  EXPECT_FALSE(ParseInteger("42x"));
  EXPECT_FALSE(ParseInteger(""));
  EXPECT_FALSE(ParseInteger("9223372036854775808"));
  EXPECT_EQ(ParseNumber("1e-3"), 0.001);
  EXPECT_FALSE(ParseNumber("inf"));
  EXPECT_FALSE(ParseNumber("1,5"));
  EXPECT_EQ(ParseSwitch("on"), true);
  EXPECT_EQ(ParseSwitch("0"), false);
  EXPECT_FALSE(ParseSwitch(""));
}

}  // namespace
}  // namespace freshet::base
