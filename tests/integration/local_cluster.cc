// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/local_cluster.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "transport/event_loop.h"

namespace freshet::testing {
namespace {

constexpr std::chrono::seconds kStartPatience{30};

void KillAndWait(base::ProcessId pid) {
  (void)base::SignalProcess(pid, SIGKILL);
  waitpid(static_cast<pid_t>(pid), nullptr, 0);
}

}  // namespace

LocalCluster::~LocalCluster() {
  for (const auto& [number, pid] : servers_) KillAndWait(pid);
  if (master_ != 0) KillAndWait(master_);
}

base::Result<base::ProcessId> LocalCluster::Spawn(const std::string& program,
                                                  const std::string& name,
                                                  std::vector<std::string> args) const {
  const auto binaries = base::ExecutableDirectory();
  if (!binaries) return tl::unexpected(binaries.error());
  const std::string log = options_.dir + "/" + name + ".log";
  return base::SpawnProcess({.path = *binaries + "/" + program,
                             .args = std::move(args),
                             .stdout_file = log,
                             .stderr_file = log,
                             .on_parent_death = base::OnParentDeath::kKill});
}

base::Result<> LocalCluster::Start() {
  if (auto made = base::MakeDirectories(options_.dir); !made) return made;
  std::vector<std::string> args = {
      "--dir",  options_.dir,  "--launcher", options_.launcher, "--ps", std::to_string(options_.ps),
      "--data", options_.data, "--schema",   options_.schema};
  args.insert(args.end(), options_.master_args.begin(), options_.master_args.end());
  const auto master = Spawn("freshet-master", "master", std::move(args));
  if (!master) return tl::unexpected(master.error());
  master_ = *master;
  if (auto found = FindAddress(); !found) return found;
  for (int i = 0; i < options_.ps && options_.launcher == "none"; ++i) {
    if (auto started = StartPs(i); !started) return started;
  }
  return {};
}

// A port that the master chose itself: one chosen here could be somebody else's by then.
base::Result<> LocalCluster::FindAddress() {
  transport::EventLoop loop({.spin = base::Duration(0)});
  const base::Instant give_up = loop.clock().Now() + kStartPatience;
  do {
    address_ = base::ReadFile(options_.dir + "/master/address", 100).value_or("");
    if (!address_.empty()) return {};
    loop.RunUntil([] { return false; }, std::chrono::milliseconds(5));
  } while (loop.clock().Now() < give_up);
  return base::Fail(base::ErrorCode::kTimeout, "the master did not begin to listen");
}

base::Result<> LocalCluster::StartPs(int number) {
  const std::string name = "ps-" + std::to_string(number);
  std::vector<std::string> args = {"--name", name,    "--master",
                                   address_, "--dir", options_.dir + "/" + name};
  args.insert(args.end(), options_.ps_args.begin(), options_.ps_args.end());
  const auto pid = Spawn("freshet-ps", name, std::move(args));
  if (!pid) return tl::unexpected(pid.error());
  servers_[number] = *pid;
  return {};
}

void LocalCluster::KillPs(int number) {
  KillAndWait(servers_.at(number));
  servers_.erase(number);
}

}  // namespace freshet::testing
