// SPDX-License-Identifier: Apache-2.0
// Numbers, times and tables for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/json.h"

namespace freshet::cli {

std::string BytesText(double bytes);          // "512 B", "1.5 MiB"
std::string AgeText(double seconds);          // "42s", "3m10s", "2h05m", "4d03h"
std::string TimeText(int64_t unix_ms);        // "2026-11-02T10:20:30.123Z"
std::string MeasureText(const Json& number);  // "0.7412"; "-" if it is no number

// Rows of equal length, the first one the heads; columns as wide as needed, two blanks between.
std::string TableText(const std::vector<std::vector<std::string>>& rows);

}  // namespace freshet::cli
