// SPDX-License-Identifier: Apache-2.0
#include "master/local_launcher.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/processors.h"

namespace freshet::master {
namespace {

namespace fs = std::filesystem;
using base::ErrorCode;

// Names become file names.
bool ValidName(const std::string& name) {
  if (name.empty() || name.size() > 64 || name[0] == '.' || name[0] == '-') return false;
  for (const char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool other = (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (!letter && !other) return false;
  }
  return true;
}

base::Result<> MakeDirectory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return {};
  return base::Fail(ErrorCode::kIo, fmt::format("cannot make the directory {}: {}", path.string(),
                                                error.message()));
}

const char* ProgramName(NodeRole role) {
  return role == NodeRole::kPs ? "freshet-ps" : "freshet-worker";
}

// The word after `flag`; empty if there is none.
std::string ValueOf(const std::vector<std::string>& words, const std::string& flag) {
  const auto found = std::find(words.begin(), words.end(), flag);
  return found == words.end() || found + 1 == words.end() ? "" : *(found + 1);
}

}  // namespace

LocalLauncher::LocalLauncher(LocalLauncherOptions options) : options_(std::move(options)) {}

base::Result<std::string> LocalLauncher::Program(NodeRole role) const {
  std::string dir = options_.binary_dir;
  if (dir.empty()) {
    base::Result<std::string> own = base::ExecutableDirectory();
    if (!own) return tl::unexpected(own.error());
    dir = std::move(*own);
  }
  return (fs::path(dir) / ProgramName(role)).string();
}

std::string LocalLauncher::NodeDirectory(const std::string& name) const {
  return (fs::path(options_.dir) / name).string();
}

base::Result<int64_t> LocalLauncher::Start(const NodeSpec& spec) {
  if (!ValidName(spec.name)) {
    return base::Fail(ErrorCode::kInvalidArgument,
                      fmt::format("'{}' cannot be a node's name", spec.name));
  }
  if (const auto found = running_.find(spec.name); found != running_.end()) {
    return base::Fail(ErrorCode::kConflict,
                      fmt::format("{} still runs as process {}", spec.name, found->second.pid));
  }
  const base::Result<std::string> program = Program(spec.role);
  if (!program) return tl::unexpected(program.error());
  const fs::path node_dir = NodeDirectory(spec.name);
  const fs::path log_dir = fs::path(options_.dir) / "logs";
  for (const fs::path& dir : {node_dir, log_dir}) {
    if (base::Result<> made = MakeDirectory(dir); !made) return tl::unexpected(made.error());
  }
  const std::string log_file = (log_dir / (spec.name + ".log")).string();
  base::SpawnOptions spawn = {.path = *program,
                              .args = {"--name", spec.name, "--master", options_.master_address,
                                       "--dir", node_dir.string()},
                              .stdout_file = log_file,
                              .stderr_file = log_file,
                              .on_parent_death = options_.on_master_death};
  const std::vector<int> processors = LeastTaken(spec.processors);
  if (!processors.empty()) {
    spawn.args.insert(spawn.args.end(),
                      {"--processors", fmt::format("{}", fmt::join(processors, ","))});
  }
  spawn.args.insert(spawn.args.end(), spec.extra_args.begin(), spec.extra_args.end());
  const base::Result<base::ProcessId> pid = base::SpawnProcess(spawn);
  if (!pid) return tl::unexpected(pid.error());
  running_[spec.name] = {*pid, std::nullopt, processors};
  return *pid;
}

base::Result<> LocalLauncher::CanGive(uint32_t processors) const {
  const size_t most = base::AllowedProcessors().size();
  if (processors <= most) return {};
  return base::Fail(
      ErrorCode::kInvalidArgument,
      fmt::format("this machine has {} processors for the cluster, not {}", most, processors));
}

// Those that the fewest others asked for.
std::vector<int> LocalLauncher::LeastTaken(uint32_t count) const {
  std::map<int, size_t> taken;
  for (const auto& [name, process] : running_) {
    for (const int cpu : process.processors) ++taken[cpu];
  }
  std::vector<int> allowed = base::AllowedProcessors();
  std::stable_sort(allowed.begin(), allowed.end(),
                   [&](int a, int b) { return taken[a] < taken[b]; });
  allowed.resize(std::min<size_t>(count, allowed.size()));
  std::sort(allowed.begin(), allowed.end());
  return allowed;
}

std::optional<int64_t> LocalLauncher::Adopt(const NodeSpec& spec) {
  const std::string directory = NodeDirectory(spec.name);
  auto process = base::FindProcess([&](const std::vector<std::string>& words) {
    return !words.empty() && fs::path(words.front()).filename() == ProgramName(spec.role) &&
           ValueOf(words, "--name") == spec.name && ValueOf(words, "--dir") == directory;
  });
  if (!process) return std::nullopt;
  const base::ProcessId pid = process->pid();
  const auto words = base::CommandLineOf(pid);
  if (ValueOf(words, "--master") != options_.master_address) {
    // If it has ended meanwhile, that is what we want.
    static_cast<void>(process->Signal(SIGKILL));
  }
  if (on_watch) on_watch(process->fd());
  const auto processors = base::ParseProcessors(ValueOf(words, "--processors"));
  running_[spec.name] = {pid, std::move(process), processors.value_or(std::vector<int>())};
  return pid;
}

void LocalLauncher::Stop(const std::string& name, StopMode mode) {
  const auto found = running_.find(name);
  if (found == running_.end()) return;
  const int signal = mode == StopMode::kDrain ? SIGTERM : SIGKILL;
  // A child that has ended but was not yet collected is still there to be signalled, so this can only
  // fail for a process that is no longer ours; ReapExited tells that.
  static_cast<void>(found->second.adopted ? found->second.adopted->Signal(signal)
                                          : base::SignalProcess(found->second.pid, signal));
}

std::optional<NodeExit> LocalLauncher::Ended(const std::string& name, const Process& process) {
  if (process.adopted) {
    if (!process.adopted->ended()) return std::nullopt;
    return NodeExit{name, process.pid, "its end was seen, not its reason", kUnknownCode};
  }
  const std::optional<base::ExitedProcess> exited = base::ReapProcess(process.pid);
  if (!exited) return std::nullopt;
  return NodeExit{name, exited->pid, base::DescribeExit(*exited), exited->code};
}

std::vector<NodeExit> LocalLauncher::ReapExited() {
  std::vector<NodeExit> out;
  for (auto entry = running_.begin(); entry != running_.end();) {
    std::optional<NodeExit> exit = Ended(entry->first, entry->second);
    if (!exit) {
      ++entry;
      continue;
    }
    if (entry->second.adopted && on_unwatch) on_unwatch(entry->second.adopted->fd());
    out.push_back(std::move(*exit));
    entry = running_.erase(entry);
  }
  return out;
}

}  // namespace freshet::master
