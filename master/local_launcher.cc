// SPDX-License-Identifier: Apache-2.0
#include "master/local_launcher.h"

#include <fmt/format.h>
#include <signal.h>

#include <filesystem>
#include <system_error>
#include <utility>

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

}  // namespace

LocalLauncher::LocalLauncher(LocalLauncherOptions options) : options_(std::move(options)) {}

base::Result<std::string> LocalLauncher::Program(NodeRole role) const {
  const char* name = role == NodeRole::kPs ? "freshet-ps" : "freshet-worker";
  std::string dir = options_.binary_dir;
  if (dir.empty()) {
    base::Result<std::string> own = base::ExecutableDirectory();
    if (!own) return tl::unexpected(own.error());
    dir = std::move(*own);
  }
  return (fs::path(dir) / name).string();
}

base::Result<int64_t> LocalLauncher::Start(const NodeSpec& spec) {
  if (!ValidName(spec.name)) {
    return base::Fail(ErrorCode::kInvalidArgument,
                      fmt::format("'{}' cannot be a node's name", spec.name));
  }
  if (const auto found = pids_.find(spec.name); found != pids_.end()) {
    return base::Fail(ErrorCode::kConflict,
                      fmt::format("{} still runs as process {}", spec.name, found->second));
  }
  const base::Result<std::string> program = Program(spec.role);
  if (!program) return tl::unexpected(program.error());
  const fs::path node_dir = fs::path(options_.dir) / spec.name;
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
  spawn.args.insert(spawn.args.end(), spec.extra_args.begin(), spec.extra_args.end());
  const base::Result<base::ProcessId> pid = base::SpawnProcess(spawn);
  if (!pid) return tl::unexpected(pid.error());
  pids_[spec.name] = *pid;
  return *pid;
}

void LocalLauncher::Stop(const std::string& name, StopMode mode) {
  const auto found = pids_.find(name);
  if (found == pids_.end()) return;
  // A child that has ended but was not yet collected is still there to be signalled, so this can only
  // fail for a process that is no longer ours; ReapExited tells that.
  static_cast<void>(
      base::SignalProcess(found->second, mode == StopMode::kDrain ? SIGTERM : SIGKILL));
}

std::vector<NodeExit> LocalLauncher::ReapExited() {
  std::vector<NodeExit> out;
  for (auto entry = pids_.begin(); entry != pids_.end();) {
    const std::optional<base::ExitedProcess> exited = base::ReapProcess(entry->second);
    if (!exited) {
      ++entry;
      continue;
    }
    out.push_back({.name = entry->first,
                   .pid = exited->pid,
                   .how = base::DescribeExit(*exited),
                   .code = exited->code});
    entry = pids_.erase(entry);
  }
  return out;
}

}  // namespace freshet::master
