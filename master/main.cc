// SPDX-License-Identifier: Apache-2.0
// freshet-master: leads a cluster. freshet-master restore: makes its directory from a backup.
#include <string_view>

#include "master/master_config.h"
#include "master/restore.h"
#include "master/run.h"

int main(int argc, char** argv) {
  using namespace freshet;
  if (argc > 1 && std::string_view(argv[1]) == "restore") {
    return master::RunRestore(argc - 1, argv + 1);
  }
  master::MasterConfig config;
  base::ConfigFields fields;
  config.Declare(fields);
  base::ConfigOptions about;
  about.program = "freshet-master";
  about.description = "Leads a cluster: who serves what, who reads what.";
  about.validate = [&config] { return config.Resolve(); };
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  // It was for us: the same names mean something else to the nodes that we start.
  base::ForgetSettings();
  config.log.node = "master";
  return master::RunMaster(config);
}
