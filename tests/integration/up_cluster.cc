// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/up_cluster.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/file.h"

namespace freshet::testing {
namespace {

namespace fs = std::filesystem;
using cli::Json;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{5};
constexpr size_t kShownBytes = 6000;
constexpr size_t kMaxOutputBytes = 16 << 20;

std::string ValueOf(const std::vector<std::string>& words, const std::string& flag) {
  const auto found = std::find(words.begin(), words.end(), flag);
  return found == words.end() || found + 1 == words.end() ? "" : *(found + 1);
}

}  // namespace

UpCluster::UpCluster(std::string root)
    : root_(std::move(root)), dir_(root_ + "/cluster"), binaries_(*base::ExecutableDirectory()) {}

UpCluster::~UpCluster() {
  KillAll();
  for (const base::ProcessId pid : started_) {
    static_cast<void>(base::SignalProcess(pid, SIGKILL));
    ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
  }
}

CommandOutput UpCluster::Freshet(std::vector<std::string> args) {
  args.insert(args.end(), {"--dir", dir_});
  const std::string out = root_ + "/out";
  const std::string err = root_ + "/err";
  for (const std::string& path : {out, err}) fs::remove(path);
  const auto pid = base::SpawnProcess({.path = binaries_ + "/freshet",
                                       .args = std::move(args),
                                       .stdout_file = out,
                                       .stderr_file = err});
  CHECK(pid.has_value());
  int status = 0;
  CHECK(::waitpid(static_cast<pid_t>(*pid), &status, 0) == *pid);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          base::ReadFile(out, kMaxOutputBytes).value_or(""),
          base::ReadFile(err, kMaxOutputBytes).value_or("")};
}

CommandOutput UpCluster::Up(const std::map<std::string, std::string>& settings) {
  std::string yaml;
  for (const auto& [key, value] : settings) yaml += key + ": " + value + "\n";
  CHECK(base::WriteFileAtomic(root_ + "/cluster.yaml", yaml).has_value());
  return Freshet({"up", "-f", root_ + "/cluster.yaml"});
}

base::Result<base::ProcessId> UpCluster::Start(const std::string& program,
                                               std::vector<std::string> args) {
  const std::string log = root_ + "/by-hand.log";
  auto pid = base::SpawnProcess({.path = binaries_ + "/" + program,
                                 .args = std::move(args),
                                 .stdout_file = log,
                                 .stderr_file = log,
                                 .on_parent_death = base::OnParentDeath::kKill});
  if (pid) started_.push_back(*pid);
  return pid;
}

std::optional<int> UpCluster::AwaitExit(base::ProcessId pid, milliseconds limit) {
  std::optional<base::ExitedProcess> exited;
  Await(
      [&] {
        exited = base::ReapProcess(pid);
        return exited.has_value();
      },
      limit);
  if (!exited) return std::nullopt;
  std::erase(started_, pid);
  return exited->code;
}

bool UpCluster::Await(const std::function<bool()>& holds, milliseconds limit) {
  const base::Instant give_up = loop_.clock().Now() + limit;
  while (!holds()) {
    if (loop_.clock().Now() >= give_up) return false;
    loop_.RunUntil([] { return false; }, kPoll);
  }
  return true;
}

Json UpCluster::AwaitStatus(const std::function<bool(const Json&)>& holds, milliseconds limit) {
  const cli::AdminClient client(dir_);
  Json last;
  bool failed = false;
  const bool there = Await(
      [&] {
        const auto status = client.Get("/v1/status");
        if (!status) return false;
        last = *status;
        failed = cli::TextAt(cli::At(last, "job"), "phase") == "failed";
        return failed || holds(last);
      },
      limit);
  return there && !failed ? last : Json();
}

Json UpCluster::AwaitRecords(uint64_t records) {
  return AwaitStatus([records](const Json& status) { return RecordsOf(status) >= records; });
}

Json UpCluster::AwaitPhase(const std::string& phase) {
  return AwaitStatus([&phase](const Json& status) {
    return cli::TextAt(cli::At(status, "job"), "phase") == phase;
  });
}

std::map<std::string, base::ProcessId> UpCluster::Processes() const {
  std::map<std::string, base::ProcessId> found;
  // FindProcess returns the first match; those already known are passed over.
  for (;;) {
    std::string name;
    const auto process = base::FindProcess([&](const std::vector<std::string>& words) {
      const std::string dir = ValueOf(words, "--dir");
      if (words.empty() || (dir != dir_ && !dir.starts_with(dir_ + "/"))) return false;
      const std::string program = fs::path(words.front()).filename().string();
      name = ValueOf(words, "--name");
      if (program == "freshet-master") name = "master";
      if (program == "freshet") name = "supervisor";
      return !name.empty() && !found.contains(name);
    });
    if (!process) return found;
    found[name] = process->pid();
  }
}

void UpCluster::Signal(const std::string& name, int signal) const {
  const auto processes = Processes();
  const auto process = processes.find(name);
  CHECK(process != processes.end());
  CHECK(base::SignalProcess(process->second, signal).has_value());
}

void UpCluster::KillAll() {
  const bool ended = Await([this] {
    const auto processes = Processes();
    for (const auto& [name, pid] : processes) {
      static_cast<void>(base::SignalProcess(pid, SIGKILL));
    }
    return processes.empty();
  });
  CHECK(ended);
}

std::string LogsUnder(const std::string& directory) {
  std::string all;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.path().extension() != ".log" && entry.path().extension() != ".jsonl") continue;
    std::string text = base::ReadFile(entry.path(), 64 << 20).value_or("");
    if (text.size() > kShownBytes) text.erase(0, text.size() - kShownBytes);
    all += entry.path().string() + ":\n" + text + "\n";
  }
  return all;
}

Json NodeOf(const Json& status, const std::string& name) {
  for (const Json& node : cli::At(status, "nodes")) {
    if (cli::TextAt(node, "name") == name) return node;
  }
  return {};
}

uint64_t RecordsOf(const Json& status) {
  return static_cast<uint64_t>(cli::NumberAt(cli::At(status, "job"), "records_done"));
}

}  // namespace freshet::testing
