// SPDX-License-Identifier: Apache-2.0
#include "master/master_config.h"

#include <fmt/format.h>

#include <filesystem>

#include "stream/byte_source.h"
#include "stream/schema.h"

namespace freshet::master {

void MasterConfig::Declare(base::ConfigFields& f) {
  using namespace std::chrono_literals;
  f.Add("dir", &dir, "directory of the cluster");
  f.Add("listen", &listen, "address for servers and workers; port 0 = any free one");
  f.Add("launcher", &launcher, "local: start servers and workers here; none: others start them")
      .OneOf({"local", "none"});
  f.Add("nodes_outlive_master", &nodes_outlive_master,
        "servers and workers started here go on when the master dies, and its successor adopts "
        "them; freshet up always says true");
  f.Add("job_name", &job_name, "name of the job");
  f.Add("data", &data, "file to train on, plain or gzip").Required().Example("clicks.tsv");
  f.Add("eval_data", &eval_data, "file to evaluate the trained model on");
  f.Add("schema", &schema,
        "built-in schema (freshet, criteo, criteo-csv, movielens, avazu) or schema file")
      .Required()
      .Example("freshet");
  f.Add("model", &model, "what is trained").OneOf({"lr", "fm", "wide_deep", "deepfm"});
  f.Add("model_config", &model_config, "settings of the model, key=value");
  f.Add("ps", &ps, {.min = 1, .max = 1024}, "parameter servers");
  f.Add("workers", &workers, {.min = 1, .max = 4096}, "workers");
  f.Add("epochs", &epochs, {.min = 1, .max = 1'000'000}, "how many times to read the data");
  f.Add("follow", &follow,
        "the data may grow: what is appended is learnt, and the job waits at its end instead of "
        "completing; not with gzip, epochs or eval_data");
  f.Add("linger_ms", &linger, {.min = 0ms, .max = 10min},
        "with follow: how long records at the end that do not fill a batch wait for more");
  f.Add("batch_size", &batch_size, {.min = 1, .max = 65'536}, "records of a gradient step");
  f.Add("pull_ahead", &pull_ahead, {.min = 0, .max = 64},
        "batches a worker pulls before an earlier one is pushed; faster, but they learn from older "
        "weights");
  f.Add("seed", &seed, "what new rows start from");
  f.Add("partitions", &partitions, {.min = 1, .max = protocol::kMaxPartitions},
        "hash buckets of the key space; fixed when the cluster is created");
  f.Add("heartbeat_ms", &heartbeat, {.min = 10ms, .max = 10s}, "time between reports of a node");
  f.Add("node_timeout_ms", &node_timeout, {.min = 500ms, .max = 1h},
        "a node that is silent for so long is taken for lost; its lease goes to others");
  f.Add("hung_timeout_ms", &hung_timeout, {.min = 1s, .max = 24h},
        "a node started here that is silent for so long is killed and started again");
  f.Add("drain_timeout_ms", &drain_timeout, {.min = 1s, .max = 1h},
        "how long a stop waits for the nodes to make durable and leave before it kills them");
  f.Add("lease_target_ms", &lease_target, {.min = 100ms, .max = 1h},
        "how much work a worker is given at once");
  f.Add("checkpoint_interval_ms", &checkpoint_interval, {.min = 10ms, .max = 1h},
        "time between two images of a partition that changed");
  f.Add("ps_memory_limit", &ps_memory_limit, {.min = base::MiB(16), .max = base::GiB(64)},
        "most memory of one server for rows and indexes");
  f.Add("migration_bandwidth", &migration_bandwidth, {.max = base::GiB(64)},
        "bytes a second of partitions that move to one server; 0 = no bound");
  f.Add("migration_share", &migration_share, {.min = 1, .max = 100},
        "percent of the time that copying partitions takes while workers are served");
  f.Add("auto_balance", &auto_balance,
        "partitions leave servers that are slow, hot or short of memory without being told to");
  f.Add("balance_interval_ms", &balance_interval, {.min = 100ms, .max = 1h},
        "how often auto_balance looks at the servers; it acts on what lasts for several looks");
  f.Add("max_ps", &max_ps, {.min = 1, .max = 1024}, "most servers that scaling may make");
  f.Add("max_workers", &max_workers, {.min = 1, .max = 4096}, "most workers that scaling may make");
  f.Add("validation_window_records", &validation_window_records, {.min = 2},
        "newest records that the windowed AUC is about");
  log.Declare(f);
}

namespace {

// Nodes run elsewhere in the file system than the one who typed the path.
std::string Absolute(const std::string& path) {
  std::error_code error;
  const auto full = std::filesystem::absolute(path, error);
  return error || full.empty() ? path : full.string();
}

base::Result<> ResolveFile(std::string& path, const char* key) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return base::Fail(base::ErrorCode::kNotFound, fmt::format("{}: no such file: {}", key, path));
  }
  if (std::filesystem::is_directory(status)) {
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      fmt::format("{}: {} is a directory; give a file", key, path));
  }
  path = Absolute(path);
  return {};
}

}  // namespace

base::Result<> MasterConfig::Resolve() {
  if (base::Result<> file = ResolveFile(data, "data"); !file) return file;
  if (!eval_data.empty()) {
    if (base::Result<> file = ResolveFile(eval_data, "eval_data"); !file) return file;
  }
  if (stream::BuiltinSchemaYaml(schema).empty()) schema = Absolute(schema);
  if (ps > partitions) {
    return base::Fail(
        base::ErrorCode::kInvalidArgument,
        fmt::format("ps: {} is more than partitions: {}; some would own nothing", ps, partitions));
  }
  if (ps > max_ps || workers > max_workers) {
    const bool servers = ps > max_ps;
    return base::Fail(
        base::ErrorCode::kInvalidArgument,
        servers ? fmt::format("ps: {} is more than max_ps: {}", ps, max_ps)
                : fmt::format("workers: {} is more than max_workers: {}", workers, max_workers));
  }
  if (follow) {
    if (auto can = CheckFollow(); !can) return can;
  }
  if (auto options = Options(); !options) return tl::unexpected(options.error());
  return {};
}

base::Result<> MasterConfig::CheckFollow() const {
  if (epochs > 1) {
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      fmt::format("follow: a log that grows has no end after which epoch 2 of {} "
                                  "could begin; leave out epochs or follow",
                                  epochs));
  }
  if (!eval_data.empty()) {
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      "follow: eval_data is evaluated when the training ends, which it does not "
                      "with follow; leave out one of them");
  }
  const auto file = stream::OpenByteSource(data, stream::FileGrowth::kAppend);
  if (!file) return base::Fail(file.error().code, "follow: " + file.error().message);
  return {};
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
  const auto parsed = stream::LoadSchema(schema);
  if (!parsed) return tl::unexpected(parsed.error());
  const uint64_t features = parsed->Fingerprint();
  job.logs.push_back({protocol::LogId(0), "train", data, schema, epochs,
                      protocol::LogPurpose::kTrain, follow, features});
  if (!eval_data.empty()) {
    job.logs.push_back({protocol::LogId(1), "eval", eval_data, schema, 1,
                        protocol::LogPurpose::kEvaluate, false, features});
  }
  job.batch_size = batch_size;
  job.pull_ahead = pull_ahead;
  job.seed = seed;
  job.dead_letter_dir = Absolute(dir) + "/dead-letter";
  options.partitions = partitions;
  options.ps = ps;
  options.workers = workers;
  options.plans.max_ps = max_ps;
  options.plans.max_workers = max_workers;
  options.auto_balance = auto_balance;
  options.balance.sample_interval = balance_interval;
  options.heartbeat = heartbeat;
  options.node_timeout = node_timeout;
  options.hung_timeout = hung_timeout;
  options.drain_timeout = drain_timeout;
  options.lease_target = lease_target;
  options.linger = linger;
  options.validation_window_records = validation_window_records;
  const std::vector<std::string> log_args = {"--log-level", log.level, "--log-format", log.format};
  options.ps_args = {"--checkpoint-interval-ms", std::to_string(checkpoint_interval.count()),
                     "--memory-limit",           std::to_string(ps_memory_limit.bytes),
                     "--migration-bandwidth",    std::to_string(migration_bandwidth.bytes),
                     "--migration-share",        std::to_string(migration_share)};
  options.ps_args.insert(options.ps_args.end(), log_args.begin(), log_args.end());
  options.worker_args = log_args;
  return options;
}

}  // namespace freshet::master
