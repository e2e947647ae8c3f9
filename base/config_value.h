// SPDX-License-Identifier: Apache-2.0
// How the text of a configuration value becomes a value. Errors say what is wrong with the text
// and what would be right; the caller says where it stood.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace freshet::base {

Result<bool> ParseSwitch(std::string_view text);
Result<int64_t> ParseInteger(std::string_view text);
// Finite numbers only.
Result<double> ParseNumber(std::string_view text);
// "500", "500ms", "10s", "5m", "1h"; a bare number is milliseconds.
Result<std::chrono::milliseconds> ParseMilliseconds(std::string_view text);

}  // namespace freshet::base
