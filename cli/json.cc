// SPDX-License-Identifier: Apache-2.0
#include "cli/json.h"

namespace freshet::cli {

const Json& At(const Json& object, std::string_view key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(std::string(key));
  return found == object.end() ? kNull : *found;
}

double NumberAt(const Json& object, std::string_view key, double fallback) {
  const Json& value = At(object, key);
  return value.is_number() ? value.get<double>() : fallback;
}

std::string TextAt(const Json& object, std::string_view key) {
  const Json& value = At(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool TrueAt(const Json& object, std::string_view key) {
  const Json& value = At(object, key);
  return value.is_boolean() && value.get<bool>();
}

std::string Pretty(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace freshet::cli
