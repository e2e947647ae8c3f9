// SPDX-License-Identifier: Apache-2.0
#include "cli/train_session.h"

#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/file.h"
#include "cli/log_file.h"

namespace freshet::cli {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;

constexpr milliseconds kPollInterval{200};
constexpr milliseconds kStartDeadline{30'000};
constexpr milliseconds kPollDeadline{5'000};
// To hand over a wish whose answer is not waited for.
constexpr milliseconds kAskDeadline{500};
// A master that answers nothing for this long is given up.
constexpr milliseconds kSilenceDeadline{30'000};
constexpr milliseconds kSummaryDeadline{60'000};
// To make everything durable and leave; the nodes have their own, shorter ones.
constexpr milliseconds kDrainDeadline{60'000};
constexpr milliseconds kKillDeadline{10'000};
constexpr size_t kTailLines = 15;

// The master reads its environment as well, which beats its file. What we decided stands in the file.
void HideFromMaster(const std::vector<MasterSetting>& settings) {
  for (const MasterSetting& setting : settings) {
    std::string name = "FRESHET_" + setting.key;
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    ::unsetenv(name.c_str());
  }
}

}  // namespace

TrainSession::TrainSession(const TrainOptions& options, const TrainDirectory& directory,
                           TrainProgress& progress)
    : options_(options),
      directory_(directory),
      progress_(progress),
      client_(directory.path()),
      signals_(loop_, {SIGCHLD, SIGINT, SIGTERM, SIGHUP},
               [this](int signal) { OnSignal(signal); }) {}

void TrainSession::OnSignal(int signal) {
  if (signal == SIGCHLD) {
    if (master_pid_ != 0 && !master_exit_) master_exit_ = base::ReapProcess(master_pid_);
    return;
  }
  ++signals_seen_;
  if (stop_signal_ == 0) stop_signal_ = signal;
}

TrainSession::Woken TrainSession::Wait(milliseconds time) {
  const int seen = signals_seen_;
  loop_.RunUntil([&] { return master_exit_.has_value() || signals_seen_ != seen; }, time);
  if (stop_signal_ != 0) return Woken::kSignalled;
  return master_exit_ ? Woken::kMasterExited : Woken::kTimeUp;
}

TrainSession::Outcome TrainSession::Run() {
  Outcome outcome;
  const auto fail = [&](const base::Error& error) {
    progress_.End();
    outcome.exit_code = stop_signal_ != 0 ? 128 + stop_signal_ : ReportError(error);
    StopMaster();
    return outcome;
  };
  if (base::Result<> started = StartMaster(); !started) return fail(started.error());
  if (base::Result<> ready = AwaitSocket(); !ready) return fail(ready.error());
  if (base::Result<> completed = FollowToEnd(); !completed) return fail(completed.error());
  base::Result<Json> summary = FetchSummary();
  if (!summary) return fail(summary.error());
  progress_.End();
  StopMaster();
  outcome.summary = std::move(*summary);
  outcome.exit_code = TrueAt(At(outcome.summary, "audit"), "ok") ? 0 : 1;
  return outcome;
}

base::Result<> TrainSession::StartMaster() {
  const std::vector<MasterSetting> settings = MasterSettings(options_);
  if (base::Result<> written =
          base::WriteFileAtomic(directory_.config_file(), MasterYaml(settings));
      !written) {
    return written;
  }
  base::Result<std::string> binaries = base::ExecutableDirectory();
  if (!binaries) return tl::unexpected(binaries.error());
  HideFromMaster(settings);
  const std::string log = directory_.logs() + "/master.log";
  // The master drains if this process is killed, so that no cluster is left behind.
  const base::Result<base::ProcessId> pid = base::SpawnProcess(
      {.path = *binaries + "/freshet-master",
       .args = {"--dir", directory_.path(), "--config", directory_.config_file()},
       .stdout_file = log,
       .stderr_file = log,
       .on_parent_death = base::OnParentDeath::kTerminate});
  if (!pid) return tl::unexpected(pid.error());
  master_pid_ = *pid;
  return {};
}

// What follows from a wait that ended early: an error that ends the run, or nothing.
base::Result<> TrainSession::HandleWaking(Woken woken) {
  switch (woken) {
    case Woken::kTimeUp: return {};
    case Woken::kMasterExited: return tl::unexpected(MasterDied());
    case Woken::kSignalled: return base::Fail(ErrorCode::kFailed, "ended by a signal");
  }
  return {};
}

base::Result<> TrainSession::AwaitSocket() {
  const base::Instant deadline = loop_.clock().Now() + kStartDeadline;
  while (!client_.SomebodyListens()) {
    if (loop_.clock().Now() >= deadline) {
      return tl::unexpected(
          WithLogTail({ErrorCode::kTimeout, fmt::format("the master has not come up within {} s",
                                                        kStartDeadline.count() / 1000)}));
    }
    if (base::Result<> woken = HandleWaking(Wait(milliseconds(20))); !woken) return woken;
  }
  return {};
}

base::Result<> TrainSession::FollowToEnd() {
  base::Instant last_answer = loop_.clock().Now();
  for (;;) {
    const base::Result<Json> status = client_.Get("/v1/status", kPollDeadline);
    const base::Instant now = loop_.clock().Now();
    if (status) {
      answered_ = true;
      last_answer = now;
      FollowEvents();
      progress_.Show(*status, now);
      const Json& job = At(*status, "job");
      const std::string phase = TextAt(job, "phase");
      if (phase == "completed") return {};
      if (phase == "failed") {
        return base::Fail(CodeByName(TextAt(job, "error_code")), TextAt(job, "error"));
      }
    } else if (now - last_answer > kSilenceDeadline) {
      return tl::unexpected(WithLogTail(status.error()));
    }
    if (base::Result<> woken = HandleWaking(Wait(kPollInterval)); !woken) return woken;
  }
}

void TrainSession::FollowEvents() {
  // Events are for people; one that cannot be fetched now is fetched with the next status.
  const base::Result<Json> answer =
      client_.Get(fmt::format("/v1/events?since={}", last_event_), kPollDeadline);
  if (!answer) return;
  for (const Json& event : At(*answer, "events")) {
    last_event_ = std::max(last_event_, static_cast<uint64_t>(NumberAt(event, "seq")));
    progress_.ShowEvent(event);
  }
}

base::Result<Json> TrainSession::FetchSummary() {
  const base::Instant deadline = loop_.clock().Now() + kSummaryDeadline;
  for (;;) {
    base::Result<Json> summary = client_.Get("/v1/summary");
    if (summary) return summary;
    // A conflict means that the job's end is not yet written down.
    if (summary.error().code != ErrorCode::kConflict || loop_.clock().Now() >= deadline) {
      return summary;
    }
    if (base::Result<> woken = HandleWaking(Wait(kPollInterval)); !woken) {
      return tl::unexpected(woken.error());
    }
  }
}

bool TrainSession::AskToStop() const {
  if (!answered_) return false;
  // The answer comes when the cluster has drained; the exit tells that as well.
  const base::Result<Json> stopped = client_.Post("/v1/stop", kAskDeadline);
  return stopped || stopped.error().code == ErrorCode::kTimeout;
}

// Asks the master to drain and waits for its end; kills it when it takes too long or a second signal
// comes.
void TrainSession::StopMaster() {
  if (master_pid_ == 0 || master_exit_) return;
  if (stop_signal_ != 0) progress_.Say("draining; a second signal ends at once");
  if (!AskToStop()) static_cast<void>(base::SignalProcess(master_pid_, SIGTERM));
  if (AwaitMasterExit(kDrainDeadline)) return;
  progress_.Say("the master has not left; it is killed");
  static_cast<void>(base::SignalProcess(master_pid_, SIGKILL));
  static_cast<void>(AwaitMasterExit(kKillDeadline));
}

bool TrainSession::AwaitMasterExit(milliseconds time) {
  // The first signal, if any, is what made us stop.
  const int allowed = std::max(1, signals_seen_);
  const auto hurried = [&] { return signals_seen_ > allowed; };
  loop_.RunUntil([&] { return master_exit_.has_value() || hurried(); }, time);
  return master_exit_.has_value();
}

base::Error TrainSession::MasterDied() const {
  const base::ExitedProcess& exited = *master_exit_;
  if (exited.code == 0) {
    return {ErrorCode::kFailed, "the cluster was stopped before the job came to its end"};
  }
  // Before its first answer the master reports what it was told wrong with the documented codes.
  ErrorCode code = ErrorCode::kFailed;
  if (!answered_) {
    for (const ErrorCode candidate : {ErrorCode::kInvalidArgument, ErrorCode::kNotFound,
                                      ErrorCode::kConflict, ErrorCode::kTimeout}) {
      if (base::ExitCodeFor(candidate) == exited.code) code = candidate;
    }
  }
  return WithLogTail(
      {code, fmt::format("the master ended early ({})", base::DescribeExit(exited))});
}

base::Error TrainSession::WithLogTail(base::Error error) const {
  const std::string path = directory_.logs() + "/master.log";
  const base::Result<std::vector<std::string>> lines = LastLines(path, kTailLines);
  if (!lines || lines->empty()) {
    error.message +=
        fmt::format("; see {} and {}/events.jsonl", directory_.logs(), directory_.path());
    return error;
  }
  error.message += fmt::format("; the end of {}:", path);
  for (const std::string& line : *lines) error.message += "\n  " + ReadableLogLine(line);
  return error;
}

}  // namespace freshet::cli
