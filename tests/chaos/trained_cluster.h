// SPDX-License-Identifier: Apache-2.0
// TrainedCluster: a cluster of real processes that trains on a generated log, read again and again, for
// chaos runs: started with short times, audited. Blocks its thread; what it reports as an error is what
// the run failed of.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "base/result.h"
#include "tests/integration/up_cluster.h"

namespace freshet::chaos {

// Whoever was hit has to be well again within this time, a plan has to end.
inline constexpr std::chrono::seconds kPatience{60};

struct TrainingOptions {
  std::string dir;  // is there and empty
  uint64_t seed = 1;
  uint64_t records = 200'000;
  std::string model = "lr";
  uint32_t batch_size = 256;
  uint32_t checkpoint_interval_ms = 200;
};

class TrainedCluster {
 public:
  explicit TrainedCluster(TrainingOptions options);
  ~TrainedCluster() { up.KillAll(); }

  // Generates the log and runs `freshet up`; `more` are further settings, or others.
  base::Result<> Start(const std::map<std::string, std::string>& more);
  // Ten batches more than the least that was seen.
  base::Result<> AwaitFlow();
  base::Result<> Audit();
  base::Result<> UpAgain();
  base::Result<> Down();
  void Wait(std::chrono::milliseconds time);
  std::string AuditText() const;

  testing::UpCluster up;

 private:
  TrainingOptions options_;
  uint32_t audits_ = 0;
  std::string audit_;
};

}  // namespace freshet::chaos
