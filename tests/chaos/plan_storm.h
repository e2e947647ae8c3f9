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
#include "tests/chaos/verdict.h"
#include "tests/integration/up_cluster.h"

namespace freshet::chaos {

struct StormOptions {
  uint64_t seed = 1;
  uint32_t plans = 100;
  uint32_t max_ps = 5;
  uint32_t max_workers = 3;
  std::string dir;  // is there and empty
  uint64_t records = 200'000;
  std::string model = "lr";
  uint32_t batch_size = 256;
  uint32_t checkpoint_interval_ms = 200;
};

class PlanStorm {
 public:
  explicit PlanStorm(StormOptions options);
  ~PlanStorm();

  Verdict Run();
  // What happened, for people.
  std::string Report() const;

 private:
  struct Plan {
    std::string kind;
    std::string words;
    std::string state;
  };

  bool StartCluster();
  bool RunPlans();
  bool AskForOne(uint64_t* id);
  std::vector<std::string> DrawRequest(const cli::Json& status);
  bool KillSome();
  void Look(const cli::Json& status);
  bool AwaitEnd(uint64_t id);
  bool AllEnded() const;
  bool AwaitFlow();
  bool Audit();
  bool AwaitLastShape();
  void Wait(std::chrono::milliseconds time);
  std::chrono::milliseconds Between(uint64_t least_ms, uint64_t most_ms);
  bool Fail(const std::string& why);

  StormOptions options_;
  base::Random random_;
  testing::UpCluster cluster_;
  std::map<uint64_t, Plan> plans_;
  std::map<std::string, uint32_t> kills_;
  std::map<std::string, uint32_t> refusals_;  // by exit code and word
  uint32_t kills_under_way_ = 0;              // while a plan had not ended
  uint32_t audits_ = 0;
  uint64_t partitions_moved_ = 0;
  std::string audit_;
  Verdict verdict_ = Verdict::kExact;
  std::string why_;
};

}  // namespace freshet::chaos
