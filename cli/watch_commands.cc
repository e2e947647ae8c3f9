// SPDX-License-Identifier: Apache-2.0
// The commands that can follow: events and logs.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "cli/admin_client.h"
#include "cli/command.h"
#include "cli/log_file.h"
#include "cli/supervisor.h"
#include "cli/text.h"
#include "transport/event_loop.h"

namespace freshet::cli {
namespace {

using base::ErrorCode;

constexpr std::chrono::milliseconds kFollowInterval{250};

void Pause(transport::EventLoop& loop) {
  loop.RunUntil([] { return false; }, kFollowInterval);
}

std::string EventText(const Json& event) {
  const std::string node = TextAt(event, "node");
  return fmt::format("{}  {:<16} {:<10} {}\n",
                     TimeText(static_cast<int64_t>(NumberAt(event, "unix_ms"))),
                     TextAt(event, "kind"), node.empty() ? "-" : node, TextAt(event, "text"));
}

// Prints the events after `since` and moves it on; the number of events.
base::Result<size_t> PrintEvents(const AdminClient& client, bool as_json, uint64_t& since) {
  const base::Result<Json> answer = client.Get(fmt::format("/v1/events?since={}", since));
  if (!answer) return tl::unexpected(answer.error());
  const Json& events = At(*answer, "events");
  for (const Json& event : events) {
    since = std::max(since, static_cast<uint64_t>(NumberAt(event, "seq")));
    const std::string line = as_json
                                 ? event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"
                                 : EventText(event);
    if (PrintText(line) != 0) return base::Fail(ErrorCode::kIo, "cannot write to stdout");
  }
  return events.size();
}

int PrintAllEventsAsJson(const AdminClient& client) {
  Json all = {{"events", Json::array()}};
  uint64_t since = 0;
  for (;;) {
    const base::Result<Json> answer = client.Get(fmt::format("/v1/events?since={}", since));
    if (!answer) return ReportError(answer.error());
    const uint64_t before = since;
    for (const Json& event : At(*answer, "events")) {
      since = std::max(since, static_cast<uint64_t>(NumberAt(event, "seq")));
      all["events"].push_back(event);
    }
    if (since == before) return PrintJson(all);
  }
}

std::string KnownLogs(const std::string& log_dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(log_dir, error)) {
    if (entry.path().extension() == ".log") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return fmt::format("{}", fmt::join(names, ", "));
}

base::Error NoSuchLog(const std::string& node, const std::string& dir) {
  const std::string known = KnownLogs(dir + "/logs");
  return {ErrorCode::kNotFound,
          known.empty()
              ? fmt::format("no logs in {}/logs; is --dir right?", dir)
              : fmt::format("no log of '{}' in {}/logs; there are: {}", node, dir, known)};
}

int PrintTail(const std::string& path, uint64_t lines) {
  const base::Result<std::vector<std::string>> tail = LastLines(path, lines);
  if (!tail) return ReportError(tail.error());
  for (const std::string& line : *tail) {
    if (const int code = PrintText(line + "\n"); code != 0) return code;
  }
  return 0;
}

enum class Follow { kNo, kYes };

int PrintLog(const std::string& path, LogFollower::From from, Follow follow) {
  base::Result<LogFollower> log = LogFollower::Open(path, from);
  if (!log) return ReportError(log.error());
  transport::EventLoop loop;
  for (;;) {
    const base::Result<std::string> more = log->ReadMore();
    if (!more) return ReportError(more.error());
    if (const int code = PrintText(*more); code != 0) return code;
    if (!more->empty()) continue;
    if (follow == Follow::kNo) return 0;
    Pause(loop);
  }
}

}  // namespace

int RunEvents(int argc, const char* const* argv) {
  ClusterOptions options;
  bool follow = false;
  base::ConfigFields fields;
  options.Declare(fields);
  fields.Add("follow", &follow, "wait for further events until the cluster ends").Short('f');
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet events",
       .description = "What happened in a running cluster. With -f -o json: one object a line."});
  if (end) return *end;
  const AdminClient client(options.dir);
  if (options.json() && !follow) return PrintAllEventsAsJson(client);
  uint64_t since = 0;
  base::Result<size_t> printed = PrintEvents(client, options.json(), since);
  if (!printed) return ReportError(printed.error());
  transport::EventLoop loop;
  while (follow || *printed > 0) {
    if (*printed == 0) Pause(loop);
    printed = PrintEvents(client, options.json(), since);
    if (printed) continue;
    if (follow && printed.error().code == ErrorCode::kUnreachable) {
      if (SupervisorOf(options.dir)) {  // it starts the master again
        printed = 0;
        continue;
      }
      fmt::print(stderr, "freshet: the cluster has ended\n");
      return 0;
    }
    return ReportError(printed.error());
  }
  return 0;
}

int RunLogs(int argc, const char* const* argv) {
  std::string dir = ClusterOptions().dir;
  bool follow = false;
  uint64_t tail = 0;
  base::ConfigFields fields;
  fields.Add("dir", &dir, "directory of the cluster");
  fields.Add("follow", &follow, "wait for what is added").Short('f');
  fields.Add("tail", &tail, {.max = uint64_t{100'000}}, "only the last lines; 0 prints all")
      .Short('n');
  std::vector<std::string> words;
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet logs",
       .description = "The log of a node (ps-0, worker-1, master), of a running or ended cluster.",
       .positional_help = "NODE",
       .min_positional = 1,
       .max_positional = 1},
      &words);
  if (end) return *end;
  const std::string& node = words.at(0);
  const std::string path = dir + "/logs/" + node + ".log";
  std::error_code error;
  if (node.empty() || node[0] == '.' || node.find('/') != std::string::npos ||
      !std::filesystem::is_regular_file(path, error)) {
    return ReportError(NoSuchLog(node, dir));
  }
  if (tail == 0)
    return PrintLog(path, LogFollower::From::kStart, follow ? Follow::kYes : Follow::kNo);
  const int printed = PrintTail(path, tail);
  if (printed != 0 || !follow) return printed;
  return PrintLog(path, LogFollower::From::kEnd, Follow::kYes);
}

}  // namespace freshet::cli
