// SPDX-License-Identifier: Apache-2.0
// The commands that ask the master one question: status, verify, checkpoint.
#include <fmt/format.h>

#include "cli/admin_client.h"
#include "cli/command.h"
#include "cli/text.h"

namespace freshet::cli {
namespace {

// These wait for all parameter servers.
constexpr std::chrono::milliseconds kLongDeadline{130'000};

std::string StatusText(const Json& status) {
  const Json& job = At(status, "job");
  std::string out = fmt::format(
      "job {}: {}{}, {:.0f} of {:.0f} records, {:.0f} records/s, auc {}, log loss {}\n\n",
      TextAt(job, "name"), TextAt(job, "phase"),
      TrueAt(job, "waiting") ? " (waits for records)" : "", NumberAt(job, "records_done"),
      NumberAt(job, "records_total"), NumberAt(job, "records_per_sec"), MeasureText(At(job, "auc")),
      MeasureText(At(job, "logloss")));
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "ROLE", "STATE", "RESTARTS", "AGE", "PARTITIONS", "ROWS", "MEMORY", "CPUS"}};
  for (const Json& node : At(status, "nodes")) {
    const bool holds_rows = At(node, "partitions").is_number() && TextAt(node, "role") == "ps";
    const auto count = [&node](const char* key) {
      return fmt::format("{:.0f}", NumberAt(node, key));
    };
    const double memory = NumberAt(node, "memory_bytes");
    const double limit = NumberAt(node, "memory_limit_bytes");
    const std::string of = limit > 0 ? " of " + BytesText(limit) : "";
    rows.push_back({TextAt(node, "name"), TextAt(node, "role"), TextAt(node, "state"),
                    count("restarts"), AgeText(NumberAt(node, "age_s")),
                    holds_rows ? count("partitions") : "-", holds_rows ? count("rows") : "-",
                    memory > 0 ? BytesText(memory) + of : "-",
                    NumberAt(node, "cpus") > 0 ? count("cpus") : "-"});
  }
  out += TableText(rows);
  std::vector<std::vector<std::string>> plans = {{"PLAN", "WHAT", "STATE", "MOVED", "TEXT"}};
  for (const Json& plan : At(status, "plans")) {
    plans.push_back({fmt::format("{:.0f}", NumberAt(plan, "id")), TextAt(plan, "plan"),
                     TextAt(plan, "state"), fmt::format("{:.0f}", NumberAt(plan, "moved")),
                     TextAt(plan, "text")});
  }
  if (plans.size() > 1) out += fmt::format("\n{}", TableText(plans));
  if (const std::string error = TextAt(job, "error"); !error.empty()) {
    out += fmt::format("\nerror: {}\n", error);
  }
  return out;
}

struct Question {
  const char* name;
  const char* description;
};

// The options of such a command; an exit code if it ends here.
std::optional<int> Load(const Question& question, ClusterOptions& options, int argc,
                        const char* const* argv) {
  base::ConfigFields fields;
  options.Declare(fields);
  return base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = std::string("freshet ") + question.name, .description = question.description});
}

}  // namespace

int RunStatus(int argc, const char* const* argv) {
  ClusterOptions options;
  const auto end =
      Load({"status", "What a running cluster does, and its nodes."}, options, argc, argv);
  if (end) return *end;
  const base::Result<Json> status = AdminClient(options.dir).Get("/v1/status");
  if (!status) return ReportError(status.error());
  return options.json() ? PrintJson(*status) : PrintText(StatusText(*status));
}

int RunVerify(int argc, const char* const* argv) {
  ClusterOptions options;
  const auto end =
      Load({"verify",
            "Counts whether every record has had its effect exactly once; exit code 1 if not."},
           options, argc, argv);
  if (end) return *end;
  const base::Result<Json> audit = AdminClient(options.dir).Post("/v1/verify", kLongDeadline);
  if (!audit) return ReportError(audit.error());
  const bool ok = TrueAt(*audit, "ok");
  const int printed =
      options.json() ? PrintJson(*audit)
                     : PrintText(fmt::format(
                           "audit {}: {:.0f} records counted, {:.0f} expected ({:.0f} done, "
                           "{:.0f} dead-lettered)\n",
                           ok ? "ok" : "FAILED", NumberAt(*audit, "audit_count"),
                           NumberAt(*audit, "audit_expected"), NumberAt(*audit, "records_done"),
                           NumberAt(*audit, "dead_lettered")));
  return ok ? printed : 1;
}

int RunCheckpoint(int argc, const char* const* argv) {
  ClusterOptions options;
  const auto end =
      Load({"checkpoint", "Returns when everything applied before the call is durable."}, options,
           argc, argv);
  if (end) return *end;
  const base::Result<Json> done = AdminClient(options.dir).Post("/v1/checkpoint", kLongDeadline);
  if (!done) return ReportError(done.error());
  return options.json()
             ? PrintJson(*done)
             : PrintText(fmt::format("checkpoint saved in {:.3f} s\n", NumberAt(*done, "seconds")));
}

}  // namespace freshet::cli
