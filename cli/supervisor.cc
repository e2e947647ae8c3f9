// SPDX-License-Identifier: Apache-2.0
#include "cli/supervisor.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "base/config.h"
#include "base/log.h"
#include "cli/command.h"

namespace freshet::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kPoll{50};
// A master that died sooner died quickly.
constexpr seconds kQuick{2};
constexpr uint32_t kMaxQuickDeaths = 8;
constexpr milliseconds kFirstDelay{100};
constexpr milliseconds kLastDelay{5'000};
// Of a process that is no child of ours.
constexpr int kUnknownCode = -1;

milliseconds DelayAfter(uint32_t quick_deaths) {
  if (quick_deaths <= 1) return milliseconds(0);
  return std::min(kLastDelay, kFirstDelay * (1 << std::min(quick_deaths - 2, 10u)));
}

}  // namespace

std::optional<base::ProcessId> SupervisorOf(const std::string& dir) {
  const std::string path = base::JoinPath(dir, kSupervisorFile);
  const auto text = base::ReadFile(path, 64);
  if (!text) return std::nullopt;
  const auto lock = base::LockFile::Acquire(path);
  if (lock || lock.error().code != base::ErrorCode::kConflict) return std::nullopt;
  base::ProcessId pid = 0;
  std::from_chars(text->data(), text->data() + text->size(), pid);
  return pid;
}

Supervisor::Supervisor(std::string dir, base::LockFile lock)
    : dir_(std::move(dir)),
      lock_(std::move(lock)),
      client_(dir_),
      signals_(loop_, {SIGCHLD, SIGTERM, SIGINT, SIGHUP},
               [this](int signal) { OnSignal(signal); }) {}

int Supervisor::Run() {
  // What the cluster was told stands in its file; what this shell's environment says later does not count.
  base::ForgetSettings();
  // Nodes whose master died would otherwise be left to whoever is process 1.
  if (auto adopts = base::AdoptOrphans(); !adopts) FRESHET_LOG_WARN("{}", adopts.error().message);
  if (!AdoptMaster()) StartMaster();
  loop_.Run();
  return code_;
}

// A master whose supervisor was killed goes on; the next supervisor takes it as it is.
bool Supervisor::AdoptMaster() {
  auto process = base::FindProcess([this](const std::vector<std::string>& words) {
    const auto dir = std::find(words.begin(), words.end(), "--dir");
    return !words.empty() && std::filesystem::path(words[0]).filename() == "freshet-master" &&
           dir != words.end() && dir + 1 != words.end() && *(dir + 1) == dir_;
  });
  if (!process) return false;
  adopted_ = std::move(process);
  master_ = adopted_->pid();
  started_ = loop_.clock().Now();
  FRESHET_LOG_INFO("the master runs as process {}", master_);
  loop_.WatchFd(adopted_->fd(), [this] {
    loop_.UnwatchFd(adopted_->fd());
    adopted_.reset();
    OnMasterEnd({master_, kUnknownCode, 0});
  });
  AwaitService();
  return true;
}

void Supervisor::StartMaster() {
  const base::Result<std::string> binaries = base::ExecutableDirectory();
  if (!binaries) return End(1, binaries.error().message);
  const std::string log = dir_ + "/logs/master.log";
  const auto pid = base::SpawnProcess({.path = *binaries + "/freshet-master",
                                       .args = {"--config", base::JoinPath(dir_, kClusterFile),
                                                "--dir", dir_, "--nodes-outlive-master"},
                                       .stdout_file = log,
                                       .stderr_file = log});
  if (!pid) return End(base::ExitCodeFor(pid.error().code), pid.error().message);
  master_ = *pid;
  started_ = loop_.clock().Now();
  FRESHET_LOG_INFO("master started as process {}", master_);
  AwaitService();
}

void Supervisor::AwaitService() {
  if (master_ == 0 || serving_) return;
  if (!client_.SomebodyListens()) {
    loop_.After(kPoll, [this] { AwaitService(); });
    return;
  }
  serving_ = served_ = true;
  if (draining_) AskMasterToDrain();
}

void Supervisor::OnSignal(int signal) {
  if (signal == SIGCHLD) {
    while (const auto exited = base::ReapAnyProcess()) {
      if (exited->pid == master_) OnMasterEnd(*exited);
    }
    return;
  }
  if (signal == SIGTERM || signal == SIGINT) Drain();
}

void Supervisor::OnMasterEnd(const base::ExitedProcess& exited) {
  const std::string how = exited.code == kUnknownCode ? "ended" : base::DescribeExit(exited);
  master_ = 0;
  serving_ = false;
  if (exited.code == 0) return End(0, "the cluster was stopped");
  if (exited.code == kUnknownCode && draining_) return End(0, "the master has ended");
  // A master that never served and says why would only say it again.
  if (!served_ && exited.signal == 0 && exited.code != kUnknownCode) {
    return End(exited.code, fmt::format("the master could not start ({})", how));
  }
  const bool quick = loop_.clock().Now() - started_ < kQuick;
  quick_deaths_ = quick ? quick_deaths_ + 1 : 1;
  if (quick_deaths_ > kMaxQuickDeaths) {
    return End(1, fmt::format("the master died {} times in a row within {} s each ({}): given up; "
                              "the other processes go on without it. See {}/logs/master.log, then "
                              "freshet up again",
                              quick_deaths_, kQuick.count(), how, dir_));
  }
  const milliseconds delay = DelayAfter(quick_deaths_);
  FRESHET_LOG_WARN("the master ended ({}); starting it again in {} ms", how, delay.count());
  loop_.After(delay, [this] {
    if (master_ == 0) StartMaster();
  });
}

void Supervisor::Drain() {
  if (draining_) return;
  draining_ = true;
  FRESHET_LOG_INFO("draining the cluster");
  // A master that is about to be started is asked when it answers: it has to lead the nodes out.
  if (serving_) AskMasterToDrain();
}

void Supervisor::AskMasterToDrain() {
  // If it has ended meanwhile, its end is on its way to us.
  static_cast<void>(adopted_ ? adopted_->Signal(SIGTERM) : base::SignalProcess(master_, SIGTERM));
}

void Supervisor::End(int code, const std::string& why) {
  code_ = code;
  if (code == 0) {
    FRESHET_LOG_INFO("{}", why);
  } else {
    FRESHET_LOG_ERROR("{}", why);
  }
  loop_.Stop();
}

int RunSupervise(int argc, const char* const* argv) {
  std::string dir;
  base::ConfigFields fields;
  fields.Add("dir", &dir, "directory of the cluster, absolute").Required();
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet supervise",
       .description = "Keeps the master of a cluster running; started by freshet up."});
  if (end) return *end;
  base::Result<base::LockFile> lock = base::LockFile::Acquire(base::JoinPath(dir, kSupervisorFile));
  if (!lock) return ReportError(lock.error());
  base::LogOptions log;
  log.node = "supervisor";
  if (auto ready = base::InitLog(log); !ready) return ReportError(ready.error());
  return Supervisor(dir, std::move(*lock)).Run();
}

}  // namespace freshet::cli
