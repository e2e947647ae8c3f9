// SPDX-License-Identifier: Apache-2.0
// What people see of a restore.
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/config.h"
#include "base/random.h"
#include "master/restore.h"
#include "transport/entropy.h"
#include "transport/event_loop.h"

namespace freshet::master {
namespace {

using nlohmann::ordered_json;

std::string LogName(const RestoreReport& report, protocol::LogId log) {
  for (const protocol::LogSpec& spec : report.spec.logs) {
    if (spec.log == log) return spec.name;
  }
  return fmt::format("log {}", log.value());
}

ordered_json ReportJson(const RestoreReport& report, double seconds) {
  ordered_json logs = ordered_json::array();
  for (const auto& entry : report.replay_from) {
    logs.push_back({{"log", LogName(report, entry.log)}, {"offset", entry.watermark}});
  }
  return {{"dir", report.dir},
          {"job", report.job},
          {"cluster", fmt::format("{:016x}", report.cluster.value())},
          {"ps", report.ps},
          {"partitions", report.partitions},
          {"bytes", report.bytes},
          {"seconds", seconds},
          {"replay_from", std::move(logs)}};
}

std::string ReportText(const RestoreReport& report, double seconds) {
  std::string out =
      fmt::format("restored job {} in {}: {} partitions, {} bytes, for {} servers, in {:.3f} s\n",
                  report.job, report.dir, report.partitions, report.bytes, report.ps, seconds);
  for (const auto& entry : report.replay_from) {
    out += fmt::format("log {} is learnt again from record {} on\n", LogName(report, entry.log),
                       entry.watermark);
  }
  return out + (report.has_settings
                    ? fmt::format("go on with: freshet up --dir {}\n", report.dir)
                    : fmt::format("go on with freshet-master --dir {} --ps {} and the flags that "
                                  "the cluster had\n",
                                  report.dir, report.ps));
}

}  // namespace

int RunRestore(int argc, const char* const* argv) {
  constexpr const char* kProgram = "freshet restore";
  RestoreOptions options;
  std::string output = "text";
  base::ConfigFields fields;
  fields.Add("from", &options.from, "directory of the backup").Required();
  fields.Add("dir", &options.dir, "directory of the new cluster; not there yet, or empty")
      .Required();
  fields.Add("ps", &options.ps, {.max = 1024},
             "parameter servers; 0 = as many as when the backup was made");
  fields.Add("output", &output, "how data is printed").Short('o').OneOf({"text", "json"});
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = kProgram,
       .description = "Makes the directory of a new cluster from a backup, for any number of "
                      "servers."});
  if (end) return *end;
  options.cluster = protocol::ClusterId(base::Random(transport::DrawSeed()).Next() | 1);
  transport::EventLoop loop;
  const base::Instant began = loop.clock().Now();
  const auto report = RestoreBackup(options);
  if (!report) return base::ReportError(kProgram, report.error());
  const double seconds = static_cast<double>((loop.clock().Now() - began).count()) / 1e6;
  const std::string text =
      output == "json" ? ReportJson(*report, seconds)
                                 .dump(2, ' ', false, ordered_json::error_handler_t::replace) +
                             "\n"
                       : ReportText(*report, seconds);
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return 0;
  return base::ReportError(kProgram, {base::ErrorCode::kIo, "cannot write to stdout"});
}

}  // namespace freshet::master
