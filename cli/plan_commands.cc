// SPDX-License-Identifier: Apache-2.0
// The commands that change a running cluster: scale, migrate, drain, rebalance; cancel.
#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "cli/admin_client.h"
#include "cli/command.h"
#include "cli/text.h"
#include "transport/event_loop.h"

namespace freshet::cli {
namespace {

using base::ErrorCode;

constexpr std::chrono::milliseconds kFollowInterval{100};
// A master that is restarted goes on with its plans.
constexpr std::chrono::milliseconds kPatience{30'000};

struct PlanOptions {
  ClusterOptions cluster;
  bool wait = false;
  bool dry_run = false;

  void Declare(base::ConfigFields& fields) {
    cluster.Declare(fields);
    fields.Add("wait", &wait, "follow the plan to its end");
    fields.Add("dry_run", &dry_run, "only say what it would do");
  }
};

std::string Names(const Json& names) {
  std::string text;
  for (const Json& name : names) text += fmt::format(" {}", name.get<std::string>());
  return text;
}

std::string PreviewText(const Json& preview) {
  if (TrueAt(preview, "nothing_to_do")) return "nothing to do\n";
  std::string text = fmt::format("{:.0f} partitions move", NumberAt(preview, "moves"));
  if (!At(preview, "joining").empty()) text += "; starts" + Names(At(preview, "joining"));
  if (!At(preview, "leaving").empty()) text += "; ends" + Names(At(preview, "leaving"));
  return text + "\n";
}

std::optional<Json> FindPlan(const Json& status, double id) {
  for (const Json& plan : At(status, "plans")) {
    if (NumberAt(plan, "id") == id) return plan;
  }
  return std::nullopt;
}

bool Ended(const Json& plan) {
  const std::string state = TextAt(plan, "state");
  return state == "done" || state == "failed" || state == "cancelled";
}

base::Result<Json> Follow(const AdminClient& client, double id) {
  transport::EventLoop loop;
  base::Instant answered = loop.clock().Now();
  double shown = -1;
  for (;;) {
    const base::Result<Json> status = client.Get("/v1/status");
    if (status) {
      answered = loop.clock().Now();
      auto plan = FindPlan(*status, id);
      if (!plan) {
        return base::Fail(ErrorCode::kNotFound, fmt::format("plan {:.0f} is forgotten", id));
      }
      if (Ended(*plan)) return *plan;
      const double moved = NumberAt(*plan, "moved");
      if (moved != shown) {
        fmt::print(stderr, "{}: {:.0f} partitions moved, {}\n", TextAt(*plan, "state"), moved,
                   BytesText(NumberAt(*plan, "bytes")));
      }
      shown = moved;
    } else if (loop.clock().Now() - answered > kPatience) {
      return base::Fail(status.error().code, status.error().message);
    }
    loop.RunUntil([] { return false; }, kFollowInterval);
  }
}

int Ask(const PlanOptions& options, Json request) {
  const AdminClient client(options.cluster.dir);
  if (options.dry_run) request["dry_run"] = true;
  const base::Result<Json> begun = client.Post("/v1/plans", request);
  if (!begun) return ReportError(begun.error());
  const bool json = options.cluster.json();
  if (options.dry_run) return json ? PrintJson(*begun) : PrintText(PreviewText(*begun));
  const double id = NumberAt(*begun, "id");
  if (!options.wait) {
    if (json) return PrintJson(*begun);
    return PrintText(fmt::format("plan {:.0f}: {}", id, PreviewText(*begun)));
  }
  const base::Result<Json> plan = Follow(client, id);
  if (!plan) return ReportError(plan.error());
  const std::string state = TextAt(*plan, "state");
  const int printed =
      json ? PrintJson(*plan)
           : PrintText(fmt::format("plan {:.0f} {}: {}\n", id, state, TextAt(*plan, "text")));
  if (printed != 0 || state == "done") return printed;
  return base::ExitCodeFor(ErrorCode::kFailed);
}

struct Command {
  const char* name;
  const char* description;
};

int RunNodeCommand(const Command& command, int argc, const char* const* argv) {
  PlanOptions options;
  std::vector<std::string> nodes;
  base::ConfigFields fields;
  options.Declare(fields);
  const auto end = base::LoadConfigOrReport(fields, argc, argv,
                                            {.program = std::string("freshet ") + command.name,
                                             .description = command.description,
                                             .positional_help = "NODE",
                                             .min_positional = 1,
                                             .max_positional = 1},
                                            &nodes);
  if (end) return *end;
  return Ask(options, {{"kind", command.name}, {"node", nodes.front()}});
}

}  // namespace

int RunScale(int argc, const char* const* argv) {
  PlanOptions options;
  uint32_t ps = 0;  // 0: as it is
  uint32_t workers = 0;
  base::ConfigFields fields;
  options.Declare(fields);
  fields.Add("ps", &ps, {.min = 1}, "parameter servers there shall be");
  fields.Add("workers", &workers, {.min = 1}, "workers there shall be");
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet scale",
       .description = "Changes the number of servers or workers while the cluster trains."});
  if (end) return *end;
  if (ps == 0 && workers == 0) {
    return ReportError(
        {ErrorCode::kInvalidArgument, "scale what? give --ps N, --workers N, or both"});
  }
  Json request = {{"kind", "scale"}};
  if (ps > 0) request["ps"] = ps;
  if (workers > 0) request["workers"] = workers;
  return Ask(options, std::move(request));
}

int RunMigrate(int argc, const char* const* argv) {
  PlanOptions options;
  std::vector<std::string> nodes;
  uint32_t cpu = 0;
  base::ByteSize memory;
  base::ConfigFields fields;
  options.Declare(fields);
  fields.Add("cpu", &cpu, {.min = 1},
             "processors that the new server may run on; as the old one unless it is said");
  fields.Add(
      "memory", &memory, {.min = base::MiB(16), .max = base::GiB(64)},
      "most memory of the new server for rows and indexes; as the old one unless it is said");
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet migrate",
       .description = "A new server starts, takes everything of this one, and this one ends.",
       .positional_help = "NODE",
       .min_positional = 1,
       .max_positional = 1},
      &nodes);
  if (end) return *end;
  Json request = {{"kind", "migrate"}, {"node", nodes.front()}};
  if (cpu > 0) request["cpu"] = cpu;
  if (memory.bytes > 0) request["memory_bytes"] = memory.bytes;
  return Ask(options, std::move(request));
}

int RunDrain(int argc, const char* const* argv) {
  return RunNodeCommand({"drain", "What this node has goes to the others, and it ends."}, argc,
                        argv);
}

int RunRebalance(int argc, const char* const* argv) {
  PlanOptions options;
  base::ConfigFields fields;
  options.Declare(fields);
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet rebalance", .description = "Gives every server an equal share."});
  if (end) return *end;
  return Ask(options, {{"kind", "rebalance"}});
}

int RunCancel(int argc, const char* const* argv) {
  ClusterOptions options;
  std::vector<std::string> plans;
  base::ConfigFields fields;
  options.Declare(fields);
  const auto end =
      base::LoadConfigOrReport(fields, argc, argv,
                               {.program = "freshet cancel",
                                .description = "Ends a plan; what has moved stays where it is.",
                                .positional_help = "PLAN",
                                .min_positional = 1,
                                .max_positional = 1},
                               &plans);
  if (end) return *end;
  uint64_t id = 0;
  const std::string& text = plans.front();
  const auto read = std::from_chars(text.data(), text.data() + text.size(), id);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) {
    return ReportError({ErrorCode::kInvalidArgument,
                        fmt::format("'{}' is no number of a plan; see freshet status", text)});
  }
  const base::Result<Json> done =
      AdminClient(options.dir).Post("/v1/plans/cancel", Json{{"id", id}});
  if (!done) return ReportError(done.error());
  return options.json() ? PrintJson(*done) : PrintText(fmt::format("plan {} is cancelled\n", id));
}

}  // namespace freshet::cli
