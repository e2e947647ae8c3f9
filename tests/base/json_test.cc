// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/random.h"

namespace freshet::base {
namespace {

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(text, out);
  return out;
}

TEST(JsonTest, QuotesBackslashesAndControlCharactersAreEscaped) {
  EXPECT_EQ(Quoted("a \"b\" \\ c"), R"("a \"b\" \\ c")");
  EXPECT_EQ(Quoted("1\n2\r3\t4"), R"("1\n2\r3\t4")");
  EXPECT_EQ(Quoted(std::string_view("\0\x1b[", 3)), R"("\u0000\u001b[")");
}

TEST(JsonTest, Utf8IsKeptAndOtherBytesAreReplaced) {
  EXPECT_EQ(Quoted("Zürich 東京 🚀"), "\"Zürich 東京 🚀\"");
  EXPECT_EQ(Quoted("a\xFFz"), "\"a\xEF\xBF\xBDz\"");
  EXPECT_EQ(Quoted("\xC0\xAF"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"") << "overlong";
  EXPECT_EQ(Quoted("\xE2\x82"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"") << "cut off";
  EXPECT_EQ(Quoted("\xED\xA0\x80").size(), 2u + 9u) << "a surrogate";
}

TEST(JsonTest, AnyBytesBecomeValidJson) {
  Random random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (uint64_t left = random.Below(40); left > 0; --left) {
      text += static_cast<char>(random.Below(256));
    }
    EXPECT_TRUE(nlohmann::json::accept(Quoted(text)));
  }
}

}  // namespace
}  // namespace freshet::base
