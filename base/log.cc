// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <fmt/format.h>
#include <spdlog/formatter.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "base/json.h"

namespace freshet::base {
namespace {

constexpr std::array<std::string_view, 5> kLevelNames = {"debug", "info", "warn", "error", "off"};
constexpr std::array<std::string_view, 5> kLevelMarks = {"DEBUG", "INFO ", "WARN ", "ERROR", ""};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarn: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::off;
}

size_t IndexOf(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug: return 0;
    case spdlog::level::info: return 1;
    case spdlog::level::warn: return 2;
    default: return 3;
  }
}

struct BrokenTime {
  std::tm parts{};
  int milliseconds = 0;
};

BrokenTime Break(spdlog::log_clock::time_point time, decltype(&::gmtime_r) convert) {
  const auto since = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch());
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(since).count();
  BrokenTime broken;
  convert(&seconds, &broken.parts);
  broken.milliseconds = static_cast<int>((since - std::chrono::seconds(seconds)).count());
  return broken;
}

// spdlog's own patterns do not escape, so a quote in a message would break the JSON.
class JsonFormatter final : public spdlog::formatter {
 public:
  explicit JsonFormatter(std::string node) : node_(std::move(node)) {}

  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    const auto [t, ms] = Break(line.time, &::gmtime_r);
    std::string text =
        fmt::format(R"({{"ts":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z","level":"{}","node":)",
                    t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, ms,
                    kLevelNames[IndexOf(line.level)]);
    AppendJsonString(node_, text);
    text += ",\"msg\":";
    AppendJsonString({line.payload.data(), line.payload.size()}, text);
    text += "}\n";
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>(node_);
  }

 private:
  std::string node_;
};

class TextFormatter final : public spdlog::formatter {
 public:
  explicit TextFormatter(std::string node) : node_(std::move(node)) {}

  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    const auto [t, ms] = Break(line.time, &::localtime_r);
    fmt::format_to(std::back_inserter(out), "{:02}:{:02}:{:02}.{:03} {} {}{}", t.tm_hour, t.tm_min,
                   t.tm_sec, ms, kLevelMarks[IndexOf(line.level)], node_, node_.empty() ? "" : " ");
    // A message may hold bytes of a peer; they must not steer the terminal.
    for (const char c : line.payload) {
      const bool control = (c >= 0 && c < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
      out.push_back(control ? '?' : c);
    }
    out.push_back('\n');
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<TextFormatter>(node_);
  }

 private:
  std::string node_;
};

std::shared_ptr<spdlog::logger> MakeLogger(spdlog::sink_ptr sink,
                                           std::unique_ptr<spdlog::formatter> formatter) {
  auto logger = std::make_shared<spdlog::logger>("freshet", std::move(sink));
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);
  logger->set_error_handler([](const std::string&) {});
  return logger;
}

// The one mutable global of the process; InitLog replaces the logger before threads start.
struct LogState {
  std::shared_ptr<spdlog::logger> logger = MakeLogger(
      std::make_shared<spdlog::sinks::stderr_sink_mt>(), std::make_unique<TextFormatter>(""));
  std::atomic<LogLevel> level = LogLevel::kInfo;
};

// Never destroyed: something may log while the process ends.
LogState& State() {
  static LogState& state = *new LogState();
  return state;
}

std::optional<LogLevel> LevelOf(std::string_view name) {
  for (size_t i = 0; i < kLevelNames.size(); ++i) {
    if (kLevelNames[i] == name) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

}  // namespace

void LogOptions::Declare(ConfigFields& fields) {
  fields.Add("log_level", &level, "the least important lines that are logged")
      .OneOf({kLevelNames.begin(), kLevelNames.end()});
  fields.Add("log_format", &format, "how a line looks; auto is text on a terminal, otherwise json")
      .OneOf({"auto", "text", "json"});
  fields.Add("log_file", &file, "append to this file instead of stderr");
  fields.Add("log_max_file", &max_file, {.min = KiB(64)},
             "begin the log file anew at this size; the one before is kept");
}

Result<void> InitLog(const LogOptions& options) {
  const std::optional<LogLevel> level = LevelOf(options.level);
  if (!level) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("log level \"{}\" is unknown; give one of {}", options.level,
                            fmt::join(kLevelNames, ", ")));
  }
  const bool to_terminal = options.file.empty() && ::isatty(STDERR_FILENO) == 1;
  if (options.format != "auto" && options.format != "text" && options.format != "json") {
    return Fail(
        ErrorCode::kInvalidArgument,
        fmt::format("log format \"{}\" is unknown; give auto, text or json", options.format));
  }
  const bool text = options.format == "text" || (options.format == "auto" && to_terminal);
  try {
    spdlog::sink_ptr sink;
    if (options.file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.file,
                                                                    options.max_file.bytes, 1);
    }
    std::unique_ptr<spdlog::formatter> formatter;
    if (text) {
      formatter = std::make_unique<TextFormatter>(options.node);
    } else {
      formatter = std::make_unique<JsonFormatter>(options.node);
    }
    State().logger = MakeLogger(std::move(sink), std::move(formatter));
  } catch (const std::exception& error) {
    return Fail(ErrorCode::kIo,
                fmt::format("cannot log to {}: {}; check the path and its permissions",
                            options.file, error.what()));
  }
  State().level.store(*level, std::memory_order_relaxed);
  return {};
}

void SetLogLevel(LogLevel level) { State().level.store(level, std::memory_order_relaxed); }

bool LogEnabled(LogLevel level) {
  return level >= State().level.load(std::memory_order_relaxed) && level != LogLevel::kOff;
}

void LogLine(LogLevel level, fmt::string_view format, fmt::format_args args) {
  fmt::memory_buffer text;
  fmt::vformat_to(std::back_inserter(text), format, args);
  State().logger->log(ToSpdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

}  // namespace freshet::base
