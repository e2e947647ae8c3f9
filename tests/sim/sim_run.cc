// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_run.h"

#include <algorithm>

#include "tests/sim/fault_injector.h"

namespace freshet::sim {

using base::Duration;
using std::chrono::seconds;

namespace {

constexpr uint64_t kProgressEvery = 50;  // events
constexpr uint64_t kRowsEvery = 400;     // events
constexpr uint64_t kDisksEvery = 4000;   // events
// A hundred times what a run takes: packets that beget packets.
constexpr uint64_t kMostEvents = 1'000'000;
// A call may have to run into its deadline once before the job goes on.
constexpr Duration kPatience = seconds(180);

class Run {
 public:
  Run(const Scenario& scenario, const Trace& trace)
      : scenario_(scenario), cluster_(scenario, trace), checker_(cluster_), injector_(cluster_) {}

  // The last backup that was complete.
  const SimVault::Backup* backup() const {
    const auto& finished = cluster_.vault().finished;
    return finished.empty() ? nullptr : &finished.back();
  }
  const SimVault& vault() const { return cluster_.vault(); }
  void Restore(const SimVault& vault, const SimVault::Backup& backup) {
    cluster_.Log(fmt::format("a new cluster from {}", backup.image_dir));
    cluster_.Restore(vault, backup);
  }

  RunResult Execute() {
    cluster_.Log(scenario_.ToString());
    cluster_.Start();
    injector_.Start();
    Repeat(scenario_.admin_interval, [this] { checker_.AskForCheckpoint(); });
    Repeat(scenario_.backup_interval, [this] { cluster_.StartBackup(); });
    result_.violation = UntilTheEnd();
    result_.events = cluster_.scheduler().events();
    result_.digest = cluster_.scheduler().digest();
    result_.faults = injector_.injected();
    result_.checkpoints = checker_.checkpoints_answered();
    result_.moves = checker_.moves();
    result_.network = cluster_.network().counts();
    result_.virtual_time = cluster_.scheduler().now();
    result_.after_faults = calm_since_ ? result_.virtual_time - *calm_since_ : Duration(0);
    return result_;
  }

 private:
  Violation UntilTheEnd() {
    Scheduler& scheduler = cluster_.scheduler();
    while (scheduler.RunNext()) {
      const uint64_t event = scheduler.events();
      NoteCalm();
      if (event % kProgressEvery == 0) {
        if (auto bad = checker_.CheckProgress()) return bad;
        if (injector_.stopped() && checker_.IsSettled()) return checker_.CheckEnd();
        if (calm_since_ && scheduler.now() - *calm_since_ > kPatience) return Stuck();
      }
      if (event > kMostEvents) return "liveness: so many events that packets must beget packets";
      if (event % kRowsEvery == 0) {
        if (auto bad = checker_.CheckRows()) return bad;
      }
      if (event % kDisksEvery == 0) {
        if (auto bad = checker_.CheckDisks()) return bad;
      }
    }
    return "liveness: nothing is left to do";
  }

  // A job that is over needs no more faults.
  void NoteCalm() {
    const master::MasterNode* master = cluster_.master();
    if (master != nullptr && master->phase() == master::Phase::kCompleted) injector_.Stop();
    if (injector_.stopped() && !calm_since_) calm_since_ = cluster_.scheduler().now();
  }

  Violation Stuck() const {
    const master::MasterNode* master = cluster_.master();
    if (master == nullptr) return "liveness: there is no master";
    std::string text = fmt::format("liveness: still {} {} s after the last fault",
                                   master::PhaseName(master->phase()), kPatience / seconds(1));
    for (const SimLog& log : scenario_.logs) {
      if (log.spec.purpose == protocol::LogPurpose::kTrain) {
        text += fmt::format(", {} has {} done of {}, durable {}", log.spec.name,
                            master->progress().Done(log.spec.log).ToString(), log.end,
                            master->progress().DurableFloor(log.spec.log));
      } else {
        text += fmt::format(", {} has {} evaluated of {}", log.spec.name,
                            master->evaluation().Counted(log.spec.log).ToString(), log.end);
      }
    }
    return text + Awaited(*master);
  }

  // What somebody may be waiting for.
  static std::string Awaited(const master::MasterNode& master) {
    std::string text;
    for (const master::PlanRecord& plan : master.plans()) {
      if (!plan.ended()) text += fmt::format(", plan {} ({})", plan.id, PlanText(plan.request));
    }
    const protocol::View& view = master.view();
    for (size_t p = 0; p < view.places.size(); ++p) {
      const protocol::Place& place = view.places[p];
      const bool known =
          master.progress().Reported(protocol::PartitionId(static_cast<uint16_t>(p)));
      if (known && place.migration.value() == 0) continue;
      text += fmt::format(
          ", partition {} of {}{}{}", p, view.nodes[place.node].name,
          known ? "" : " is not reported",
          place.migration.value() == 0 ? "" : " is to go to " + view.nodes[place.target].name);
    }
    for (const auto& [name, node] : master.nodes()) {
      text += fmt::format(", {} {}", name, node.state);
    }
    return text;
  }

  // As an operator would, as long as there are faults.
  void Repeat(Duration mean, std::function<void()> action) {
    if (mean == Duration(0)) return;
    const Duration wait = DrawExponential(cluster_.chance(), mean);
    cluster_.scheduler().After(wait, [this, mean, action = std::move(action)]() mutable {
      action();
      if (!injector_.stopped()) Repeat(mean, std::move(action));
    });
  }

  const Scenario& scenario_;
  SimCluster cluster_;
  Checker checker_;
  FaultInjector injector_;
  std::optional<Duration> calm_since_;
  RunResult result_;
};

}  // namespace

void RunResult::Add(const RunResult& other) {
  events += other.events;
  digest = base::Mix64(digest ^ other.digest);
  faults += other.faults;
  checkpoints += other.checkpoints;
  restores += other.restores;
  moves += other.moves;
  network.Add(other.network);
  virtual_time += other.virtual_time;
  after_faults = std::max(after_faults, other.after_faults);
}

RunResult RunSeed(uint64_t seed, const FaultSet& faults, const Trace& trace) {
  const Scenario scenario = DrawScenario(seed, faults);
  Run run(scenario, trace);
  RunResult result = run.Execute();
  if (result.violation || run.backup() == nullptr) return result;
  const Scenario again = scenario.AfterRestore();
  Run restored(again, trace);
  restored.Restore(run.vault(), *run.backup());
  const RunResult second = restored.Execute();
  result.Add(second);
  ++result.restores;
  if (second.violation) result.violation = *second.violation + " (restored from a backup)";
  return result;
}

}  // namespace freshet::sim
