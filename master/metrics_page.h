// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "master/master_node.h"

namespace freshet::master {

// What the master knows of the cluster, in the text format of Prometheus. On the master's loop.
std::string MetricsPage(const MasterNode& node);

}  // namespace freshet::master
