// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_run.h"

#include "tests/sim/fault_injector.h"

namespace freshet::sim {

using base::Duration;
using std::chrono::seconds;

namespace {

constexpr uint64_t kProgressEvery = 50;  // events
constexpr uint64_t kRowsEvery = 400;     // events
// A call may have to run into its deadline once before the job goes on.
constexpr Duration kPatience = seconds(180);

class Run {
 public:
  Run(const Scenario& scenario, const Trace& trace)
      : scenario_(scenario), cluster_(scenario, trace), checker_(cluster_), injector_(cluster_) {}

  RunResult Execute() {
    cluster_.Log(scenario_.ToString());
    cluster_.Start();
    injector_.Start();
    if (scenario_.admin_interval > Duration(0)) AskForCheckpoints();
    result_.violation = UntilTheEnd();
    result_.events = cluster_.scheduler().events();
    result_.digest = cluster_.scheduler().digest();
    result_.faults = injector_.injected();
    result_.checkpoints = checker_.checkpoints_answered();
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
      if (event % kProgressEvery == 0) {
        if (auto bad = checker_.CheckProgress()) return bad;
        NoteCalm();
        if (injector_.stopped() && checker_.IsSettled()) return checker_.CheckEnd();
        if (calm_since_ && scheduler.now() - *calm_since_ > kPatience) return Stuck();
      }
      if (event % kRowsEvery == 0) {
        if (auto bad = checker_.CheckRows()) return bad;
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
    return text;
  }

  void AskForCheckpoints() {
    const Duration wait = DrawExponential(cluster_.chance(), scenario_.admin_interval);
    cluster_.scheduler().After(wait, [this] {
      checker_.AskForCheckpoint();
      if (!injector_.stopped()) AskForCheckpoints();
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

RunResult RunSeed(uint64_t seed, const FaultSet& faults, const Trace& trace) {
  const Scenario scenario = DrawScenario(seed, faults);
  return Run(scenario, trace).Execute();
}

}  // namespace freshet::sim
