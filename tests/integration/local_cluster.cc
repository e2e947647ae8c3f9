// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/local_cluster.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"

namespace freshet::testing {
namespace {

// One that was free a moment ago; the kernel does not give it to the next who asks for any.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  CHECK(bind(fd, reinterpret_cast<sockaddr*>(&at), size) == 0);
  CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0);
  close(fd);
  return ntohs(at.sin_port);
}

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
  address_ = "tcp://127.0.0.1:" + std::to_string(FreePort());
  std::vector<std::string> args = {
      "--dir",      options_.dir,      "--listen", address_,
      "--launcher", options_.launcher, "--ps",     std::to_string(options_.ps),
      "--data",     options_.data,     "--schema", options_.schema};
  args.insert(args.end(), options_.master_args.begin(), options_.master_args.end());
  const auto master = Spawn("freshet-master", "master", std::move(args));
  if (!master) return tl::unexpected(master.error());
  master_ = *master;
  for (int i = 0; i < options_.ps && options_.launcher == "none"; ++i) {
    if (auto started = StartPs(i); !started) return started;
  }
  return {};
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
