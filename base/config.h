// SPDX-License-Identifier: Apache-2.0
// Configuration declared once: one Add() gives the flag (--checkpoint-interval-ms), the environment
// name (FRESHET_CHECKPOINT_INTERVAL_MS), the key of the YAML file (checkpoint_interval_ms) and the
// line of --help. What a flag says beats the environment, which beats the file, which beats the
// value the variable had when it was added.
//
//   struct PsConfig {
//     std::string master;
//     std::chrono::milliseconds checkpoint_interval{10'000};
//     void Declare(base::ConfigFields& f) {
//       f.Add("master", &master, "address of the master, tcp://host:port").Required();
//       f.Add("checkpoint_interval_ms", &checkpoint_interval, {.min = 100ms, .max = 1h},
//             "time between images of a partition");
//     }
//   };
#pragma once

#include <algorithm>
#include <chrono>
#include <compare>
#include <concepts>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace freshet::base {

// A number of bytes; written 1048576, 64KiB, 64MiB, 2GiB or 1TiB.
struct ByteSize {
  uint64_t bytes = 0;
  constexpr auto operator<=>(const ByteSize&) const = default;
};

constexpr ByteSize KiB(uint64_t count) { return {count << 10}; }
constexpr ByteSize MiB(uint64_t count) { return {count << 20}; }
constexpr ByteSize GiB(uint64_t count) { return {count << 30}; }

// Both ends belong to what is allowed; an absent end does not bound.
template <class T>
struct Bounds {
  std::optional<T> min = {};
  std::optional<T> max = {};
};

template <class T>
concept ConfigInteger = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char>;

// One field, as Add() made it. The setters return the field, so that they can be chained.
class ConfigField {
 public:
  // Also accepts -o beside --output; a letter.
  ConfigField& Short(char letter);
  // Refuses every other value. Only for strings.
  ConfigField& OneOf(std::vector<std::string> choices);
  // Loading fails when neither flag, environment nor file gives it.
  ConfigField& Required();
  // What --example-config shows for a field that is required.
  ConfigField& Example(std::string value);

 private:
  friend class ConfigFields;
  friend class ConfigLoader;

  enum class Shape : uint8_t { kSwitch, kValue, kList };

  std::string name_;   // as in the file: snake_case
  std::string value_;  // the word for its value in --help, empty for a switch
  std::string help_;
  std::string bounds_;  // "1 to 64", for people
  std::vector<std::string> choices_;
  std::string example_;
  char short_ = 0;
  bool required_ = false;
  Shape shape_ = Shape::kValue;
  // Parses, checks the bounds and stores; the error says only what is wrong with the value.
  std::function<Result<void>(const std::vector<std::string>&)> store_;
  std::function<std::string()> show_;
  std::string origin_ = "default";
};

// The fields of one program or sub-command. Keeps pointers to the variables, which it does not own;
// not thread safe, and only needed until the configuration is loaded. A name declared twice is a
// programmer's error.
class ConfigFields {
 public:
  ConfigField& Add(std::string_view name, bool* variable, std::string_view help);
  ConfigField& Add(std::string_view name, std::string* variable, std::string_view help);
  // A repeatable flag, a YAML sequence, or commas in the environment.
  ConfigField& Add(std::string_view name, std::vector<std::string>* variable,
                   std::string_view help);

  ConfigField& Add(std::string_view name, double* variable, std::string_view help);
  ConfigField& Add(std::string_view name, double* variable, Bounds<double> bounds,
                   std::string_view help);

  template <ConfigInteger T>
  ConfigField& Add(std::string_view name, T* variable, std::string_view help) {
    return Add(name, variable, Bounds<T>{}, help);
  }
  template <ConfigInteger T>
  ConfigField& Add(std::string_view name, T* variable, std::type_identity_t<Bounds<T>> bounds,
                   std::string_view help) {
    IntegerLimits limits{.type_min = AsBound(std::numeric_limits<T>::min()),
                         .type_max = AsBound(std::numeric_limits<T>::max())};
    if (bounds.min) limits.given.min = AsBound(*bounds.min);
    if (bounds.max) limits.given.max = AsBound(*bounds.max);
    return AddInteger(name, limits, help,
                      {.set = [variable](int64_t v) { *variable = static_cast<T>(v); },
                       .get = [variable] { return static_cast<int64_t>(*variable); }});
  }

  // A name that ends in _ms; written as a number of milliseconds, or with a unit: 500ms, 10s, 5m.
  ConfigField& Add(std::string_view name, std::chrono::milliseconds* variable,
                   std::string_view help);
  ConfigField& Add(std::string_view name, std::chrono::milliseconds* variable,
                   Bounds<std::chrono::milliseconds> bounds, std::string_view help);

  ConfigField& Add(std::string_view name, ByteSize* variable, std::string_view help);
  ConfigField& Add(std::string_view name, ByteSize* variable, Bounds<ByteSize> bounds,
                   std::string_view help);

 private:
  friend class ConfigLoader;

  struct IntegerLimits {
    Bounds<int64_t> given = {};
    int64_t type_min = 0;
    int64_t type_max = 0;
  };
  struct IntegerAccess {
    std::function<void(int64_t)> set;
    std::function<int64_t()> get;
  };
  // Values above the largest int64_t cannot be configured.
  template <ConfigInteger T>
  static constexpr int64_t AsBound(T value) {
    if constexpr (std::unsigned_integral<T>) {
      return static_cast<int64_t>(std::min<uint64_t>(value, std::numeric_limits<int64_t>::max()));
    } else {
      return static_cast<int64_t>(value);
    }
  }
  ConfigField& AddInteger(std::string_view name, IntegerLimits limits, std::string_view help,
                          IntegerAccess access);
  ConfigField& AddField(std::string_view name, std::string_view value, std::string_view help);

  std::deque<ConfigField> fields_;  // a deque, since Add() hands out references
};

struct ConfigOptions {
  std::string program;      // "freshet-ps", or "freshet scale" for a sub-command
  std::string description;  // one line
  // Words that are no flags, as --help shows them ("NODE", "[FILE..]"); empty refuses any.
  std::string positional_help;
  size_t min_positional = 0;
  size_t max_positional = 0;
  // Checks what one field alone cannot know. Runs last, also for --check-config.
  std::function<Result<void>()> validate;
  // For tests; the process's own environment when empty.
  std::function<std::optional<std::string>(const std::string&)> environment;
};

struct LoadedConfig {
  std::vector<std::string> positional;
  // Set by --help, --version, --check-config and --example-config: print it to stdout and end with
  // exit code 0.
  std::optional<std::string> print_and_exit;
};

// Fills the declared variables. argv[0] is ignored, so a sub-command passes argc - 1 and argv + 1.
// On an error (kInvalidArgument; kNotFound when the --config file is missing) variables may have
// been changed.
Result<LoadedConfig> LoadConfig(ConfigFields& fields, int argc, const char* const* argv,
                                const ConfigOptions& options);

// For main(): prints the error to stderr, or what --help and its like ask for to stdout. An exit
// code means that the program ends now.
std::optional<int> LoadConfigOrReport(ConfigFields& fields, int argc, const char* const* argv,
                                      const ConfigOptions& options,
                                      std::vector<std::string>* positional = nullptr);

// For main(): says on stderr what went wrong; the exit code of the program.
int ReportError(std::string_view program, const Error& error);

// The candidate nearest to `word` by edit distance, or nothing when none is near.
std::optional<std::string> NearestName(std::string_view word,
                                       const std::vector<std::string>& candidates);

// "64MiB", "1024", "2GiB".
Result<ByteSize> ParseByteSize(std::string_view text);
// The largest unit that divides it: "64MiB".
std::string FormatByteSize(ByteSize size);

// Takes every setting (FRESHET_..) out of this process's environment, so that children do not inherit it.
// While there is one thread.
void ForgetSettings();

}  // namespace freshet::base
