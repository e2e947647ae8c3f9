// SPDX-License-Identifier: Apache-2.0
#include "master/run.h"

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "master/admin_api.h"
#include "master/bindings.h"
#include "master/local_launcher.h"
#include "transport/daemon.h"

namespace freshet::master {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kProgram = "freshet-master";
constexpr milliseconds kRetry{50};
constexpr seconds kBindPatience{5};

// A master that was killed may still be on its way out.
constexpr seconds kLockPatience{1};

base::Result<std::unique_ptr<checkpoint::DurableCell>> OpenState(transport::Daemon& daemon,
                                                                 const MasterConfig& config) {
  const auto give_up = daemon.loop().clock().Now() + kLockPatience;
  for (;;) {
    auto cell = checkpoint::DurableCell::Open({config.dir + "/master", "master"});
    const bool locked = !cell && cell.error().code == base::ErrorCode::kConflict;
    if (!locked || daemon.loop().clock().Now() >= give_up) return cell;
    daemon.loop().RunUntil([] { return false; }, kRetry);
  }
}

// Without the port.
std::string_view HostOf(std::string_view address) { return address.substr(0, address.rfind(':')); }

bool AnyPort(std::string_view address) {
  return address.ends_with(":0") || address.ends_with(":*");
}

// Nodes that go on without a master look for it where it was, so a port chosen by chance is kept.
base::Result<> Listen(transport::Daemon& daemon, const MasterConfig& config) {
  const std::string file = config.dir + "/master/address";
  const auto saved = base::ReadFile(file, 1024);
  std::string wanted = config.listen;
  if (saved && AnyPort(config.listen) && HostOf(*saved) == HostOf(config.listen)) wanted = *saved;
  const auto give_up = daemon.loop().clock().Now() + kBindPatience;
  base::Result<> bound = daemon.endpoint().Bind(wanted);
  // The sockets of the master before us may outlive it for a moment.
  while (!bound && bound.error().code == base::ErrorCode::kConflict && saved &&
         daemon.loop().clock().Now() < give_up) {
    daemon.loop().RunUntil([] { return false; }, kRetry);
    bound = daemon.endpoint().Bind(wanted);
  }
  if (!bound && wanted != config.listen) {
    FRESHET_LOG_WARN("{}: taking another port; nodes that knew the old one are started again",
                     bound.error().message);
    bound = daemon.endpoint().Bind(config.listen);
  }
  if (!bound) return bound;
  return base::WriteFileAtomic(file, daemon.endpoint().bound_address());
}

base::Result<std::unique_ptr<AdminServer>> Serve(transport::Daemon& daemon, AdminApi& api,
                                                 const MasterConfig& config) {
  return AdminServer::Start({.socket_path = base::ShortestPath(config.dir + "/admin.sock")},
                            [&daemon, &api](AdminRequest request, AdminReply reply) {
                              auto posted =
                                  daemon.loop().Post([&api, request = std::move(request), reply] {
                                    api.Handle(request, reply);
                                  });
                              if (!posted) reply(ErrorResponse(posted.error()));
                            });
}

LocalLauncherOptions LauncherOptions(const MasterConfig& config, const std::string& address) {
  return {.dir = fs::absolute(config.dir).lexically_normal().string(),
          .master_address = address,
          .on_master_death = config.nodes_outlive_master ? base::OnParentDeath::kLive
                                                         : base::OnParentDeath::kKill};
}

void WatchChildren(transport::Daemon& daemon, LocalLauncher& launcher, MasterNode& node) {
  daemon.on_child = [&] {
    for (const NodeExit& exit : launcher.ReapExited()) node.OnNodeExit(exit);
  };
  launcher.on_watch = [&daemon](int fd) {
    daemon.loop().WatchFd(fd, [&daemon] { daemon.on_child(); });
  };
  launcher.on_unwatch = [&daemon](int fd) { daemon.loop().UnwatchFd(fd); };
}

}  // namespace

int RunMaster(const MasterConfig& config) {
  transport::Daemon daemon;
  const auto report = [](const base::Error& error) { return base::ReportError(kProgram, error); };
  // There is nothing to drain yet.
  daemon.on_drain = [] { _exit(128 + SIGTERM); };
  for (const char* folder : {"/master", "/logs", "/dead-letter"}) {
    if (auto ok = base::MakeDirectories(config.dir + folder); !ok) return report(ok.error());
  }
  if (auto ok = base::InitLog(config.log); !ok) return report(ok.error());
  auto options = config.Options();
  if (!options) return report(options.error());
  auto cell = OpenState(daemon, config);
  if (!cell) return report(cell.error());
  if (auto ok = Listen(daemon, config); !ok) return report(ok.error());

  CellStateStore store(**cell);
  FileLogProbe probe;
  LocalLauncher local(LauncherOptions(config, daemon.endpoint().bound_address()));
  NoLauncher none;
  Launcher& launcher = config.launcher == "local" ? static_cast<Launcher&>(local) : none;
  MasterNode node(std::move(*options), daemon.runtime(), daemon.endpoint(), store, launcher, probe,
                  [&daemon](int code, const std::string&) { daemon.Exit(code); });
  EventFile events(config.dir + "/events.jsonl");
  node.events().sink = [&events](const Event& event) { events.Write(event); };
  WatchChildren(daemon, local, node);
  // The answer to a stop request leaves before the process does.
  const auto leave = [&daemon] {
    daemon.loop().After(milliseconds(50), [&daemon] { daemon.Exit(0); });
  };
  AdminApi api(node, config.dir, leave);
  auto admin = Serve(daemon, api, config);
  if (!admin) return report(admin.error());
  daemon.endpoint().SetHandler(node);
  daemon.on_drain = [&] { node.Stop([leave](const base::Result<>&) { leave(); }); };
  node.Start();
  return daemon.Run();
}

}  // namespace freshet::master
