// SPDX-License-Identifier: Apache-2.0
#include "tests/chaos/chaos_run.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace freshet::chaos {

using base::ProcessId;
using cli::At;
using cli::Json;
using cli::NumberAt;
using cli::TextAt;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::NodeOf;
using testing::RecordsOf;

namespace {

namespace fs = std::filesystem;

// Somebody restarts what died; a fault that finds nobody to hit waits so long.
constexpr seconds kRespawn{20};
constexpr uint64_t kDiskBytes = 128 << 20;
// A fault with so many behind it is followed by an audit.
constexpr size_t kFaultsPerAudit = 25;
constexpr int64_t kEventsTailBytes = 256 << 10;
constexpr int64_t kLogTailBytes = 64 << 20;

bool IsKill(FaultKind kind) { return kind <= FaultKind::kKillAll; }
bool IsPs(FaultKind kind) { return kind == FaultKind::kKillPs || kind == FaultKind::kStopPs; }

std::string TargetOf(const Fault& fault) {
  switch (fault.kind) {
    case FaultKind::kKillPs:
    case FaultKind::kStopPs: return fmt::format("ps-{}", fault.number);
    case FaultKind::kKillWorker:
    case FaultKind::kStopWorker: return fmt::format("worker-{}", fault.number);
    case FaultKind::kKillMaster:
    case FaultKind::kStopMaster: return "master";
    case FaultKind::kKillSupervisor: return "supervisor";
    case FaultKind::kFullDisk: return "ps-0";
    default: return "";
  }
}

std::string Tail(const std::string& path, int64_t bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const auto size = static_cast<int64_t>(file.tellg());
  file.seekg(std::max<int64_t>(0, size - bytes));
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

ChaosRun::ChaosRun(ChaosOptions options)
    : options_(std::move(options)), cluster_(options_.training) {}

bool ChaosRun::Check(const base::Result<>& outcome) {
  return outcome.has_value() || Fail(outcome.error().message);
}

bool ChaosRun::Fail(const std::string& why) {
  verdict_ = Verdict::kFailed;
  why_ = why;
  return false;
}

bool ChaosRun::Void(const std::string& why) {
  if (verdict_ != Verdict::kFailed) verdict_ = Verdict::kVoid;
  why_ = why;
  return false;
}

ChaosRun::Moment ChaosRun::Now() const { return {clock_.Now(), clock_.WallNow().unix_ms}; }

int64_t ChaosRun::MillisecondsSince(const Moment& moment) const {
  return std::chrono::duration_cast<milliseconds>(clock_.Now() - moment.at).count();
}

Verdict ChaosRun::Run() {
  if (!StartCluster()) return verdict_;
  plan_ = DrawPlan(options_.plan);
  for (const Fault& fault : plan_) table_.Plan(fault.kind);
  if (!RunPlan()) return verdict_;
  if (!Check(cluster_.AwaitFlow()) || !Check(cluster_.Audit())) return verdict_;
  Check(cluster_.Down());
  if (!table_.complete()) Void("not every planned fault happened");
  if (flowed_ == 0) Void("no records flowed between the faults");
  return verdict_;
}

bool ChaosRun::StartCluster() {
  const std::string disk = cluster_.up.dir() + "/ps-0";
  fs::create_directories(disk);
  auto mounted = SmallDisk::Mount(disk, kDiskBytes);
  options_.plan.disk = mounted.has_value();
  disk_word_ = mounted ? fmt::format("tmpfs of {} MiB for ps-0", kDiskBytes >> 20)
                       : "SKIPPED, " + mounted.error().message;
  if (mounted) disk_.emplace(std::move(*mounted));
  return Check(cluster_.Start({{"ps", std::to_string(options_.plan.ps)},
                               {"workers", std::to_string(options_.plan.workers)},
                               {"lease_target_ms", "5000"}}));
}

bool ChaosRun::RunPlan() {
  bool alone = true;
  for (size_t i = 0; i < plan_.size(); ++i) {
    const Fault& fault = plan_[i];
    Json before;
    if (alone) {
      cluster_.Wait(fault.pause);
      before = cluster_.up.AwaitStatus([this](const Json& s) { return AllRun(s); }, kPatience);
      if (before.is_null()) return Fail("not everything runs before a fault");
    }
    Moment since;
    if (!Inject(fault, &since)) return false;
    const std::string name =
        fmt::format("{}/{} {} {}", i + 1, plan_.size(), NameOf(fault.kind), hit_);
    Recovery recovery;
    if (fault.overlaps) {
      fmt::print(stderr, "{}: the next one comes at once\n", name);
      table_.Add(fault.kind, {});
      alone = false;
      continue;
    }
    if (!Recover(fault, since, &recovery)) return false;
    fmt::print(stderr, "{}: serving after {} ms, records flow after {} ms\n", name,
               recovery.serving_ms.value_or(-1), recovery.flowing_ms.value_or(-1));
    table_.Add(fault.kind, alone ? recovery : Recovery{});
    if (alone)
      CheckOthers(fault, before, cluster_.up.AwaitStatus([](const Json&) { return true; }));
    alone = true;
    if (i % kFaultsPerAudit == kFaultsPerAudit - 1 && !Check(cluster_.Audit())) return false;
    if (verdict_ != Verdict::kExact) return false;
  }
  return true;
}

std::optional<ProcessId> ChaosRun::AwaitProcess(const std::string& name) {
  std::optional<ProcessId> pid;
  cluster_.up.Await(
      [&] {
        const auto processes = cluster_.up.Processes();
        const auto process = processes.find(name);
        if (process != processes.end()) pid = process->second;
        return pid.has_value();
      },
      kRespawn);
  if (!pid) Void(name + " was not there to be hit");
  return pid;
}

bool ChaosRun::Inject(const Fault& fault, Moment* since) {
  hit_ = TargetOf(fault);
  hit_pid_ = 0;
  switch (fault.kind) {
    case FaultKind::kKillPs:
    case FaultKind::kKillWorker:
    case FaultKind::kKillMaster: return Kill(hit_, since);
    case FaultKind::kKillSupervisor: return Kill(hit_, since) && Check(cluster_.UpAgain());
    case FaultKind::kKillAll: return KillEverything(since);
    case FaultKind::kStopPs:
    case FaultKind::kStopWorker:
    case FaultKind::kStopMaster: return StopAndGoOn(fault, since);
    case FaultKind::kRestart: return Restart(since);
    case FaultKind::kFullDisk: return FillDisk(fault, since);
  }
  return false;
}

bool ChaosRun::Kill(const std::string& name, Moment* since) {
  const auto pid = AwaitProcess(name);
  if (!pid) return false;
  hit_pid_ = *pid;
  *since = Now();
  if (!base::SignalProcess(*pid, SIGKILL)) return Void(name + " ended by itself");
  // Its parent may be slow to collect it; what is left of it does nothing.
  cluster_.up.Await([&] { return base::CommandLineOf(*pid).empty(); }, seconds(5));
  return true;
}

bool ChaosRun::KillEverything(Moment* since) {
  *since = Now();
  cluster_.up.KillAll();
  return Check(cluster_.UpAgain());
}

bool ChaosRun::StopAndGoOn(const Fault& fault, Moment* since) {
  const auto pid = AwaitProcess(hit_);
  if (!pid) return false;
  if (!base::SignalProcess(*pid, SIGSTOP)) return Void(hit_ + " ended by itself");
  cluster_.Wait(fault.hold);
  *since = Now();
  if (!base::SignalProcess(*pid, SIGCONT)) return Void(hit_ + " ended while it was stopped");
  return true;
}

size_t ChaosRun::CountInLog(const std::string& node, const std::string& words) const {
  const std::string text = Tail(cluster_.up.dir() + "/logs/" + node + ".log", kLogTailBytes);
  size_t count = 0;
  for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1))
    ++count;
  return count;
}

bool ChaosRun::FillDisk(const Fault& fault, Moment* since) {
  const size_t failed = CountInLog("ps-0", "checkpoint failed");
  if (auto filled = disk_->Fill(); !filled) return Void(filled.error().message);
  cluster_.Wait(fault.hold / 2);
  if (fault.kills_too && !Kill("ps-0", since)) return false;
  cluster_.Wait(fault.hold / 2);
  disk_->Free();
  *since = Now();
  disk_noticed_ += CountInLog("ps-0", "checkpoint failed") > failed ? 1 : 0;
  return true;
}

bool ChaosRun::Restart(Moment* since) {
  if (!Check(cluster_.Down())) return false;
  *since = Now();
  return Check(cluster_.UpAgain());
}

bool ChaosRun::AllRun(const Json& status) const {
  if (TextAt(At(status, "job"), "phase") != "training") return false;
  const auto runs = [&](const std::string& name) {
    return TextAt(NodeOf(status, name), "state") == "running";
  };
  for (uint32_t i = 0; i < options_.plan.ps; ++i) {
    if (!runs(fmt::format("ps-{}", i))) return false;
  }
  for (uint32_t i = 0; i < options_.plan.workers; ++i) {
    if (!runs(fmt::format("worker-{}", i))) return false;
  }
  return true;
}

// The master's own measurement ends at the event; ours began at the signal.
std::optional<int64_t> ChaosRun::ServingEvent(const std::string& node, const Moment& since) const {
  const std::string text = Tail(cluster_.up.dir() + "/events.jsonl", kEventsTailBytes);
  for (size_t at = text.find('\n'); at != std::string::npos && at + 1 < text.size();) {
    const size_t end = text.find('\n', at + 1);
    const Json event = Json::parse(text.substr(at + 1, end - at - 1), nullptr, false);
    at = end;
    if (TextAt(event, "kind") != "ps_serving" || TextAt(event, "node") != node) continue;
    const auto then = static_cast<int64_t>(NumberAt(event, "unix_ms"));
    if (then >= since.unix_ms) return then - since.unix_ms;
  }
  return std::nullopt;
}

bool ChaosRun::Recover(const Fault& fault, const Moment& since, Recovery* recovery) {
  const bool killed_node = fault.kind == FaultKind::kKillPs || fault.kind == FaultKind::kKillWorker;
  const auto serving = [&](const Json& status) {
    const Json node = NodeOf(status, hit_);
    return AllRun(status) && (!killed_node || NumberAt(node, "pid") != hit_pid_);
  };
  Json status = cluster_.up.AwaitStatus(serving, kRespawn);
  if (status.is_null() && !cluster_.up.Processes().contains("supervisor")) {
    ++given_up_;  // as it should when its master dies again and again
    if (!Check(cluster_.UpAgain())) return false;
  }
  if (status.is_null()) status = cluster_.up.AwaitStatus(serving, kPatience);
  if (status.is_null()) return Fail("not everything runs again after " + NameOf(fault.kind));
  recovery->serving_ms = MillisecondsSince(since);
  const uint64_t records = RecordsOf(status);
  uint64_t least = records;  // a PS that came back has older rows until its gaps are learnt again
  const Json flowing = cluster_.up.AwaitStatus(
      [&](const Json& s) {
        least = std::min(least, RecordsOf(s));
        return RecordsOf(s) > least;
      },
      kPatience);
  if (flowing.is_null()) return Fail("no records flow after " + NameOf(fault.kind));
  recovery->flowing_ms = MillisecondsSince(since);
  flowed_ += RecordsOf(flowing) - least;
  if (IsKill(fault.kind) && IsPs(fault.kind)) recovery->serving_ms = ServingEvent(hit_, since);
  return true;
}

// Nobody but who was hit is another process than before.
void ChaosRun::CheckOthers(const Fault& fault, const Json& before, const Json& after) {
  if (fault.kind == FaultKind::kKillAll || fault.kind == FaultKind::kRestart) return;
  for (const Json& node : At(before, "nodes")) {
    const std::string name = TextAt(node, "name");
    if (name == hit_) continue;
    const Json now = NodeOf(after, name);
    for (const char* what : {"pid", "incarnation"}) {
      if (NumberAt(now, what) == NumberAt(node, what)) continue;
      Fail(fmt::format("{} has another {} after {} {}", name, what, NameOf(fault.kind), hit_));
    }
  }
}

std::string ChaosRun::Report() const {
  const char* words[] = {"exact", "FAILED", "VOID"};
  std::string text = table_.Text();
  text +=
      fmt::format("disk full: {}; noticed by checkpoints {} times\n", disk_word_, disk_noticed_);
  text += fmt::format("supervisors that had given up a dying master: {}\n", given_up_);
  text += cluster_.AuditText();
  text += fmt::format("run with seed {}: {}{}{}\n", options_.plan.seed,
                      words[static_cast<size_t>(verdict_)], why_.empty() ? "" : ", ", why_);
  return text;
}

}  // namespace freshet::chaos
