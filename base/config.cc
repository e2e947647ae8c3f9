// SPDX-License-Identifier: Apache-2.0
#include "base/config.h"

#include <fmt/format.h>

#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/config_value.h"
#include "base/json.h"

namespace freshet::base {
namespace {

constexpr std::string_view kReserved[] = {"help", "version", "config", "check_config",
                                          "example_config"};

bool IsFieldName(std::string_view name) {
  if (name.empty() || name.front() < 'a' || name.front() > 'z') return false;
  for (const char c : name) {
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_') return false;
  }
  for (const std::string_view reserved : kReserved) {
    if (name == reserved) return false;
  }
  return true;
}

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(text, out);
  return out;
}

// "1 to 64", "at least 1", "at most 64" or nothing.
template <class T, class Show>
std::string BoundsText(const Bounds<T>& bounds, Show show) {
  if (bounds.min && bounds.max)
    return fmt::format("{} to {}", show(*bounds.min), show(*bounds.max));
  if (bounds.min) return fmt::format("at least {}", show(*bounds.min));
  if (bounds.max) return fmt::format("at most {}", show(*bounds.max));
  return "";
}

template <class T, class Show>
Result<void> CheckBounds(T value, const Bounds<T>& bounds, Show show) {
  if ((bounds.min && value < *bounds.min) || (bounds.max && *bounds.max < value)) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} is out of bounds: give {}", show(value), BoundsText(bounds, show)));
  }
  return {};
}

// A store_ function that parses, checks and then assigns.
template <class Parse, class T, class Show, class Assign>
auto Storing(Parse parse, Bounds<T> bounds, Show show, Assign assign) {
  return [=](const std::vector<std::string>& values) -> Result<void> {
    const auto value = parse(values.front());
    if (!value) return tl::unexpected(value.error());
    if (Result<void> inside = CheckBounds<T>(*value, bounds, show); !inside) return inside;
    assign(*value);
    return {};
  };
}

std::string ShowNumber(double value) { return fmt::format("{}", value); }
std::string ShowInteger(int64_t value) { return fmt::format("{}", value); }
std::string ShowMilliseconds(std::chrono::milliseconds value) {
  return fmt::format("{}", value.count());
}

}  // namespace

ConfigField& ConfigField::Short(char letter) {
  short_ = letter;
  return *this;
}

ConfigField& ConfigField::OneOf(std::vector<std::string> choices) {
  choices_ = std::move(choices);
  return *this;
}

ConfigField& ConfigField::Required() {
  required_ = true;
  return *this;
}

ConfigField& ConfigField::Example(std::string value) {
  example_ = std::move(value);
  return *this;
}

ConfigField& ConfigFields::AddField(std::string_view name, std::string_view value,
                                    std::string_view help) {
  CHECK(IsFieldName(name));
  for (const ConfigField& field : fields_) CHECK(field.name_ != name);
  ConfigField& field = fields_.emplace_back();
  field.name_ = name;
  field.value_ = value;
  field.help_ = help;
  return field;
}

ConfigField& ConfigFields::Add(std::string_view name, bool* variable, std::string_view help) {
  ConfigField& field = AddField(name, "", help);
  field.shape_ = ConfigField::Shape::kSwitch;
  field.store_ = Storing(
      ParseSwitch, Bounds<bool>{}, [](bool value) { return value ? "true" : "false"; },
      [variable](bool value) { *variable = value; });
  field.show_ = [variable] { return *variable ? "true" : "false"; };
  return field;
}

ConfigField& ConfigFields::Add(std::string_view name, std::string* variable,
                               std::string_view help) {
  ConfigField& field = AddField(name, "TEXT", help);
  field.store_ = [variable, &field](const std::vector<std::string>& values) -> Result<void> {
    const auto& choices = field.choices_;
    if (!choices.empty() &&
        std::find(choices.begin(), choices.end(), values.front()) == choices.end()) {
      const auto nearest = NearestName(values.front(), choices);
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("\"{}\" is unknown{}; give one of {}", values.front(),
                              nearest ? fmt::format(", did you mean {}?", *nearest) : "",
                              fmt::join(choices, ", ")));
    }
    *variable = values.front();
    return {};
  };
  field.show_ = [variable] { return Quoted(*variable); };
  return field;
}

ConfigField& ConfigFields::Add(std::string_view name, std::vector<std::string>* variable,
                               std::string_view help) {
  ConfigField& field = AddField(name, "TEXT", help);
  field.shape_ = ConfigField::Shape::kList;
  field.store_ = [variable](const std::vector<std::string>& values) -> Result<void> {
    *variable = values;
    return {};
  };
  field.show_ = [variable] {
    std::vector<std::string> quoted;
    for (const std::string& value : *variable) quoted.push_back(Quoted(value));
    return fmt::format("[{}]", fmt::join(quoted, ", "));
  };
  return field;
}

ConfigField& ConfigFields::Add(std::string_view name, double* variable, std::string_view help) {
  return Add(name, variable, {}, help);
}

ConfigField& ConfigFields::Add(std::string_view name, double* variable, Bounds<double> bounds,
                               std::string_view help) {
  ConfigField& field = AddField(name, "X", help);
  field.bounds_ = BoundsText(bounds, ShowNumber);
  field.store_ =
      Storing(ParseNumber, bounds, ShowNumber, [variable](double value) { *variable = value; });
  field.show_ = [variable] { return ShowNumber(*variable); };
  return field;
}

ConfigField& ConfigFields::AddInteger(std::string_view name, IntegerLimits limits,
                                      std::string_view help, IntegerAccess access) {
  ConfigField& field = AddField(name, "N", help);
  field.bounds_ = BoundsText(limits.given, ShowInteger);
  const Bounds<int64_t> enforced{.min = limits.given.min.value_or(limits.type_min),
                                 .max = limits.given.max.value_or(limits.type_max)};
  field.store_ = Storing(ParseInteger, enforced, ShowInteger, std::move(access.set));
  field.show_ = [get = std::move(access.get)] { return ShowInteger(get()); };
  return field;
}

ConfigField& ConfigFields::Add(std::string_view name, std::chrono::milliseconds* variable,
                               std::string_view help) {
  return Add(name, variable, {}, help);
}

ConfigField& ConfigFields::Add(std::string_view name, std::chrono::milliseconds* variable,
                               Bounds<std::chrono::milliseconds> bounds, std::string_view help) {
  CHECK(name.ends_with("_ms"));
  ConfigField& field = AddField(name, "MS", help);
  field.bounds_ = BoundsText(bounds, ShowMilliseconds);
  field.store_ = Storing(ParseMilliseconds, bounds, ShowMilliseconds,
                         [variable](std::chrono::milliseconds value) { *variable = value; });
  field.show_ = [variable] { return ShowMilliseconds(*variable); };
  return field;
}

ConfigField& ConfigFields::Add(std::string_view name, ByteSize* variable, std::string_view help) {
  return Add(name, variable, {}, help);
}

ConfigField& ConfigFields::Add(std::string_view name, ByteSize* variable, Bounds<ByteSize> bounds,
                               std::string_view help) {
  ConfigField& field = AddField(name, "SIZE", help);
  field.bounds_ = BoundsText(bounds, FormatByteSize);
  field.store_ = Storing(ParseByteSize, bounds, FormatByteSize,
                         [variable](ByteSize value) { *variable = value; });
  field.show_ = [variable] { return FormatByteSize(*variable); };
  return field;
}

std::optional<std::string> NearestName(std::string_view word,
                                       const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  std::vector<size_t> row;
  for (const std::string& candidate : candidates) {
    // Levenshtein's distance, one row at a time.
    row.resize(candidate.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 0; i < word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i + 1;
      for (size_t j = 0; j < candidate.size(); ++j) {
        const size_t changed = diagonal + (word[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
      }
    }
    const size_t distance = row[candidate.size()];
    // A word of two letters is not near to every other word of two letters.
    if (distance < best_distance && distance < std::max(word.size(), candidate.size())) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace freshet::base
