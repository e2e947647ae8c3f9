// SPDX-License-Identifier: Apache-2.0
// The master's brain bound to the real world: sockets, its durable state, files and child processes.
#pragma once

#include "master/master_config.h"

namespace freshet::master {

// Runs until the cluster is stopped; the exit code. On the main thread, before any other one starts.
int RunMaster(const MasterConfig& config);

}  // namespace freshet::master
