// SPDX-License-Identifier: Apache-2.0
// PlanStorm: a long-running cluster of real processes under load that is asked for one change of its shape
// after another, drawn from a seed, while its processes are killed. Every plan must end in a final state,
// and every audit must be exact. Blocks its thread; nothing is left running when it goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/chaos/trained_cluster.h"
#include "tests/chaos/verdict.h"

namespace freshet::chaos {

struct StormOptions {
  TrainingOptions training;  // its seed is of the plans too
  uint32_t plans = 100;
  uint32_t max_ps = 5;
  uint32_t max_workers = 3;
};

class PlanStorm {
 public:
  explicit PlanStorm(StormOptions options);

  Verdict Run();
  // What happened, for people.
  std::string Report() const;

 private:
  struct Plan {
    std::string kind;
    std::string words;
    std::string state;
  };

  bool RunPlans();
  bool AskForOne(uint64_t* id);
  std::vector<std::string> DrawRequest(const cli::Json& status);
  bool KillSome();
  void Look(const cli::Json& status);
  bool AwaitEnd(uint64_t id);
  bool AllEnded() const;
  bool AwaitLastShape();
  std::chrono::milliseconds Between(uint64_t least_ms, uint64_t most_ms);
  bool Check(const base::Result<>& outcome);
  bool Fail(const std::string& why);

  StormOptions options_;
  base::Random random_;
  TrainedCluster cluster_;
  std::map<uint64_t, Plan> plans_;
  std::map<std::string, uint32_t> kills_;
  std::map<std::string, uint32_t> refusals_;  // by exit code and word
  uint32_t kills_under_way_ = 0;              // while a plan had not ended
  uint64_t partitions_moved_ = 0;
  Verdict verdict_ = Verdict::kExact;
  std::string why_;
};

}  // namespace freshet::chaos
