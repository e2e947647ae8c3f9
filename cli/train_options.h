// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "cli/command.h"

namespace freshet::cli {

// What `freshet train` is told.
struct TrainOptions {
  ClusterOptions cluster;
  std::string data;
  std::string schema;
  std::string model;
  std::string model_config;
  std::string eval_data;
  std::string job_name;  // empty: from model and data
  uint32_t ps = 1;
  uint32_t workers = 1;
  uint32_t epochs = 1;
  uint32_t batch_size = 512;
  uint64_t seed = 1;
  uint32_t partitions = 256;
  std::chrono::milliseconds checkpoint_interval{10'000};

  void Declare(base::ConfigFields& fields);
  // Makes paths absolute and checks, without starting anything, all that can be checked cheaply:
  // that the files are there, that schema, model and its settings make sense.
  base::Result<> Resolve();
};

// One setting of the master, as its configuration file has it.
struct MasterSetting {
  std::string key;
  std::string yaml_value;
};
std::vector<MasterSetting> MasterSettings(const TrainOptions& options);
// The text of the master's configuration file.
std::string MasterYaml(const std::vector<MasterSetting>& settings);

// Whether there is such a model and it takes these settings, written as for --model-config.
base::Result<> CheckModelSettings(const std::string& model, const std::string& settings);
// "dim=8,hidden=64-32" as a map; kInvalidArgument names the part that is no key=value.
base::Result<std::map<std::string, std::string>> ParseModelSettings(const std::string& text);

}  // namespace freshet::cli
