// SPDX-License-Identifier: Apache-2.0
// ChaosRun: a long-running cluster of real processes under load, hurt by a plan of faults, audited while
// it runs and at its end. Blocks its thread. Whatever it is told to keep stays in its directory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/chaos/fault_plan.h"
#include "tests/chaos/recovery_table.h"
#include "tests/chaos/small_disk.h"
#include "tests/chaos/trained_cluster.h"
#include "tests/chaos/verdict.h"
#include "transport/system_clock.h"

namespace freshet::chaos {

struct ChaosOptions {
  PlanOptions plan;
  TrainingOptions training;
};

class ChaosRun {
 public:
  explicit ChaosRun(ChaosOptions options);

  Verdict Run();
  // What happened, for people.
  std::string Report() const;

 private:
  struct Moment {
    base::Instant at;
    int64_t unix_ms = 0;
  };
  Moment Now() const;
  int64_t MillisecondsSince(const Moment& moment) const;
  bool StartCluster();
  bool RunPlan();
  bool Inject(const Fault& fault, Moment* since);
  bool Kill(const std::string& name, Moment* since);
  bool KillEverything(Moment* since);
  bool StopAndGoOn(const Fault& fault, Moment* since);
  bool FillDisk(const Fault& fault, Moment* since);
  bool Restart(Moment* since);
  std::optional<base::ProcessId> AwaitProcess(const std::string& name);
  bool Recover(const Fault& fault, const Moment& since, Recovery* recovery);
  bool AllRun(const cli::Json& status) const;
  std::optional<int64_t> ServingEvent(const std::string& node, const Moment& since) const;
  size_t CountInLog(const std::string& node, const std::string& words) const;
  void CheckOthers(const Fault& fault, const cli::Json& before, const cli::Json& after);
  bool Check(const base::Result<>& outcome);
  bool Fail(const std::string& why);
  bool Void(const std::string& why);

  ChaosOptions options_;
  std::vector<Fault> plan_;
  transport::SystemClock clock_;
  std::optional<SmallDisk> disk_;
  std::string disk_word_ = "not planned";
  TrainedCluster cluster_;
  RecoveryTable table_;
  Verdict verdict_ = Verdict::kExact;
  std::string why_;
  std::string hit_;  // whom the last fault hit; empty: several, or nobody in particular
  base::ProcessId hit_pid_ = 0;
  uint64_t flowed_ = 0;  // records learnt between the first and the last fault
  uint32_t disk_noticed_ = 0;
  uint32_t given_up_ = 0;  // supervisors that had given the master up
};

}  // namespace freshet::chaos
