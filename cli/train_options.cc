// SPDX-License-Identifier: Apache-2.0
#include "cli/train_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/json.h"
#include "protocol/ids.h"
#include "stream/schema.h"
#include "worker/model/config.h"

namespace freshet::cli {
namespace {

namespace fs = std::filesystem;
using base::ErrorCode;
using std::chrono::hours;
using std::chrono::milliseconds;

constexpr uint32_t kMaxNodes = 64;

base::Result<> ResolveFile(std::string& path, const char* flag) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return base::Fail(ErrorCode::kNotFound,
                      fmt::format("no such file: {}; give an existing one with {}", path, flag));
  }
  if (fs::is_directory(status)) {
    return base::Fail(ErrorCode::kInvalidArgument,
                      fmt::format("{} is a directory; give a file with {}", path, flag));
  }
  if (::access(path.c_str(), R_OK) != 0) {
    return base::Fail(ErrorCode::kIo, fmt::format("{} cannot be read; see its permissions", path));
  }
  const fs::path absolute = fs::absolute(path, error);
  if (!error) path = absolute.string();
  return {};
}

std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::string Quoted(const std::string& text) {
  std::string out;
  base::AppendJsonString(text, out);
  return out;
}

}  // namespace

void TrainOptions::Declare(base::ConfigFields& fields) {
  fields.Add("data", &data, "the file to train on, plain or gzip").Required();
  fields
      .Add("schema", &schema,
           "built-in schema (freshet, criteo, criteo-csv, movielens, avazu) "
           "or a YAML file")
      .Required();
  fields.Add("model", &model, fmt::format("{}", fmt::join(worker::KnownModels(), ", "))).Required();
  fields.Add("model_config", &model_config, "settings of the model: dim=16,hidden=64-32,..");
  fields.Add("ps", &ps, {.min = 1, .max = kMaxNodes}, "parameter servers to start");
  fields.Add("workers", &workers, {.min = 1, .max = kMaxNodes}, "workers to start");
  fields.Add("epochs", &epochs, {.min = 1, .max = 1'000'000}, "how often to go through the file");
  fields.Add("eval_data", &eval_data, "a file to evaluate the trained model on, same schema");
  cluster.Declare(fields);
  fields.Add("job_name", &job_name, "name of the job in status and logs");
  fields.Add("batch_size", &batch_size, {.min = 1, .max = 1 << 16}, "records of a gradient step");
  fields.Add("seed", &seed, "of the initial weights");
  fields.Add("partitions", &partitions, {.min = 1, .max = protocol::kMaxPartitions},
             "buckets of the key space; at least as many as there will ever be parameter servers");
  fields.Add("checkpoint_interval_ms", &checkpoint_interval,
             {.min = milliseconds(100), .max = hours(1)}, "time between images of a partition");
}

base::Result<> TrainOptions::Resolve() {
  if (base::Result<> file = ResolveFile(data, "--data"); !file) return file;
  if (!eval_data.empty()) {
    if (base::Result<> file = ResolveFile(eval_data, "--eval-data"); !file) return file;
  }
  const base::Result<stream::LogSchema> parsed = stream::LoadSchema(schema);
  if (!parsed) return tl::unexpected(parsed.error());
  if (base::Result<> checked = CheckModelSettings(model, model_config); !checked) return checked;
  if (ps > partitions) {
    return base::Fail(ErrorCode::kInvalidArgument,
                      fmt::format("--ps {} is more than --partitions {}: some would own nothing; "
                                  "raise --partitions",
                                  ps, partitions));
  }
  // A schema that is a file has to be found from wherever the nodes run.
  std::error_code error;
  if (stream::BuiltinSchemaYaml(schema).empty()) schema = fs::absolute(schema, error).string();
  if (job_name.empty()) job_name = model + "-" + fs::path(data).stem().string();
  return {};
}

std::vector<MasterSetting> MasterSettings(const TrainOptions& options) {
  std::string model_config;
  for (const std::string& part : SplitAtCommas(options.model_config)) {
    model_config += (model_config.empty() ? "[" : ", ") + Quoted(part);
  }
  if (!model_config.empty()) model_config += "]";
  std::vector<MasterSetting> out = {
      {"job_name", Quoted(options.job_name)},
      {"data", Quoted(options.data)},
      {"schema", Quoted(options.schema)},
      {"model", Quoted(options.model)},
      {"model_config", model_config},
      {"ps", fmt::to_string(options.ps)},
      {"workers", fmt::to_string(options.workers)},
      {"epochs", fmt::to_string(options.epochs)},
      {"follow", "false"},
      {"auto_balance", "false"},  // a job that ends has no time to win it back
      {"eval_data", Quoted(options.eval_data)},
      {"batch_size", fmt::to_string(options.batch_size)},
      {"seed", fmt::to_string(options.seed)},
      {"partitions", fmt::to_string(options.partitions)},
      {"checkpoint_interval_ms", fmt::to_string(options.checkpoint_interval.count())},
  };
  std::erase_if(out, [](const MasterSetting& setting) {
    return setting.yaml_value.empty() || setting.yaml_value == "\"\"";
  });
  return out;
}

std::string MasterYaml(const std::vector<MasterSetting>& settings) {
  std::string out = "# Written by freshet train: what the master of this cluster was told.\n";
  for (const MasterSetting& setting : settings) {
    out += fmt::format("{}: {}\n", setting.key, setting.yaml_value);
  }
  return out;
}

base::Result<> CheckModelSettings(const std::string& model, const std::string& settings) {
  const auto parsed = ParseModelSettings(settings);
  if (!parsed) return tl::unexpected(parsed.error());
  const auto config = worker::ParseModelConfig(model, *parsed);
  if (!config) return tl::unexpected(config.error());
  return {};
}

base::Result<std::map<std::string, std::string>> ParseModelSettings(const std::string& text) {
  std::map<std::string, std::string> out;
  for (const std::string& part : SplitAtCommas(text)) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0) {
      return base::Fail(ErrorCode::kInvalidArgument,
                        fmt::format("--model-config: '{}' is not KEY=VALUE", part));
    }
    if (!out.emplace(part.substr(0, equals), part.substr(equals + 1)).second) {
      return base::Fail(ErrorCode::kInvalidArgument,
                        fmt::format("--model-config: '{}' is given twice", part.substr(0, equals)));
    }
  }
  return out;
}

}  // namespace freshet::cli
