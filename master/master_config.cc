// SPDX-License-Identifier: Apache-2.0
#include "master/master_config.h"

#include <filesystem>

namespace freshet::master {

void MasterConfig::Declare(base::ConfigFields& f) {
  using namespace std::chrono_literals;
  f.Add("dir", &dir, "directory of the cluster").Required();
  f.Add("listen", &listen, "address for servers and workers; port 0 = any free one");
  f.Add("launcher", &launcher, "local: start servers and workers here; none: others start them")
      .OneOf({"local", "none"});
  f.Add("exit_when_done", &exit_when_done, "stop the cluster when the job is completed");
  f.Add("job_name", &job_name, "name of the job");
  f.Add("data", &data, "file to train on").Required();
  f.Add("eval_data", &eval_data, "file to evaluate the trained model on");
  f.Add("schema", &schema, "built-in schema or schema file").Required();
  f.Add("model", &model, "lr, fm, wide_deep or deepfm");
  f.Add("model_config", &model_config, "settings of the model, key=value");
  f.Add("ps", &ps, {.min = 1, .max = 1024}, "parameter servers");
  f.Add("workers", &workers, {.min = 1, .max = 4096}, "workers");
  f.Add("epochs", &epochs, {.min = 1, .max = 1'000'000}, "how many times to read the data");
  f.Add("batch_size", &batch_size, {.min = 1, .max = 65'536}, "records of a gradient step");
  f.Add("pull_ahead", &pull_ahead, {.min = 0, .max = 64},
        "batches a worker pulls before an earlier one is pushed; faster, but they learn from older "
        "weights");
  f.Add("seed", &seed, "what new rows start from");
  f.Add("partitions", &partitions, {.min = 1, .max = protocol::kMaxPartitions},
        "hash buckets of the key space; fixed when the cluster is created");
  f.Add("heartbeat_ms", &heartbeat, {.min = 10ms, .max = 10s}, "time between reports of a node");
  f.Add("node_timeout_ms", &node_timeout, {.min = 500ms, .max = 1h},
        "a node that is silent for so long is taken for lost");
  f.Add("lease_target_ms", &lease_target, {.min = 100ms, .max = 1h},
        "how much work a worker is given at once");
  f.Add("checkpoint_interval_ms", &checkpoint_interval, {.min = 10ms, .max = 1h},
        "time between two images of a partition that changed");
  f.Add("ps_memory_limit", &ps_memory_limit, {.min = base::MiB(16), .max = base::GiB(64)},
        "most memory of one server for rows and indexes");
  f.Add("validation_window_records", &validation_window_records, {.min = 2},
        "newest records that the windowed AUC is about");
  log.Declare(f);
}

base::Result<MasterOptions> MasterConfig::Options() const {
  MasterOptions options;
  protocol::JobSpec& job = options.job;
  job.name = job_name;
  job.model = model;
  for (const std::string& entry : model_config) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) {
      return base::Fail(base::ErrorCode::kInvalidArgument,
                        "model_config '" + entry + "' is not of the form key=value");
    }
    job.model_config[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  // Nodes run elsewhere in the file system than the one who typed the path.
  const auto absolute = [](const std::string& path) {
    std::error_code ignored;
    auto full = std::filesystem::absolute(path, ignored);
    return full.empty() ? path : full.string();
  };
  std::error_code ignored;
  const std::string where = std::filesystem::exists(schema, ignored) ? absolute(schema) : schema;
  job.logs.push_back({protocol::LogId(0), "train", absolute(data), where, epochs,
                      protocol::LogPurpose::kTrain});
  if (!eval_data.empty()) {
    job.logs.push_back({protocol::LogId(1), "eval", absolute(eval_data), where, 1,
                        protocol::LogPurpose::kEvaluate});
  }
  job.batch_size = batch_size;
  job.pull_ahead = pull_ahead;
  job.seed = seed;
  job.dead_letter_dir = absolute(dir) + "/dead-letter";
  options.partitions = partitions;
  options.ps = ps;
  options.workers = workers;
  options.heartbeat = heartbeat;
  options.node_timeout = node_timeout;
  options.lease_target = lease_target;
  options.validation_window_records = validation_window_records;
  options.ps_args = {"--checkpoint-interval-ms", std::to_string(checkpoint_interval.count()),
                     "--memory-limit", std::to_string(ps_memory_limit.bytes)};
  return options;
}

}  // namespace freshet::master
