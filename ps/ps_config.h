// SPDX-License-Identifier: Apache-2.0
// The configuration of freshet-ps.
#pragma once

#include <chrono>
#include <string>

#include "base/config.h"
#include "base/log.h"
#include "ps/ps_node.h"

namespace freshet::ps {

struct PsConfig {
  std::string name;
  std::string master;
  std::string dir;
  std::string listen = "tcp://127.0.0.1:0";
  std::string advertise;
  std::string processors;
  std::chrono::milliseconds checkpoint_interval{10'000};
  base::ByteSize memory_limit = base::GiB(32);
  base::ByteSize migration_bandwidth{0};
  uint32_t migration_share = CopyPaceOptions().share_percent;
  base::LogOptions log;

  void Declare(base::ConfigFields& fields) {
    using namespace std::chrono_literals;
    fields.Add("name", &name, "this server's name in the cluster, e.g. ps-0").Required();
    fields.Add("master", &master, "address of the master, tcp://host:port").Required();
    fields.Add("dir", &dir, "directory for the images of its partitions").Required();
    fields.Add("listen", &listen, "address to listen on; port 0 = any free one");
    fields.Add("advertise", &advertise, "address that others use, if not the one listened on");
    fields.Add("checkpoint_interval_ms", &checkpoint_interval, {.min = 10ms, .max = 1h},
               "time between two images of a partition that changed");
    fields.Add("processors", &processors,
               "numbers of the processors it may run on, e.g. 0,2; empty = all");
    fields.Add("memory_limit", &memory_limit, {.min = base::MiB(16), .max = base::GiB(64)},
               "most memory for rows and indexes");
    fields.Add("migration_bandwidth", &migration_bandwidth, {.max = base::GiB(64)},
               "bytes a second of partitions that move here; 0 = no bound");
    fields.Add("migration_share", &migration_share, {.min = 1, .max = 100},
               "percent of the time that copying partitions takes while workers are served");
    log.Declare(fields);
  }

  // Others connect to what they are told: an address of every interface is nobody's.
  base::Result<> CheckAddress(const std::string& bound_address) const {
    const bool every = bound_address.find("//0.0.0.0:") != std::string::npos ||
                       bound_address.find("//[::]:") != std::string::npos ||
                       bound_address.find("//*:") != std::string::npos;
    if (!every || !advertise.empty()) return {};
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      "listen: " + listen +
                          " is on every interface; say with --advertise (tcp://HOST:PORT) which "
                          "address workers and other servers reach it at");
  }

  PsOptions Options(const std::string& bound_address, int64_t pid) const {
    PsOptions options;
    options.name = name;
    options.address = advertise.empty() ? bound_address : advertise;
    options.master = master;
    options.pid = pid;
    options.checkpoint.interval = checkpoint_interval;
    options.checkpoint.spread = checkpoint_interval * 4 / 5;
    options.memory_limit_bytes = memory_limit.bytes;
    options.migration_pace = {migration_bandwidth.bytes, migration_share};
    return options;
  }
};

}  // namespace freshet::ps
