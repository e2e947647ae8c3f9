// SPDX-License-Identifier: Apache-2.0
// Small questions about text that came from a file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace freshet::stream {

std::string ToLowerAscii(std::string_view text);

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsUtf8(std::string_view text);

// For messages: control characters and bytes that are not ASCII as \xNN, cut after `kMaxPrintable`.
std::string Printable(std::string_view text);
inline constexpr size_t kMaxPrintable = 60;

// "a, b, c"
std::string Joined(const std::vector<std::string>& words);

// ", did you mean 'x'?" with the nearest candidate; empty if none is near.
std::string Suggest(std::string_view text, const std::vector<std::string>& candidates);

}  // namespace freshet::stream
