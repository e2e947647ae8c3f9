// SPDX-License-Identifier: Apache-2.0
// Scenario: everything that a seed decides before a run begins: the cluster's shape, its times, which
// faults come and how often. Most seeds have only some kinds of faults, in very different rates, so that
// together they reach what no average would.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "master/load_watch.h"
#include "protocol/messages.h"
#include "tests/sim/sim_log.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_process.h"
#include "tests/sim/sim_stores.h"

namespace freshet::sim {

enum class Fault : uint8_t {
  kLoss,
  kDuplicate,
  kDelay,
  kReorder,
  kRefuse,
  kKillWorker,
  kDrainWorker,
  kKillPs,
  kDrainPs,
  kKillMaster,
  kKillAll,
  kPause,  // any process, for up to seconds: it is a zombie when it comes back
  kCut,    // links between two nodes, both ways or one way
  kDisk,   // full, or failing writes and reads
  kCrash,  // a process ends at one of its writes, just before or just after it
  kRot,    // a stored image is damaged
  kSlow,   // any process gets a part of its processor only, for seconds
  kStop,   // the whole cluster is stopped as an operator does it, and started again
  kJoin,   // one more server joins by itself
  kPlan,   // servers and workers are added, taken away, replaced; partitions move
  kCount
};
constexpr size_t kFaults = static_cast<size_t>(Fault::kCount);

class FaultSet {
 public:
  void Add(Fault fault) { bits_ |= 1u << static_cast<uint32_t>(fault); }
  bool Has(Fault fault) const { return (bits_ >> static_cast<uint32_t>(fault) & 1u) != 0; }
  // Little but partitions that go away and come back while packets are late and doubled.
  void FocusOnMoves() { focus_on_moves_ = true; }
  bool focus_on_moves() const { return focus_on_moves_; }

 private:
  uint32_t bits_ = 0;
  bool focus_on_moves_ = false;
};

// Names separated by commas: single faults ("loss"), or levels: none, network, workers, servers, all,
// plans; or moves, which is a schedule of its own.
base::Result<FaultSet> ParseFaults(const std::string& text);
std::string FaultName(Fault fault);

// Who starts processes: the master through its launcher, whose children end with it or outlive it to be
// adopted by the next one; or somebody outside who restarts whatever ended.
enum class Supervision : uint8_t { kLauncher, kLauncherAdopts, kOutside };

struct Scenario {
  uint64_t seed = 0;
  uint32_t partitions = 0;
  uint32_t ps = 0;
  uint32_t workers = 0;
  Supervision supervision = Supervision::kLauncher;
  std::vector<SimLog> logs;
  uint32_t batch_size = 0;
  // The operator changes the batch size with every start of the master: what is applied then ends where
  // no batch of today does.
  bool batch_size_changes = false;
  uint32_t pull_ahead = 0;
  base::Duration heartbeat{};
  base::Duration node_timeout{};
  base::Duration linger{};  // of logs that grow
  base::Duration checkpoint_interval{};
  uint64_t checkpoint_group_bytes = 0;
  uint32_t max_differences = 0;
  base::Duration restart_delay{};   // mean
  base::Duration admin_interval{};  // mean time between checkpoints asked for by hand; 0 = none
  // Mean time between backups; 0 = none. The last one is restored onto so many servers when the job has
  // ended, and that cluster too must come to the job's end.
  base::Duration backup_interval{};
  uint32_t restore_ps = 0;

  // Plans are those that send partitions away and back.
  bool focus_on_moves = false;
  // The master makes plans of its own: servers differ in speed, and have little memory.
  bool balances = false;
  master::LoadWatchOptions balance;

  NetworkTimes network;
  WorkTimes work;
  DiskFaults disk;
  // Mean time between two faults of a kind; 0 = none.
  base::Duration fault_interval[kFaults] = {};
  base::Duration pause_time{};  // mean
  base::Duration cut_time{};    // mean
  base::Duration faults_end{};

  // Without faults, for what comes after faults_end.
  NetworkTimes CalmNetwork() const;
  bool Has(Fault fault) const {
    return fault_interval[static_cast<size_t>(fault)] > base::Duration(0);
  }
  // Of the cluster that is restored from a backup.
  Scenario AfterRestore() const;
  // A job over logs that grow has no end: it waits.
  bool Follows() const { return logs.front().spec.follow; }
  std::string ToString() const;
};

Scenario DrawScenario(uint64_t seed, const FaultSet& allowed);

}  // namespace freshet::sim
