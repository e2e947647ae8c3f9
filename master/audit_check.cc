// SPDX-License-Identifier: Apache-2.0
#include "master/audit_check.h"

#include <fmt/format.h>

#include "protocol/audit.h"
#include "protocol/table_schema.h"

namespace freshet::master {
namespace {

using protocol::Key;
using protocol::LogId;
using protocol::PartitionAudit;

constexpr size_t kMaxProblems = 8;

class Checker {
 public:
  Checker(const protocol::View& view, const std::vector<LogId>& logs) : view_(view) {
    for (const LogId log : logs) {
      for (uint32_t row = 0; row < protocol::kAuditRows; ++row) {
        const Key key = protocol::AuditKey(log, uint64_t{row} * protocol::kAuditRun);
        const auto home =
            protocol::PartitionOf(protocol::kAuditTable, key, view.partitions()).value();
        keys_[home].emplace_back(log, key);
      }
    }
  }

  void Check(const PartitionAudit& audit) {
    const uint16_t p = audit.partition.value();
    if (audit.counters.size() != audit.keys.size() * protocol::kAuditCounters) {
      return Problem(fmt::format("partition {}: its audit cannot be read", p));
    }
    std::map<Key, const uint64_t*> found;
    for (size_t i = 0; i < audit.keys.size(); ++i) {
      found[audit.keys[i]] = &audit.counters[i * protocol::kAuditCounters];
    }
    for (const auto& [log, key] : keys_[p]) {
      static constexpr uint64_t kNothing[protocol::kAuditCounters] = {};
      const auto it = found.find(key);
      const uint64_t* counters = it == found.end() ? kNothing : it->second;
      const auto expected = protocol::ExpectAuditRow(key, audit.applied.Of(log));
      result_.expected += expected.records;
      result_.actual += counters[0];
      result_.dead_lettered += counters[2];
      if (counters[0] != expected.records || counters[1] != expected.offset_sum) {
        Problem(fmt::format("partition {} row {:#x}: {} records (offset sum {}), expected {} ({})",
                            p, key, counters[0], counters[1], expected.records,
                            expected.offset_sum));
      }
      if (it != found.end()) found.erase(it);
    }
    if (!found.empty()) {
      Problem(fmt::format("partition {} has {} audit rows that are not its own", p, found.size()));
    }
  }

  void Missing(uint32_t partition) {
    result_.missing = fmt::format("partition {} was not reported by its owner", partition);
  }

  void Problem(std::string text) {
    failed_ = true;
    if (result_.problems.size() < kMaxProblems) result_.problems.push_back(std::move(text));
  }

  AuditResult Finish() {
    result_.ok = !failed_ && result_.missing.empty();
    return std::move(result_);
  }

 private:
  const protocol::View& view_;
  std::map<uint16_t, std::vector<std::pair<LogId, Key>>> keys_;
  AuditResult result_;
  bool failed_ = false;
};

}  // namespace

AuditResult CheckAudit(const protocol::View& view, const std::vector<LogId>& logs,
                       const std::vector<PartitionAudit>& audits) {
  Checker checker(view, logs);
  std::map<uint16_t, const PartitionAudit*> by_partition;
  for (const PartitionAudit& audit : audits) {
    const uint16_t p = audit.partition.value();
    // A partition that moved while the audit ran was reported by its old owner: not of interest.
    if (p < view.partitions() && audit.tenure == view.places[p].tenure) by_partition[p] = &audit;
  }
  for (uint32_t p = 0; p < view.partitions(); ++p) {
    const auto it = by_partition.find(static_cast<uint16_t>(p));
    if (it == by_partition.end()) {
      checker.Missing(p);
    } else {
      checker.Check(*it->second);
    }
  }
  return checker.Finish();
}

}  // namespace freshet::master
