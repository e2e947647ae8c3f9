// SPDX-License-Identifier: Apache-2.0
// RecoveryTable: what the faults of a chaos run cost, by kind; printed at its end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/chaos/fault_plan.h"

namespace freshet::chaos {

// From the SIGKILL (SIGCONT, space on the disk) on. Only of faults that came alone.
struct Recovery {
  std::optional<int64_t> serving_ms;  // until whoever was hit does its work again
  std::optional<int64_t> flowing_ms;  // until new records were learnt after that
};

class RecoveryTable {
 public:
  void Plan(FaultKind kind) { ++rows_[kind].planned; }
  void Add(FaultKind kind, const Recovery& recovery);
  bool complete() const;
  std::string Text() const;

 private:
  struct Row {
    uint32_t planned = 0;
    uint32_t done = 0;
    std::vector<int64_t> serving_ms;
    std::vector<int64_t> flowing_ms;
  };
  std::map<FaultKind, Row> rows_;
};

}  // namespace freshet::chaos
