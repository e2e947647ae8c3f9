// SPDX-License-Identifier: Apache-2.0
// freshet-master: leads a cluster.
#include <cstdio>

#include "base/file.h"
#include "master/admin_api.h"
#include "master/bindings.h"
#include "master/local_launcher.h"
#include "master/master_config.h"
#include "transport/daemon.h"

namespace freshet::master {
namespace {

int Report(const base::Error& error) {
  std::fprintf(stderr, "freshet-master: %s\n", error.message.c_str());
  return base::ExitCodeFor(error.code);
}

int RunMaster(const MasterConfig& config, MasterOptions options) {
  transport::Daemon daemon;
  for (const char* folder : {"/master", "/logs", "/dead-letter"}) {
    if (auto ok = base::MakeDirectories(config.dir + folder); !ok) return Report(ok.error());
  }
  if (auto ok = base::InitLog(config.log); !ok) return Report(ok.error());
  auto cell = checkpoint::DurableCell::Open({config.dir + "/master", "master"});
  if (!cell) return Report(cell.error());
  if (auto ok = daemon.endpoint().Bind(config.listen); !ok) return Report(ok.error());

  CellStateStore store(**cell);
  FileLogProbe probe;
  LocalLauncher local({.dir = config.dir, .master_address = daemon.endpoint().bound_address()});
  NoLauncher none;
  Launcher& launcher = config.launcher == "local" ? static_cast<Launcher&>(local) : none;
  MasterNode node(std::move(options), daemon.runtime(), daemon.endpoint(), store, launcher, probe,
                  [&daemon](int code, const std::string&) { daemon.Exit(code); });
  EventFile events(config.dir + "/events.jsonl");
  node.events().sink = [&events](const Event& event) { events.Write(event); };
  daemon.on_child = [&] {
    for (const NodeExit& exit : local.ReapExited()) node.OnNodeExit(exit);
  };
  // The answer to a stop request leaves before the process does.
  AdminApi api(node, [&daemon] {
    daemon.loop().After(std::chrono::milliseconds(50), [&daemon] { daemon.Exit(0); });
  });
  auto admin = AdminServer::Start(
      {.socket_path = config.dir + "/admin.sock"},
      [&](AdminRequest request, AdminReply reply) {
        auto posted = daemon.loop().Post([&api, request = std::move(request), reply] {
          api.Handle(request, reply);
        });
        if (!posted) reply(ErrorResponse(posted.error()));
      });
  if (!admin) return Report(admin.error());
  daemon.endpoint().SetHandler(node);
  daemon.on_drain = [&] { node.Stop([&daemon] { daemon.Exit(0); }); };
  node.Start();
  return daemon.Run();
}

}  // namespace
}  // namespace freshet::master

int main(int argc, char** argv) {
  using namespace freshet;
  master::MasterConfig config;
  base::ConfigFields fields;
  config.Declare(fields);
  base::ConfigOptions about;
  about.program = "freshet-master";
  about.description = "Leads a cluster: who serves what, who reads what.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) return *code;
  config.log.node = "master";
  auto options = config.Options();
  if (!options) return master::Report(options.error());
  return master::RunMaster(config, std::move(*options));
}
