// SPDX-License-Identifier: Apache-2.0
#include "tests/chaos/plan_storm.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>

namespace freshet::chaos {

using cli::At;
using cli::Json;
using cli::NumberAt;
using cli::TextAt;
using std::chrono::milliseconds;
using testing::NodeOf;
using testing::RecordsOf;

namespace {

constexpr size_t kPlansPerAudit = 10;
// Exit codes of `freshet` that are answers: usage, not found, conflict.
constexpr int kRefusals[] = {2, 3, 4};

bool Ended(const std::string& state) {
  return state == "done" || state == "failed" || state == "cancelled";
}

std::vector<std::string> Running(const Json& status, const std::string& role) {
  std::vector<std::string> names;
  for (const Json& node : At(status, "nodes")) {
    if (TextAt(node, "role") == role && TextAt(node, "state") == "running") {
      names.push_back(TextAt(node, "name"));
    }
  }
  return names;
}

}  // namespace

PlanStorm::PlanStorm(StormOptions options)
    : options_(std::move(options)), random_(options_.training.seed), cluster_(options_.training) {}

bool PlanStorm::Check(const base::Result<>& outcome) {
  return outcome.has_value() || Fail(outcome.error().message);
}

bool PlanStorm::Fail(const std::string& why) {
  verdict_ = Verdict::kFailed;
  why_ = why;
  return false;
}

milliseconds PlanStorm::Between(uint64_t least_ms, uint64_t most_ms) {
  return milliseconds(static_cast<int64_t>(least_ms + random_.Below(most_ms - least_ms + 1)));
}

Verdict PlanStorm::Run() {
  const auto started = cluster_.Start({{"ps", "2"},
                                       {"workers", "2"},
                                       {"max_ps", std::to_string(options_.max_ps)},
                                       {"lease_target_ms", "2000"},
                                       {"auto_balance", "false"}});
  if (!Check(started) || !RunPlans() || !AwaitLastShape()) return verdict_;
  if (!Check(cluster_.AwaitFlow()) || !Check(cluster_.Audit())) return verdict_;
  if (Check(cluster_.Down()) && (kills_under_way_ == 0 || partitions_moved_ == 0)) {
    verdict_ = Verdict::kVoid;
    why_ = "nothing was killed while a plan was under way, or nothing moved";
  }
  return verdict_;
}

std::vector<std::string> PlanStorm::DrawRequest(const Json& status) {
  const auto servers = Running(status, "ps");
  const auto workers = Running(status, "worker");
  const uint64_t draw = random_.Below(100);
  const auto any = [this](const std::vector<std::string>& names) {
    return names.empty() ? std::string("ps-0") : names[random_.Below(names.size())];
  };
  const std::string ps = std::to_string(1 + random_.Below(options_.max_ps));
  const std::string number = std::to_string(1 + random_.Below(options_.max_workers));
  if (draw < 35) return {"scale", "--ps", ps};
  if (draw < 45) return {"scale", "--workers", number};
  if (draw < 55) return {"scale", "--ps", ps, "--workers", number};
  if (draw < 75) return {"migrate", any(servers)};
  if (draw < 90) return {"drain", any(draw < 87 ? servers : workers)};
  return {"rebalance"};
}

bool PlanStorm::AskForOne(uint64_t* id) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    const Json status = cluster_.up.AwaitStatus([](const Json&) { return true; }, kPatience);
    if (status.is_null()) return Fail("no status within a minute");
    Look(status);
    auto request = DrawRequest(status);
    std::string words;
    for (const std::string& word : request) words += (words.empty() ? "" : " ") + word;
    const std::string kind = request.front();
    request.insert(request.end(), {"-o", "json"});
    const auto answer = cluster_.up.Freshet(request);
    const Json begun = answer.json();
    if (answer.code == 0 && begun.is_object() && begun.contains("id")) {
      *id = static_cast<uint64_t>(NumberAt(begun, "id"));
      plans_[*id] = {kind, words, "asked"};
      return true;
    }
    // The master may have been killed meanwhile; then it was asked in vain, or nobody heard the answer.
    if (std::find(std::begin(kRefusals), std::end(kRefusals), answer.code) != std::end(kRefusals)) {
      ++refusals_[fmt::format("{} with {}", kind, answer.code)];
    } else {
      cluster_.Wait(milliseconds(100));
    }
  }
  return Fail("no plan was accepted in a hundred attempts");
}

bool PlanStorm::KillSome() {
  for (uint64_t left = random_.Below(3); left > 0; --left) {
    cluster_.Wait(Between(0, 250));
    const auto processes = cluster_.up.Processes();
    std::vector<std::pair<std::string, base::ProcessId>> victims;
    for (const auto& process : processes) {
      if (process.first != "supervisor") victims.push_back(process);
    }
    if (victims.empty()) continue;
    const auto& [name, pid] = victims[random_.Below(victims.size())];
    if (const auto status = cli::AdminClient(cluster_.up.dir()).Get("/v1/status")) Look(*status);
    kills_under_way_ += AllEnded() ? 0 : 1;
    if (base::SignalProcess(pid, SIGKILL)) ++kills_[name.substr(0, name.find('-'))];
  }
  if (random_.Chance(0.02)) {
    cluster_.up.KillAll();
    ++kills_["everything"];
  }
  // A supervisor gives up a master that dies again and again, as it should.
  if (cluster_.up.Processes().contains("supervisor")) return true;
  return Check(cluster_.UpAgain());
}

void PlanStorm::Look(const Json& status) {
  for (const Json& plan : At(status, "plans")) {
    const auto id = static_cast<uint64_t>(NumberAt(plan, "id"));
    Plan& known = plans_[id];
    if (known.kind.empty()) known = {TextAt(plan, "kind"), TextAt(plan, "plan"), ""};
    const bool ended = Ended(known.state);
    known.state = TextAt(plan, "state");
    if (!ended && Ended(known.state)) {
      partitions_moved_ += static_cast<uint64_t>(NumberAt(plan, "moved"));
      fmt::print(stderr, "plan {}: {} {}: {}\n", id, known.words, known.state,
                 TextAt(plan, "text"));
    }
  }
}

bool PlanStorm::AwaitEnd(uint64_t id) {
  const Json status = cluster_.up.AwaitStatus(
      [&](const Json& now) {
        Look(now);
        return Ended(plans_[id].state);
      },
      kPatience);
  if (!status.is_null()) return true;
  return Fail(
      fmt::format("plan {} ({}) did not end; it is {}", id, plans_[id].words, plans_[id].state));
}

bool PlanStorm::AllEnded() const {
  return std::all_of(plans_.begin(), plans_.end(),
                     [](const auto& plan) { return Ended(plan.second.state); });
}

bool PlanStorm::RunPlans() {
  for (uint32_t i = 0; i < options_.plans; ++i) {
    uint64_t id = 0;
    if (!AskForOne(&id)) return false;
    cluster_.Wait(Between(0, 100));
    if (!KillSome()) return false;
    if (random_.Chance(0.1)) {
      cluster_.up.Freshet({"cancel", std::to_string(id)});  // refused when it has ended
    }
    if (random_.Chance(0.3) && i + 1 < options_.plans) continue;  // the next one waits behind it
    if (!AwaitEnd(id)) return false;
    if (i % kPlansPerAudit == kPlansPerAudit - 1 &&
        (!Check(cluster_.AwaitFlow()) || !Check(cluster_.Audit())))
      return false;
  }
  return true;
}

// What runs at the end is what the view says: nobody too many, nobody missing.
bool PlanStorm::AwaitLastShape() {
  const Json status = cluster_.up.AwaitStatus(
      [this](const Json& now) {
        Look(now);
        const auto servers = Running(now, "ps");
        const auto processes = cluster_.up.Processes();
        const auto count = std::count_if(processes.begin(), processes.end(),
                                         [](const auto& p) { return p.first.starts_with("ps-"); });
        double partitions = 0;
        for (const std::string& name : servers) {
          partitions += NumberAt(NodeOf(now, name), "partitions");
        }
        return AllEnded() && partitions == 64 && static_cast<size_t>(count) == servers.size();
      },
      kPatience);
  return !status.is_null() || Fail("the servers that run are not those that own the partitions");
}

std::string PlanStorm::Report() const {
  std::map<std::string, std::map<std::string, uint32_t>> table;
  for (const auto& [id, plan] : plans_) ++table[plan.kind][plan.state];
  std::string text = fmt::format("{:<12} {:>6} {:>6} {:>10} {:>6}\n", "plan", "done", "failed",
                                 "cancelled", "open");
  for (auto& [kind, states] : table) {
    uint32_t all = 0;
    for (const auto& state : states) all += state.second;
    const uint32_t done = states["done"];
    const uint32_t failed = states["failed"];
    const uint32_t cancelled = states["cancelled"];
    text += fmt::format("{:<12} {:>6} {:>6} {:>10} {:>6}\n", kind, done, failed, cancelled,
                        all - done - failed - cancelled);
  }
  text += fmt::format("partitions moved: {}\nkilled:", partitions_moved_);
  for (const auto& [role, count] : kills_) text += fmt::format(" {} {}", role, count);
  text += fmt::format("; with a plan under way {}\nrefused:", kills_under_way_);
  for (const auto& [what, count] : refusals_) text += fmt::format(" {}: {};", what, count);
  text += "\n" + cluster_.AuditText();
  const char* words[] = {"exact", "FAILED", "VOID"};
  text += fmt::format("{} plans with seed {}: {}{}{}\n", plans_.size(), options_.training.seed,
                      words[static_cast<size_t>(verdict_)], why_.empty() ? "" : ", ", why_);
  return text;
}

}  // namespace freshet::chaos
