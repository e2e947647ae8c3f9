// SPDX-License-Identifier: Apache-2.0
// freshet up: starts a long-running cluster in the background, or goes on with one.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/file.h"
#include "base/process.h"
#include "cli/cluster_config.h"
#include "cli/command.h"
#include "cli/log_file.h"
#include "cli/supervisor.h"
#include "cli/train_options.h"
#include "transport/event_loop.h"

namespace freshet::cli {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{50};
constexpr milliseconds kStatusDeadline{2'000};
constexpr size_t kTailLines = 10;

struct UpOptions {
  std::string file;
  std::string dir;
  std::string output = "text";
  bool example = false;
  milliseconds timeout{60'000};

  void Declare(base::ConfigFields& fields) {
    fields
        .Add("file", &file,
             "the settings, YAML; not needed to go on with a cluster that was stopped or killed")
        .Short('f');
    fields.Add("dir", &dir,
               "directory of the cluster; ./freshet-data unless this or the file says otherwise");
    fields.Add("example", &example, "print a commented file with every setting and end");
    fields.Add("timeout_ms", &timeout, {.min = milliseconds(1000)},
               "how long to wait for the cluster to run");
    fields.Add("output", &output, "how data is printed").Short('o').OneOf({"text", "json"});
  }
  // Without a file: the settings the cluster was started with before.
  base::Result<ClusterConfig::Source> Source() const {
    if (!file.empty()) return ClusterConfig::Source{file, dir};
    const std::string place = dir.empty() ? ClusterOptions().dir : dir;
    const std::string kept = base::JoinPath(place, kClusterFile);
    std::error_code error;
    if (std::filesystem::exists(kept, error)) return ClusterConfig::Source{kept, place};
    return base::Fail(ErrorCode::kInvalidArgument,
                      fmt::format("there is no cluster in {}: give the settings of a new one with "
                                  "-f FILE; freshet up --example prints such a file",
                                  place));
  }
};

// What a master alone cannot check: it does not know the models.
base::Result<> CheckModel(const ClusterConfig& config) {
  std::string settings;
  for (const Json& entry : config.Value("model_config")) {
    if (!entry.is_string()) continue;
    if (!settings.empty()) settings += ',';
    settings += entry.get<std::string>();
  }
  const Json model = config.Value("model");
  return CheckModelSettings(model.is_string() ? model.get<std::string>() : "", settings);
}

base::Result<> CheckFree(const ClusterConfig& config, const std::string& text) {
  const std::string& dir = config.dir();
  const auto lock = base::LockFile::Acquire(base::JoinPath(dir, kSupervisorFile));
  if (!lock && lock.error().code == ErrorCode::kConflict) {
    return base::Fail(
        ErrorCode::kConflict,
        fmt::format("a cluster already runs in {} ({}); freshet down --dir {} stops it", dir,
                    lock.error().message, dir));
  }
  if (!lock) return tl::unexpected(lock.error());
  if (!AdminClient(dir).SomebodyListens()) return {};
  // Its supervisor was killed; a new one takes it over if nothing else is wanted of it.
  const auto kept = base::ReadFile(base::JoinPath(dir, kClusterFile), 1 << 20);
  if (kept && *kept == text) return {};
  return base::Fail(
      ErrorCode::kConflict,
      fmt::format("a master already runs in {}, with other settings or not started by "
                  "freshet up; freshet down --dir {} stops it",
                  dir, dir));
}

// Waits for the cluster that the supervisor starts. One thread.
class Start {
 public:
  Start(const ClusterConfig& config, base::ProcessId supervisor, milliseconds timeout)
      : config_(config), client_(config.dir()), supervisor_(supervisor), timeout_(timeout) {}

  base::Result<> Await() {
    const base::Instant give_up = loop_.clock().Now() + timeout_;
    for (;;) {
      if (const auto exited = base::ReapProcess(supervisor_)) {
        refused_ = true;
        return SupervisorEnded(*exited);
      }
      if (SupervisorLeads() && client_.SomebodyListens()) {
        const base::Result<Json> status = client_.Get("/v1/status", kStatusDeadline);
        if (status) {
          const Json& job = At(*status, "job");
          if (TextAt(job, "phase") == "failed") return JobFailed(job);
          if (Runs(*status)) return {};
        }
      }
      if (loop_.clock().Now() >= give_up) return TimedOut();
      loop_.RunUntil([] { return false; }, kPoll);
    }
  }

  // The settings were not taken: nothing runs.
  bool refused() const { return refused_; }

 private:
  struct Count {
    size_t running = 0;
    size_t wanted = 0;
  };
  // A master may run already; who asks for its end right after us has to find its new supervisor.
  bool SupervisorLeads() const {
    const auto pid = base::ReadFile(base::JoinPath(config_.dir(), kSupervisorFile), 64);
    return pid && pid->starts_with(fmt::format("{}\n", supervisor_));
  }
  static Count CountOf(const Json& status, const char* role, const char* key) {
    // Plans may have changed what the settings say.
    Count count{.wanted = static_cast<size_t>(NumberAt(At(status, "wanted"), key))};
    for (const Json& node : At(status, "nodes")) {
      if (TextAt(node, "role") == role && TextAt(node, "state") == "running") ++count.running;
    }
    return count;
  }
  bool Runs(const Json& status) {
    if (config_.Value("launcher") == "none") return true;
    const Count ps = CountOf(status, "ps", "ps");
    const Count workers = CountOf(status, "worker", "workers");
    Say(fmt::format("{} of {} servers, {} of {} workers run", ps.running, ps.wanted,
                    workers.running, workers.wanted));
    return ps.running >= ps.wanted && workers.running >= workers.wanted;
  }
  void Say(const std::string& line) {
    if (line == last_line_) return;
    last_line_ = line;
    fmt::print(stderr, "{}\n", line);
  }
  base::Error WithLogTail(base::Error error) const {
    for (const char* name : {"supervisor", "master"}) {
      const std::string path = fmt::format("{}/logs/{}.log", config_.dir(), name);
      const auto lines = LastLines(path, kTailLines);
      if (!lines || lines->empty()) continue;
      error.message += fmt::format("\nthe end of {}:", path);
      for (const std::string& line : *lines) error.message += "\n  " + ReadableLogLine(line);
    }
    return error;
  }
  base::Result<> SupervisorEnded(const base::ExitedProcess& exited) const {
    ErrorCode code = ErrorCode::kFailed;
    for (const ErrorCode candidate : {ErrorCode::kInvalidArgument, ErrorCode::kNotFound,
                                      ErrorCode::kConflict, ErrorCode::kTimeout}) {
      if (base::ExitCodeFor(candidate) == exited.code) code = candidate;
    }
    return tl::unexpected(WithLogTail({code, "the cluster did not start"}));
  }
  // A cluster that cannot do its job is not left behind.
  base::Result<> JobFailed(const Json& job) {
    static_cast<void>(base::SignalProcess(supervisor_, SIGTERM));
    const base::Instant give_up = loop_.clock().Now() + timeout_;
    while (!base::ReapProcess(supervisor_) && loop_.clock().Now() < give_up) {
      loop_.RunUntil([] { return false; }, kPoll);
    }
    return base::Fail(CodeByName(TextAt(job, "error_code")), TextAt(job, "error"));
  }
  base::Result<> TimedOut() const {
    return tl::unexpected(WithLogTail(
        {ErrorCode::kTimeout,
         fmt::format("the cluster does not run yet after {} ms ({}); it goes on starting in the "
                     "background: see freshet status --dir {}, or stop it with freshet down",
                     timeout_.count(),
                     last_line_.empty() ? "its master does not answer" : last_line_,
                     config_.dir())}));
  }

  const ClusterConfig& config_;
  const AdminClient client_;
  const base::ProcessId supervisor_;
  transport::EventLoop loop_;
  const milliseconds timeout_;
  std::string last_line_;
  bool refused_ = false;
};

base::Result<base::ProcessId> StartSupervisor(const std::string& dir) {
  base::Result<std::string> binaries = base::ExecutableDirectory();
  if (!binaries) return tl::unexpected(binaries.error());
  const std::string log = dir + "/logs/supervisor.log";
  return base::SpawnProcess({.path = *binaries + "/freshet",
                             .args = {"supervise", "--dir", dir},
                             .stdout_file = log,
                             .stderr_file = log,
                             .group = base::ProcessGroup::kOwnSession});
}

base::Result<base::ProcessId> BringUp(const ClusterConfig& config, milliseconds timeout) {
  const std::string& dir = config.dir();
  if (auto made = base::MakeDirectories(dir + "/logs"); !made) return tl::unexpected(made.error());
  const std::string text =
      fmt::format("# Written by freshet up: the settings of this cluster.\n{}", config.text());
  if (auto is_free = CheckFree(config, text); !is_free) return tl::unexpected(is_free.error());
  const std::string path = base::JoinPath(dir, kClusterFile);
  const auto before = base::ReadFile(path, 1 << 20);
  if (auto kept = base::WriteFileAtomic(path, text); !kept) return tl::unexpected(kept.error());
  const auto supervisor = StartSupervisor(dir);
  if (!supervisor) return tl::unexpected(supervisor.error());
  Start start(config, *supervisor, timeout);
  if (auto runs = start.Await(); !runs) {
    // What the master refused must not be what the cluster is brought up with the next time.
    if (start.refused() && before) static_cast<void>(base::WriteFileAtomic(path, *before));
    return tl::unexpected(runs.error());
  }
  return *supervisor;
}

}  // namespace

int RunUp(int argc, const char* const* argv) {
  UpOptions options;
  base::ConfigFields fields;
  options.Declare(fields);
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet up",
       .description = "Starts a long-running cluster in the background, or goes on with one that "
                      "was stopped or killed. Returns when it runs."});
  if (end) return *end;
  if (options.example) {
    const base::Result<std::string> example = ClusterConfig::Example();
    return example ? PrintText(*example) : ReportError(example.error());
  }
  const auto source = options.Source();
  if (!source) return ReportError(source.error());
  const auto config = ClusterConfig::Check(*source);
  if (!config) return ReportError(config.error());
  if (auto model = CheckModel(*config); !model) return ReportError(model.error());
  const auto supervisor = BringUp(*config, options.timeout);
  if (!supervisor) return ReportError(supervisor.error());
  if (options.output == "json") {
    return PrintJson({{"dir", config->dir()}, {"supervisor_pid", *supervisor}});
  }
  return PrintText(
      fmt::format("the cluster runs in {0}\nsee freshet status --dir {0}; stop it with "
                  "freshet down --dir {0}\n",
                  config->dir()));
}

}  // namespace freshet::cli
