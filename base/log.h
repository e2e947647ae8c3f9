// SPDX-License-Identifier: Apache-2.0
// The log of a process: what happened, for people. Text on a terminal, otherwise one JSON object a
// line with ts, level, node and msg. Any thread may log; a line is never mixed with another.
// A line that cannot be written is lost without an error.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/config.h"
#include "base/result.h"
#include "base/runtime.h"

namespace freshet::base {

// kOff is a threshold only; nothing is logged at it.
enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError, kOff };
enum class LogFormat : uint8_t { kAuto, kText, kJson };

// Declare() gives --log-level, --log-format, --log-file and --log-max-file to a program.
struct LogOptions {
  std::string node;  // "ps-0"; in every line
  std::string level = "info";
  std::string format = "auto";  // text when the destination is a terminal, otherwise json
  std::string file;             // empty: stderr
  // At this size the file x.log becomes x.1.log, replacing the one before, and is begun anew.
  ByteSize max_file = MiB(64);

  void Declare(ConfigFields& fields);
};

// Once per process, before other threads start; until then lines of kInfo and above go to stderr
// as text. Fails when the file cannot be opened or a word is unknown, and then changes nothing.
Result<void> InitLog(const LogOptions& options);

// The threshold alone; tests and the simulator turn the log off with it.
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

// Called by the macros below.
void LogLine(LogLevel level, fmt::string_view format, fmt::format_args args);

template <class... Args>
void LogFormatted(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  LogLine(level, format, fmt::make_format_args(args...));
}

// For a warning that may come ten thousand times a second: lets one through per interval.
//   if (auto skipped = limit_.Pass(clock.Now())) {
//     FRESHET_LOG_WARN("queue full ({} more since the last line)", *skipped);
//   }
class LogLimit {
 public:
  explicit LogLimit(Duration interval) : interval_(interval) {}

  // The number of calls that were refused since the last one let through, or nothing to refuse.
  std::optional<uint64_t> Pass(Instant now) {
    if (next_ && now < *next_) {
      ++skipped_;
      return std::nullopt;
    }
    next_ = now + interval_;
    const uint64_t skipped = skipped_;
    skipped_ = 0;
    return skipped;
  }

 private:
  Duration interval_;
  std::optional<Instant> next_;
  uint64_t skipped_ = 0;
};

}  // namespace freshet::base

// The arguments are not evaluated when the level is off.
#define FRESHET_LOG(level, ...)                                                           \
  (::freshet::base::LogEnabled(level) ? ::freshet::base::LogFormatted(level, __VA_ARGS__) \
                                      : static_cast<void>(0))
#define FRESHET_LOG_DEBUG(...) FRESHET_LOG(::freshet::base::LogLevel::kDebug, __VA_ARGS__)
#define FRESHET_LOG_INFO(...) FRESHET_LOG(::freshet::base::LogLevel::kInfo, __VA_ARGS__)
#define FRESHET_LOG_WARN(...) FRESHET_LOG(::freshet::base::LogLevel::kWarn, __VA_ARGS__)
#define FRESHET_LOG_ERROR(...) FRESHET_LOG(::freshet::base::LogLevel::kError, __VA_ARGS__)
