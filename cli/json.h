// SPDX-License-Identifier: Apache-2.0
// Reading the master's JSON without exceptions: what is absent or of another type is the fallback.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace freshet::cli {

// Keeps the order of the keys: what the master says first is printed first.
using Json = nlohmann::ordered_json;

// The member, or null.
const Json& At(const Json& object, std::string_view key);
double NumberAt(const Json& object, std::string_view key, double fallback = 0);
std::string TextAt(const Json& object, std::string_view key);
// The member if it is the boolean true.
bool TrueAt(const Json& object, std::string_view key);

// Indented text; bytes that are no UTF-8 are replaced.
std::string Pretty(const Json& json);

}  // namespace freshet::cli
