// SPDX-License-Identifier: Apache-2.0
// The configuration of freshet-master: where it runs and the job it leads. Also what the file of
// `freshet up` may say.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/log.h"
#include "master/master_node.h"

namespace freshet::master {

struct MasterConfig {
  std::string dir = "./freshet-data";
  std::string listen = "tcp://127.0.0.1:0";
  std::string launcher = "local";
  bool nodes_outlive_master = false;
  std::string job_name = "train";
  std::string data;
  std::string eval_data;
  std::string schema;
  std::string model = "deepfm";
  std::vector<std::string> model_config;
  uint32_t ps = 1;
  uint32_t workers = 1;
  uint32_t epochs = 1;
  bool follow = false;
  std::chrono::milliseconds linger{1'000};
  uint32_t batch_size = 512;
  uint32_t pull_ahead = 0;
  uint64_t seed = 1;
  uint32_t partitions = 256;
  std::chrono::milliseconds heartbeat{100};
  std::chrono::milliseconds node_timeout{10'000};
  std::chrono::milliseconds hung_timeout{30'000};
  std::chrono::milliseconds drain_timeout{45'000};
  std::chrono::milliseconds lease_target{40'000};
  std::chrono::milliseconds checkpoint_interval{10'000};
  base::ByteSize ps_memory_limit = base::GiB(32);
  base::ByteSize migration_bandwidth;
  uint32_t migration_share = 10;
  bool auto_balance = true;
  std::chrono::milliseconds balance_interval{2'000};
  uint32_t max_ps = 64;
  uint32_t max_workers = 1024;
  uint64_t validation_window_records = 100'000;
  base::LogOptions log;

  void Declare(base::ConfigFields& fields);
  // Makes paths absolute and checks, without starting anything, what can be checked cheaply: that the
  // files are there and that the schema makes sense.
  base::Result<> Resolve();
  // kInvalidArgument: what is wrong with model_config, by name.
  base::Result<MasterOptions> Options() const;

 private:
  base::Result<> CheckFollow() const;
};

}  // namespace freshet::master
