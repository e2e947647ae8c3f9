// SPDX-License-Identifier: Apache-2.0
// The configuration of freshet-worker.
#pragma once

#include <string>

#include "base/config.h"
#include "base/log.h"
#include "worker/client/session.h"

namespace freshet::worker {

struct WorkerConfig {
  std::string name;
  std::string master;
  std::string dir;
  base::LogOptions log;

  void Declare(base::ConfigFields& fields) {
    fields.Add("name", &name, "this worker's name; the master chooses one if there is none");
    fields.Add("master", &master, "address of the master, tcp://host:port").Required();
    fields.Add("dir", &dir, "not used by a worker yet; given by the launcher");
    log.Declare(fields);
  }

  SessionOptions Options(int64_t pid) const {
    SessionOptions options;
    options.name = name;
    options.master = master;
    options.pid = pid;
    return options;
  }
};

}  // namespace freshet::worker
