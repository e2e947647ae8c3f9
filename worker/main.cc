// SPDX-License-Identifier: Apache-2.0
// freshet-worker: one worker with the built-in training loop.
#include <unistd.h>

#include <cstdio>

#include "base/config.h"
#include "base/log.h"
#include "transport/daemon.h"
#include "worker/file_logs.h"
#include "worker/worker_config.h"
#include "worker/worker_node.h"

int main(int argc, char** argv) {
  using namespace freshet;
  worker::WorkerConfig config;
  base::ConfigFields fields;
  config.Declare(fields);
  base::ConfigOptions about;
  about.program = "freshet-worker";
  about.description = "One worker of a training job.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) {
    return *code;
  }
  config.log.node = config.name.empty() ? "worker" : config.name;
  transport::Daemon daemon;
  if (auto ok = base::InitLog(config.log); !ok) {
    std::fprintf(stderr, "freshet-worker: %s\n", ok.error().message.c_str());
    return base::ExitCodeFor(ok.error().code);
  }
  worker::Session session(config.Options(getpid()), daemon.runtime(), daemon.endpoint());
  session.on_exit = [&daemon](int code, const std::string&) { daemon.Exit(code); };
  worker::FileLogOpener opener;
  worker::DeadLetterFiles dead;
  worker::WorkerNode node(daemon.runtime(), session, opener, dead);
  node.on_registered = [&](const protocol::RegisterReply& reply) {
    dead.Configure(reply.job.dead_letter_dir, reply.incarnation);
  };
  daemon.endpoint().SetHandler(session);
  // Whatever it still waits for when that takes too long is learnt by others.
  const auto leave = [&] {
    node.Drain([&daemon] { daemon.Exit(0); });
    daemon.loop().After(std::chrono::seconds(10), [&daemon] { daemon.Exit(0); });
  };
  session.on_leave = leave;
  daemon.on_drain = leave;
  node.Start();
  return daemon.Run();
}
