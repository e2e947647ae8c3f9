// SPDX-License-Identifier: Apache-2.0
// The numbers in a record: text to double, to time, to bucket.
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>

#include "stream/record_parser.h"

namespace freshet::stream {
namespace {

constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                   1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
constexpr size_t kMaxFastDigits = 15;  // exact as a double
constexpr int64_t kMillisPerHour = 3'600'000;
constexpr int64_t kMaxTimestampMs = int64_t{1} << 55;  // a million years

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool ParseAnyNumber(std::string_view text, double& value) {
  text = Trim(text);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end && !text.empty() && std::isfinite(value);
}

int64_t LogSquaredBucket(double value) {
  if (value < 3) return static_cast<int64_t>(std::floor(std::max(value, -1e6)));
  const double log = std::log(value);
  return 3 + static_cast<int64_t>(log * log);
}

}  // namespace

bool ParseNumber(std::string_view text, double& value) {
  const char* at = text.data();
  const char* end = at + text.size();
  const bool negative = at < end && *at == '-';
  if (negative) ++at;
  // A number of at most 15 digits and a power of ten up to 10^15 are exact doubles, so that one
  // division gives the correctly rounded value.
  uint64_t mantissa = 0;
  size_t digits = 0;
  size_t fraction = 0;
  bool point = false;
  for (; at < end; ++at) {
    const auto digit = static_cast<unsigned char>(*at - '0');
    if (digit <= 9) {
      mantissa = mantissa * 10 + digit;
      fraction += point ? 1 : 0;
      if (++digits > kMaxFastDigits) return ParseAnyNumber(text, value);
    } else if (*at == '.' && !point) {
      point = true;
    } else {
      return ParseAnyNumber(text, value);
    }
  }
  if (digits == 0) return ParseAnyNumber(text, value);
  const double magnitude = static_cast<double>(mantissa) / kPowersOfTen[fraction];
  value = negative ? -magnitude : magnitude;
  return true;
}

std::optional<int64_t> ParseTimestampMs(std::string_view text, TimestampFormat format) {
  double number = 0;
  int64_t whole = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, whole);
  const bool exact = error == std::errc() && stop == end && !text.empty();
  if (!exact && !ParseNumber(text, number)) return std::nullopt;
  if (format == TimestampFormat::kYymmddhh) {
    if (!exact || text.size() != 8 || whole < 0) return std::nullopt;
    const std::chrono::year_month_day date(
        std::chrono::year(static_cast<int>(2000 + whole / 1'000'000)),
        std::chrono::month(static_cast<unsigned>(whole / 10'000 % 100)),
        std::chrono::day(static_cast<unsigned>(whole / 100 % 100)));
    if (!date.ok() || whole % 100 > 23) return std::nullopt;
    const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
    return (days * 24 + whole % 100) * kMillisPerHour;
  }
  const int64_t scale = format == TimestampFormat::kUnixSeconds ? 1000 : 1;
  if (!exact) {
    number *= static_cast<double>(scale);
    if (std::abs(number) > static_cast<double>(kMaxTimestampMs)) return std::nullopt;
    return static_cast<int64_t>(std::floor(number));
  }
  if (whole > kMaxTimestampMs / scale || whole < -kMaxTimestampMs / scale) return std::nullopt;
  return whole * scale;
}

int64_t BucketOf(const Column& column, double value) {
  if (column.bucket == BucketKind::kBoundaries) {
    const auto above = std::upper_bound(column.boundaries.begin(), column.boundaries.end(), value);
    return above - column.boundaries.begin();
  }
  static const auto small = [] {
    std::array<int64_t, 512> buckets{};
    for (size_t i = 0; i < buckets.size(); ++i)
      buckets[i] = LogSquaredBucket(static_cast<double>(i));
    return buckets;
  }();
  if (value >= 0 && value < static_cast<double>(small.size())) {
    const auto whole = static_cast<size_t>(value);
    // The buckets of a number and of its whole part differ above 2 only.
    if (static_cast<double>(whole) == value) return small[whole];
  }
  return LogSquaredBucket(value);
}

}  // namespace freshet::stream
