// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/scenario.h"

#include <fmt/format.h>

#include <array>
#include <sstream>

#include "base/random.h"

namespace freshet::sim {

using base::Duration;
using base::Random;
using std::chrono::seconds;

namespace {

constexpr std::array<const char*, kFaults> kNames = {
    "loss",    "duplicate", "delay",       "reorder",  "refuse", "kill_worker", "drain_worker",
    "kill_ps", "drain_ps",  "kill_master", "kill_all", "pause",  "cut",         "disk",
    "crash",   "rot",       "slow",        "stop",     "join",   "plan"};

// The last fault of each level; a level has all before it too.
struct Level {
  const char* name;
  Fault last;
};
constexpr std::array<Level, 5> kLevels = {{{"network", Fault::kRefuse},
                                           {"workers", Fault::kDrainWorker},
                                           {"servers", Fault::kDrainPs},
                                           {"all", Fault::kJoin},
                                           {"plans", Fault::kPlan}}};

Duration Between(Random& random, double low_ms, double high_ms) {
  return Duration(static_cast<int64_t>(DrawLogUniform(random, low_ms, high_ms) * 1000));
}

uint32_t Range(Random& random, uint32_t low, uint32_t high) {
  return low + static_cast<uint32_t>(random.Below(high - low + 1));
}

SimLog DrawLog(Random& random, uint16_t id, protocol::LogPurpose purpose) {
  const bool trains = purpose == protocol::LogPurpose::kTrain;
  SimLog log;
  log.spec.log = protocol::LogId(id);
  log.spec.name = fmt::format("log-{}", id);
  log.spec.purpose = purpose;
  log.end = Range(random, trains ? 200 : 20, trains ? 2500 : 200);
  log.dead_rate = random.Chance(0.7) ? random.Uniform() * 0.05 : 0.3;
  if (random.Chance(0.02)) log.dead_rate = 1.0;
  log.seed = random.Next();
  return log;
}

void DrawCluster(Random& random, Scenario* s) {
  s->partitions = Range(random, 2, 9);
  s->ps = Range(random, 1, std::min(3u, s->partitions));
  s->workers = Range(random, 1, 4);
  s->supervision = static_cast<Supervision>(random.Below(3));
  s->batch_size = Range(random, 8, 48);
  s->batch_size_changes = random.Chance(0.3);
  s->pull_ahead = Range(random, 0, 3);
  uint16_t id = 0;
  const uint32_t logs = random.Chance(0.3) ? 2 : 1;
  for (uint32_t i = 0; i < logs; ++i) {
    s->logs.push_back(DrawLog(random, id++, protocol::LogPurpose::kTrain));
  }
  if (random.Chance(0.2)) s->logs.push_back(DrawLog(random, id, protocol::LogPurpose::kEvaluate));
  s->heartbeat = Between(random, 30, 300);
  s->node_timeout = s->heartbeat * 5 + Between(random, 100, 3000);
  s->checkpoint_interval = Between(random, 50, 4000);
  s->checkpoint_group_bytes = static_cast<uint64_t>(DrawLogUniform(random, 500, 100'000));
  s->max_differences = Range(random, 0, 6);
  s->restart_delay = Between(random, 10, 600);
  if (random.Chance(0.3)) s->admin_interval = Between(random, 300, 5000);
}

Duration DrawInterval(Random& random, Fault fault) {
  switch (fault) {
    case Fault::kKillWorker:
    case Fault::kKillPs: return Between(random, 150, 4000);
    case Fault::kDrainWorker:
    case Fault::kDrainPs:
    case Fault::kKillMaster: return Between(random, 400, 8000);
    case Fault::kKillAll: return Between(random, 800, 10'000);
    case Fault::kStop: return Between(random, 2000, 20'000);
    case Fault::kRot: return Between(random, 300, 8000);
    case Fault::kPlan: return Between(random, 200, 4000);
    case Fault::kJoin: return Between(random, 1000, 8000);
    case Fault::kSlow:
    case Fault::kPause:
    case Fault::kCut: return Between(random, 150, 4000);
    default: return Duration(1);  // not timed: only on or off
  }
}

void DrawNetwork(Random& random, Scenario* s) {
  NetworkTimes& net = s->network;
  net.latency = Between(random, 0.5, 30);
  net.in_order = !s->Has(Fault::kReorder);
  if (s->Has(Fault::kLoss)) net.loss = DrawLogUniform(random, 0.001, 0.25);
  if (s->Has(Fault::kRefuse)) net.refuse = DrawLogUniform(random, 0.001, 0.1);
  if (s->Has(Fault::kDuplicate)) {
    net.duplicate = DrawLogUniform(random, 0.005, 0.3);
    net.duplicate_delay = Between(random, 1, 10'000);
  }
  if (s->Has(Fault::kDelay)) {
    net.slow = DrawLogUniform(random, 0.001, 0.1);
    net.slow_delay = Between(random, 50, 5000);
  }
}

// Apart from the rest, so that a seed's other draws stay as they are.
void DrawGrowth(Scenario* s) {
  Random random(base::Mix64(s->seed ^ 0x6204));
  const bool evaluates = s->logs.back().spec.purpose == protocol::LogPurpose::kEvaluate;
  if (!random.Chance(0.25) || evaluates) return;
  s->linger = Between(random, 20, 2000);
  for (SimLog& log : s->logs) {
    log.spec.follow = true;
    log.growth = Between(random, 50, 15'000);
  }
}

// A product watches for seconds what takes tenths of a second here.
void DrawBalance(Scenario* s) {
  Random random(base::Mix64(s->seed ^ 0xBA1A));
  if (!s->Has(Fault::kPlan) || !random.Chance(0.4)) return;
  s->balances = true;
  s->balance.sample_interval = Between(random, 200, 1500);
  s->balance.samples = Range(random, 1, 2);
  s->balance.samples_underused = Range(random, 1, 4);
  s->balance.rest_samples = Range(random, 0, 2);
  s->balance.worth = 1;
  s->balance.worth_underused = 1;
  s->balance.trust_samples = Range(random, 2, 10);
  s->balance.act_above = 1.0 + random.Uniform() * 0.3;
  s->balance.aim_at = 1.0 + random.Uniform() * 0.1;
  s->balance.least_busy = 0;
  // Nothing is decided while a server recovers or a plan is under way.
  if (random.Chance(0.7)) {
    for (const Fault fault : {Fault::kKillPs, Fault::kDrainPs, Fault::kKillMaster, Fault::kKillAll,
                              Fault::kStop, Fault::kJoin, Fault::kPlan}) {
      s->fault_interval[static_cast<size_t>(fault)] *= 4;
    }
  }
  if (!random.Chance(0.4)) return;
  s->balance.memory_act = DrawLogUniform(random, 0.001, 0.02);
  s->balance.memory_aim = s->balance.memory_act * 0.7;
  s->balance.memory_fill = s->balance.memory_act * 0.9;
}

// What random plans reach in one run of tens of thousands: a partition that comes back before everybody
// heard that it had gone, a migration that is given up at any moment and begun again.
void DrawMoves(Scenario* s) {
  Random random(base::Mix64(s->seed ^ 0x30FE5));
  s->focus_on_moves = true;
  s->partitions = Range(random, 4, 12);
  s->ps = Range(random, 2, 3);
  s->workers = Range(random, 1, 3);
  s->supervision = random.Chance(0.5) ? Supervision::kLauncherAdopts : Supervision::kLauncher;
  s->heartbeat = Between(random, 20, 80);
  s->node_timeout = seconds(4);
  s->checkpoint_interval = Between(random, 30, 500);
  s->restart_delay = Between(random, 10, 100);
  s->backup_interval = Duration(0);
  s->work.typical = Between(random, 1, 10);
  s->work.slow_chance = 0.05;
  s->work.slow = Between(random, 20, 300);
  s->network = {};
  s->network.latency = Between(random, 0.3, 3);
  s->network.in_order = false;
  s->network.loss = random.Chance(0.5) ? DrawLogUniform(random, 0.001, 0.05) : 0;
  s->network.duplicate = DrawLogUniform(random, 0.02, 0.3);
  s->network.duplicate_delay = Between(random, 10, 1000);
  s->network.slow = DrawLogUniform(random, 0.02, 0.2);
  s->network.slow_delay = Between(random, 10, 500);
  for (size_t f = 0; f < kFaults; ++f) {
    if (static_cast<Fault>(f) != Fault::kRot) s->fault_interval[f] = Duration(0);
  }
  s->fault_interval[static_cast<size_t>(Fault::kPlan)] = Between(random, 100, 400);
  s->pause_time = Between(random, 20, 500);
  if (random.Chance(0.5)) {
    s->fault_interval[static_cast<size_t>(Fault::kPause)] = Between(random, 100, 1000);
  }
  if (random.Chance(0.3)) {
    s->fault_interval[static_cast<size_t>(Fault::kKillPs)] = Between(random, 500, 4000);
  }
  s->faults_end = Between(random, 3000, 8000);
  // There is something to learn all the time.
  std::erase_if(s->logs, [](const SimLog& log) {
    return log.spec.purpose == protocol::LogPurpose::kEvaluate;
  });
  s->linger = Between(random, 20, 100);
  for (SimLog& log : s->logs) {
    log.spec.follow = true;
    log.growth = s->faults_end;
  }
}

}  // namespace

std::string FaultName(Fault fault) { return kNames[static_cast<size_t>(fault)]; }

base::Result<FaultSet> ParseFaults(const std::string& text) {
  FaultSet set;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) {
    bool known = word == "none" || word == "moves";
    if (word == "moves") set.FocusOnMoves();
    for (const Level& level : kLevels) {
      if (word != level.name) continue;
      known = true;
      for (size_t f = 0; f <= static_cast<size_t>(level.last); ++f) set.Add(static_cast<Fault>(f));
    }
    for (size_t f = 0; f < kFaults; ++f) {
      if (word != kNames[f]) continue;
      known = true;
      set.Add(static_cast<Fault>(f));
    }
    if (!known) {
      return base::Fail(base::ErrorCode::kInvalidArgument,
                        fmt::format("no fault is called '{}'; there are none, network, workers, "
                                    "servers, all, plans, moves, {}",
                                    word, fmt::join(kNames, ", ")));
    }
  }
  return set;
}

NetworkTimes Scenario::CalmNetwork() const {
  NetworkTimes calm;
  calm.latency = network.latency;
  calm.in_order = network.in_order;
  return calm;
}

Scenario Scenario::AfterRestore() const {
  Scenario after = *this;
  after.ps = restore_ps;
  after.faults_end = faults_end / 4;
  after.backup_interval = base::Duration(0);
  // A restored cluster finds its logs as long as they have become.
  for (SimLog& log : after.logs) log.growth = base::Duration(0);
  return after;
}

std::string Scenario::ToString() const {
  std::string faults;
  for (size_t f = 0; f < kFaults; ++f) {
    if (Has(static_cast<Fault>(f))) faults += std::string(" ") + kNames[f];
  }
  return fmt::format(
      "{} partitions, {} servers, {} workers, {} logs{}, batch {}, pull ahead {}, {}{}, heartbeat "
      "{} "
      "ms, "
      "checkpoint {} ms, faults until {} ms:{}",
      partitions, ps, workers, logs.size(), Follows() ? " that grow" : "", batch_size, pull_ahead,
      supervision == Supervision::kOutside    ? "started from outside"
      : supervision == Supervision::kLauncher ? "children end with the master"
                                              : "children are adopted",
      balances ? ", balanced" : "", heartbeat.count() / 1000, checkpoint_interval.count() / 1000,
      faults_end.count() / 1000, faults);
}

Scenario DrawScenario(uint64_t seed, const FaultSet& allowed) {
  Random random(base::Mix64(seed ^ 0xF2E54E7));
  Scenario s;
  s.seed = seed;
  DrawCluster(random, &s);
  for (size_t f = 0; f < kFaults; ++f) {
    // Drawn for every kind, so that the rest of a seed stays when a kind is allowed or not.
    const bool on = random.Chance(0.5);
    const Duration interval = DrawInterval(random, static_cast<Fault>(f));
    if (on && allowed.Has(static_cast<Fault>(f))) s.fault_interval[f] = interval;
  }
  DrawNetwork(random, &s);
  s.work.typical = Between(random, 5, 150);
  s.work.slow_chance = random.Chance(0.5) ? 0.05 : 0;
  s.work.slow = Between(random, 100, 3000);
  if (s.Has(Fault::kDisk)) {
    s.disk.full = random.Chance(0.5) ? random.Uniform() * 0.5 : 0;
    s.disk.write_fails = random.Chance(0.5) ? random.Uniform() * 0.1 : 0;
    s.disk.read_fails = random.Chance(0.3) ? random.Uniform() * 0.05 : 0;
  }
  if (s.Has(Fault::kCrash)) s.disk.crash = DrawLogUniform(random, 0.001, 0.03);
  s.pause_time = Between(random, 50, 6000);
  s.cut_time = Between(random, 50, 6000);
  s.faults_end = Between(random, 1000, 20'000);
  if (random.Chance(0.2)) s.backup_interval = Between(random, 300, 5000);
  s.restore_ps = Range(random, 1, std::min(4u, s.partitions));
  DrawGrowth(&s);
  DrawBalance(&s);
  if (allowed.focus_on_moves()) DrawMoves(&s);
  return s;
}

}  // namespace freshet::sim
