// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/text.h"
#include "cli/train_directory.h"
#include "cli/train_options.h"
#include "cli/train_progress.h"
#include "cli/train_session.h"

namespace freshet::cli {
namespace {

std::string SummaryText(const Json& summary, const std::string& dir) {
  const Json& audit = At(summary, "audit");
  const auto count = [&summary](const char* key) {
    return fmt::format("{:.0f}", NumberAt(summary, key));
  };
  std::string out = fmt::format("{} records in {:.2f} s, {} records/s\n", count("records"),
                                NumberAt(summary, "seconds"), count("records_per_sec"));
  out += fmt::format("auc {}  log loss {}", MeasureText(At(summary, "auc")),
                     MeasureText(At(summary, "logloss")));
  if (At(summary, "eval_auc").is_number()) {
    out += fmt::format("  eval auc {}", MeasureText(At(summary, "eval_auc")));
  }
  out += fmt::format("\n{} dead-lettered, {} duplicates dropped, {} restarts\n",
                     count("dead_lettered"), count("duplicates"), count("restarts"));
  out += fmt::format("audit {}: {:.0f} records counted, {:.0f} expected\n",
                     TrueAt(audit, "ok") ? "ok" : "FAILED", NumberAt(audit, "actual"),
                     NumberAt(audit, "expected"));
  return out + fmt::format("state and logs are in {}\n", dir);
}

}  // namespace

int RunTrain(int argc, const char* const* argv) {
  TrainOptions options;
  base::ConfigFields fields;
  options.Declare(fields);
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet train",
       .description = "Trains on a file with a local cluster, from its start to the audited end."});
  if (end) return *end;
  if (base::Result<> resolved = options.Resolve(); !resolved) return ReportError(resolved.error());
  TrainProgress progress(stderr, ::isatty(STDERR_FILENO) != 0 ? TrainProgress::Style::kTerminal
                                                              : TrainProgress::Style::kPlain);
  const base::Result<TrainDirectory> directory = TrainDirectory::Prepare(
      options.cluster.dir, [&progress](const std::string& line) { progress.Say(line); });
  if (!directory) return ReportError(directory.error());
  TrainSession session(options, *directory, progress);
  const TrainSession::Outcome outcome = session.Run();
  if (outcome.summary.is_null()) return outcome.exit_code;
  const int printed = options.cluster.json()
                          ? PrintJson(outcome.summary)
                          : PrintText(SummaryText(outcome.summary, directory->path()));
  return outcome.exit_code != 0 ? outcome.exit_code : printed;
}

}  // namespace freshet::cli
