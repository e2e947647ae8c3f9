// SPDX-License-Identifier: Apache-2.0
#include "cli/cluster_config.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/process.h"
#include "transport/event_loop.h"

namespace freshet::cli {
namespace {

namespace fs = std::filesystem;
using base::ErrorCode;

constexpr std::chrono::milliseconds kDeadline{20'000};
constexpr std::chrono::milliseconds kPoll{5};
constexpr size_t kMaxOutputBytes = 1 << 20;

// A file without a name, for what a child writes.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : fd_(::memfd_create(name, MFD_CLOEXEC)) {}
  ~MemoryFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }
  std::string Text() const { return base::ReadFile(path(), kMaxOutputBytes).value_or(""); }

 private:
  int fd_;
};

struct Output {
  int code = 0;
  std::string out;
  std::string err;
};

base::Result<Output> RunMaster(std::vector<std::string> args) {
  const base::Result<std::string> binaries = base::ExecutableDirectory();
  if (!binaries) return tl::unexpected(binaries.error());
  const MemoryFile out("out");
  const MemoryFile err("err");
  const auto pid = base::SpawnProcess({.path = *binaries + "/freshet-master",
                                       .args = std::move(args),
                                       .stdout_file = out.path(),
                                       .stderr_file = err.path(),
                                       .on_parent_death = base::OnParentDeath::kKill});
  if (!pid) return tl::unexpected(pid.error());
  transport::EventLoop loop;
  const base::Instant give_up = loop.clock().Now() + kDeadline;
  for (;;) {
    if (const auto exited = base::ReapProcess(*pid)) {
      return Output{exited->code, out.Text(), err.Text()};
    }
    if (loop.clock().Now() >= give_up) break;
    loop.RunUntil([] { return false; }, kPoll);
  }
  static_cast<void>(base::SignalProcess(*pid, SIGKILL));
  return base::Fail(ErrorCode::kTimeout, "freshet-master does not answer");
}

ErrorCode CodeOfExit(int exit_code) {
  for (const ErrorCode code : {ErrorCode::kInvalidArgument, ErrorCode::kNotFound,
                               ErrorCode::kConflict, ErrorCode::kTimeout}) {
    if (base::ExitCodeFor(code) == exit_code) return code;
  }
  return ErrorCode::kFailed;
}

// "freshet-master: the reason\n" -> "the reason".
std::string Reason(std::string text) {
  constexpr std::string_view kName = "freshet-master: ";
  if (text.starts_with(kName)) text.erase(0, kName.size());
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

base::Result<ClusterConfig> ClusterConfig::Check(const Source& source) {
  std::vector<std::string> args = {"--config", source.file, "--check-config"};
  if (!source.dir.empty()) args.insert(args.end(), {"--dir", source.dir});
  const base::Result<Output> output = RunMaster(std::move(args));
  if (!output) return tl::unexpected(output.error());
  if (output->code != 0) return base::Fail(CodeOfExit(output->code), Reason(output->err));
  ClusterConfig config;
  std::istringstream lines(output->out);
  for (std::string line; std::getline(lines, line);) {
    // key: value  # origin
    const size_t colon = line.find(": ");
    const size_t origin = line.rfind("  # ");
    if (colon == std::string::npos || origin == std::string::npos || origin < colon) continue;
    const std::string key = line.substr(0, colon);
    const std::string text = line.substr(colon + 2, origin - colon - 2);
    Json value = Json::parse(text, nullptr, false);
    config.values_[key] = value.is_discarded() ? Json(text) : std::move(value);
    // These are told to the master apart.
    if (key != "dir" && key != "nodes_outlive_master")
      config.text_ += fmt::format("{}: {}\n", key, text);
  }
  const Json dir = config.Value("dir");
  std::error_code error;
  const fs::path given = dir.is_string() ? dir.get<std::string>() : source.dir;
  fs::path path = fs::weakly_canonical(fs::absolute(given, error), error);
  if (error || given.empty()) {
    return base::Fail(ErrorCode::kIo, fmt::format("cannot use the directory {}", given.string()));
  }
  if (!path.has_filename()) path = path.parent_path();
  config.dir_ = path.string();
  return config;
}

base::Result<std::string> ClusterConfig::Example() {
  base::Result<Output> output = RunMaster({"--example-config"});
  if (!output) return tl::unexpected(output.error());
  if (output->code != 0) return base::Fail(CodeOfExit(output->code), Reason(output->err));
  return std::move(output->out);
}

Json ClusterConfig::Value(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? Json() : found->second;
}

}  // namespace freshet::cli
