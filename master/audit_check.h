// SPDX-License-Identifier: Apache-2.0
// The audit of invariant I1: compares the audit rows of every partition with its own applied sets.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "protocol/view.h"

namespace freshet::master {

struct AuditResult {
  uint64_t expected = 0;  // records that the applied sets say are in the audit rows
  uint64_t actual = 0;    // records that the rows hold
  uint64_t dead_lettered = 0;
  bool ok = false;
  std::string missing;  // a partition that its owner did not report, for people; then ok is false
  std::vector<std::string> problems;  // at most a few, for people
};

// Every partition of the view must be there, under its current tenure. `logs` are those whose records
// were pushed.
AuditResult CheckAudit(const protocol::View& view, const std::vector<protocol::LogId>& logs,
                       const std::vector<protocol::PartitionAudit>& audits);

}  // namespace freshet::master
