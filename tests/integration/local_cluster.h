// SPDX-License-Identifier: Apache-2.0
// LocalCluster: a master and parameter servers as child processes in a directory of their own, for tests
// and benchmarks that are the workers themselves. The executables lie beside the running one; what they
// say goes to DIR/*.log. The destructor kills what still runs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/result.h"

namespace freshet::testing {

struct LocalClusterOptions {
  std::string dir;  // made if it is not there
  std::string data;
  std::string schema = "freshet";
  int ps = 1;
  // "local": the master starts the servers itself, and a worker; they end with it.
  std::string launcher = "none";
  std::vector<std::string> master_args;
  std::vector<std::string> ps_args;
};

class LocalCluster {
 public:
  explicit LocalCluster(LocalClusterOptions options) : options_(std::move(options)) {}
  ~LocalCluster();
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;

  // Starts the master and, when it listens, all servers; does not wait for those.
  base::Result<> Start();
  base::Result<> StartPs(int number);
  // SIGKILL; returns once the process is gone.
  void KillPs(int number);

  // For workers.
  const std::string& master_address() const { return address_; }
  const std::string& dir() const { return options_.dir; }
  base::ProcessId ps_pid(int number) const { return servers_.at(number); }

 private:
  base::Result<base::ProcessId> Spawn(const std::string& program, const std::string& name,
                                      std::vector<std::string> args) const;
  base::Result<> FindAddress();

  LocalClusterOptions options_;
  std::string address_;
  base::ProcessId master_ = 0;
  std::map<int, base::ProcessId> servers_;
};

}  // namespace freshet::testing
