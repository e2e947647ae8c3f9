// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/text.h"
#include "stream/generator.h"
#include "transport/system_clock.h"

namespace freshet::cli {
namespace {

struct GenerateOptions {
  stream::GeneratorOptions generator;
  std::string out;
  std::string output = "text";
  bool force = false;

  void Declare(base::ConfigFields& fields) {
    stream::PlantedOptions& model = generator.model;
    fields.Add("records", &generator.records, {.min = uint64_t{1}}, "how many records");
    fields.Add("out", &out, "the file; it appears whole or not at all").Required();
    fields.Add("seed", &model.seed, "of the world: the same seed gives the same records");
    fields.Add("first_record", &generator.first_record,
               "number of the first record: go on where another file of the same seed ends");
    fields.Add("new_items_per_million", &model.new_items_per_million,
               "how fast items are replaced by new ones; 0: never");
    fields.Add("drift_period_records", &model.drift_period_records,
               "records in which tastes change once around; 0: never");
    fields.Add("force", &force, "replace an existing file");
    fields.Add("output", &output, "how the result is printed").Short('o').OneOf({"text", "json"});
  }
};

stream::GeneratorProgress ProgressOnTerminal(uint64_t records) {
  if (::isatty(STDERR_FILENO) == 0) return [](uint64_t) {};
  return [records](uint64_t written) {
    fmt::print(stderr, "\rgenerate: {}/{} records", written, records);
    if (written == records) fmt::print(stderr, "\r\033[K");
  };
}

}  // namespace

int RunGenerate(int argc, const char* const* argv) {
  GenerateOptions options;
  base::ConfigFields fields;
  options.Declare(fields);
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet generate",
       .description = "Writes click records of a planted model, and says the best AUC anyone can "
                      "reach on them. Train on the file with --schema freshet."});
  if (end) return *end;
  const transport::SystemClock clock;
  options.generator.clock = &clock;
  options.generator.existing =
      options.force ? stream::ExistingFile::kReplace : stream::ExistingFile::kRefuse;
  const base::Result<stream::GeneratorSummary> made = stream::GenerateLog(
      options.generator, options.out, ProgressOnTerminal(options.generator.records));
  if (!made) {
    base::Error error = made.error();
    if (error.code == base::ErrorCode::kConflict) error.message += "; --force replaces it";
    return ReportError(error);
  }
  const double rate = made->seconds > 0 ? static_cast<double>(made->records) / made->seconds : 0.0;
  if (options.output == "json") {
    return PrintJson({{"file", options.out},
                      {"schema", "freshet"},
                      {"records", made->records},
                      {"bytes", made->bytes},
                      {"seconds", made->seconds},
                      {"records_per_sec", rate},
                      {"positive_rate", made->positive_rate},
                      {"best_auc", made->best_auc},
                      {"best_logloss", made->best_logloss}});
  }
  return PrintText(fmt::format(
      "wrote {} records ({}) to {} in {:.2f} s, {:.0f} records/s\n"
      "clicks {:.2f} %, best possible auc {:.4f}, best possible log loss {:.4f}\n"
      "train on it: freshet train --data {} --schema freshet --model deepfm\n",
      made->records, BytesText(static_cast<double>(made->bytes)), options.out, made->seconds, rate,
      100 * made->positive_rate, made->best_auc, made->best_logloss, options.out));
}

}  // namespace freshet::cli
