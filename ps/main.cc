// SPDX-License-Identifier: Apache-2.0
// freshet-ps: one parameter server.
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "base/config.h"
#include "base/log.h"
#include "base/processors.h"
#include "checkpoint/lmdb_image_store.h"
#include "ps/ps_config.h"
#include "ps/ps_node.h"
#include "transport/daemon.h"
#include "transport/processor_time.h"
#include "transport/system_clock.h"

int main(int argc, char** argv) {
  using namespace freshet;
  ps::PsConfig config;
  base::ConfigFields fields;
  config.Declare(fields);
  base::ConfigOptions about;
  about.program = "freshet-ps";
  about.description = "One parameter server.";
  if (const auto code = base::LoadConfigOrReport(fields, argc, argv, about)) {
    return *code;
  }
  config.log.node = config.name;
  const auto fail = [](const base::Error& error) {
    std::fprintf(stderr, "freshet-ps: %s\n", error.message.c_str());
    return base::ExitCodeFor(error.code);
  };
  // Before there are other threads.
  if (!config.processors.empty()) {
    const auto processors = base::ParseProcessors(config.processors);
    if (!processors) return fail(processors.error());
    if (auto ok = base::LimitToProcessors(*processors); !ok) return fail(ok.error());
  }
  transport::Daemon daemon;
  if (auto ok = base::InitLog(config.log); !ok) return fail(ok.error());
  if (auto ok = daemon.endpoint().Bind(config.listen); !ok) return fail(ok.error());
  if (auto ok = config.CheckAddress(daemon.endpoint().bound_address()); !ok)
    return fail(ok.error());
  auto store = checkpoint::LmdbImageStore::Open({.directory = config.dir + "/images"});
  if (!store) return fail(store.error());

  auto options = config.Options(daemon.endpoint().bound_address(), getpid());
  options.processor_times = {transport::ThreadProcessorTime, transport::MessageThreadTimes};
  transport::ThreadExecutor memory_executor(daemon.loop());
  options.memory_executor = &memory_executor;
  ps::PsNode node(std::move(options), daemon.runtime(), daemon.endpoint(), **store,
                  [&daemon](int code, const std::string&) { daemon.Exit(code); });
  daemon.endpoint().SetHandler(node);
  daemon.on_drain = [&] { node.Drain([&daemon] { daemon.Exit(0); }); };
  node.Start();
  const int code = daemon.Run();
  memory_executor.Shutdown(transport::ThreadExecutor::Queued::kDrop);
  return code;
}
