// SPDX-License-Identifier: Apache-2.0
#include "base/config_value.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>
#include <system_error>
#include <utility>

#include "base/config.h"

namespace freshet::base {
namespace {

struct Unit {
  std::string_view suffix;
  uint64_t factor;
};

constexpr std::array<Unit, 6> kByteUnits = {{{"TiB", uint64_t{1} << 40},
                                             {"GiB", uint64_t{1} << 30},
                                             {"MiB", uint64_t{1} << 20},
                                             {"KiB", uint64_t{1} << 10},
                                             {"B", 1},
                                             {"", 1}}};
constexpr std::array<Unit, 5> kTimeUnits = {
    {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"", 1}}};

template <class T>
bool ParseWhole(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// The number times its unit; false when it is malformed or above the largest int64_t.
bool ParseWithUnit(std::string_view text, std::span<const Unit> units, uint64_t& value) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (!ParseWhole(text.substr(0, digits), value)) return false;
  for (const Unit& unit : units) {
    if (unit.suffix != text.substr(digits)) continue;
    constexpr uint64_t kLargest = std::numeric_limits<int64_t>::max();
    if (value > kLargest / unit.factor) return false;
    value *= unit.factor;
    return true;
  }
  return false;
}

tl::unexpected<Error> NotA(std::string_view text, std::string_view what) {
  return Fail(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not {}", text, what));
}

}  // namespace

Result<bool> ParseSwitch(std::string_view text) {
  for (const std::string_view yes : {"true", "yes", "on", "1"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"false", "no", "off", "0"}) {
    if (text == no) return false;
  }
  return NotA(text, "true or false");
}

Result<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  if (!ParseWhole(text, value)) return NotA(text, "a whole number");
  return value;
}

Result<double> ParseNumber(std::string_view text) {
  double value = 0;
  if (!ParseWhole(text, value) || !std::isfinite(value)) return NotA(text, "a number");
  return value;
}

Result<std::chrono::milliseconds> ParseMilliseconds(std::string_view text) {
  uint64_t value = 0;
  if (!ParseWithUnit(text, kTimeUnits, value)) {
    return NotA(text, "a duration like 500, 500ms, 10s, 5m or 1h");
  }
  return std::chrono::milliseconds(static_cast<int64_t>(value));
}

Result<ByteSize> ParseByteSize(std::string_view text) {
  uint64_t value = 0;
  if (!ParseWithUnit(text, kByteUnits, value)) {
    return NotA(text, "a size like 65536, 64KiB, 64MiB or 2GiB");
  }
  return ByteSize{value};
}

std::string FormatByteSize(ByteSize size) {
  for (const Unit& unit : kByteUnits) {
    if (size.bytes != 0 && unit.factor > 1 && size.bytes % unit.factor == 0) {
      return fmt::format("{}{}", size.bytes / unit.factor, unit.suffix);
    }
  }
  return fmt::format("{}", size.bytes);
}

}  // namespace freshet::base
