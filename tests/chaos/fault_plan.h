// SPDX-License-Identifier: Apache-2.0
// The faults of a chaos run, drawn from a seed before it starts: the same seed plans the same faults.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace freshet::chaos {

enum class FaultKind : uint8_t {
  kKillPs,
  kKillWorker,
  kKillMaster,
  kKillSupervisor,
  kKillAll,
  kStopPs,  // SIGSTOP, later SIGCONT
  kStopWorker,
  kStopMaster,
  kRestart,   // freshet down, freshet up
  kFullDisk,  // of ps-0
};
std::string NameOf(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::kKillPs;
  uint32_t number = 0;              // of the PS or worker
  std::chrono::milliseconds pause;  // before it, with everything in order
  std::chrono::milliseconds hold;   // how long a process is stopped or the disk is full
  bool kills_too = false;           // ps-0 while its disk is full: it has to start without room
  bool overlaps = false;            // the next fault comes without waiting for this one's end
};

struct PlanOptions {
  uint64_t seed = 1;
  uint32_t kills = 20;     // SIGKILLs of anything; the other faults come in proportion
  uint32_t all_kills = 0;  // at the end: everything killed so often in a row
  uint32_t ps = 2;
  uint32_t workers = 2;
  bool disk = false;  // there is a disk that can be filled
};
std::vector<Fault> DrawPlan(const PlanOptions& options);

}  // namespace freshet::chaos
