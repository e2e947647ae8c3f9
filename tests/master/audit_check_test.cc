// SPDX-License-Identifier: Apache-2.0
#include "master/audit_check.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "protocol/audit.h"
#include "protocol/table_schema.h"

namespace freshet::master {
namespace {

using protocol::Key;
using protocol::LogId;
using protocol::PartitionAudit;
using protocol::PartitionId;
using protocol::Span;
using protocol::Tenure;

constexpr LogId kLog{2};
constexpr uint32_t kPartitions = 4;

class AuditCheckTest : public ::testing::Test {
 protected:
  AuditCheckTest() {
    view_.nodes = {{"ps-0", protocol::Incarnation(1), "tcp://h:1"}};
    for (uint32_t p = 0; p < kPartitions; ++p) {
      view_.places.push_back({0, Tenure(5), {}, protocol::kNoNode});
      auto& audit = audits_.emplace_back();
      audit.partition = PartitionId(static_cast<uint16_t>(p));
      audit.tenure = Tenure(5);
    }
  }

  // As a push to every partition does it.
  void Push(Span span, const std::vector<protocol::Offset>& dead = {}) {
    for (const auto& row : protocol::AuditRowsOf(kLog, span, dead)) {
      auto& audit =
          audits_[protocol::PartitionOf(protocol::kAuditTable, row.key, kPartitions).value()];
      auto at = std::find(audit.keys.begin(), audit.keys.end(), row.key) - audit.keys.begin();
      if (at == static_cast<ptrdiff_t>(audit.keys.size())) {
        audit.keys.push_back(row.key);
        audit.counters.resize(audit.counters.size() + protocol::kAuditCounters);
      }
      for (uint32_t c = 0; c < protocol::kAuditCounters; ++c) {
        audit.counters[static_cast<size_t>(at) * protocol::kAuditCounters + c] += row.counters[c];
      }
    }
    for (auto& audit : audits_) audit.applied.Mutable(kLog).Add(span);
  }
  AuditResult Check() { return CheckAudit(view_, {kLog}, audits_); }
  // Some partition that holds audit rows.
  PartitionAudit& WithRows() {
    return *std::find_if(audits_.begin(), audits_.end(),
                         [](const PartitionAudit& audit) { return !audit.keys.empty(); });
  }

  protocol::View view_;
  std::vector<PartitionAudit> audits_;
};

TEST_F(AuditCheckTest, AnEmptyClusterIsInOrder) {
  const auto result = Check();
  EXPECT_TRUE(result.ok);
  EXPECT_EQ(result.expected, 0u);
  EXPECT_EQ(result.actual, 0u);
}

TEST_F(AuditCheckTest, RowsThatAgreeWithTheirAppliedSetsAreInOrder) {
  Push({0, 1000}, {3, 500});
  Push({5000, 5100}, {5001});
  const auto result = Check();
  EXPECT_TRUE(result.ok) << (result.problems.empty() ? result.missing : result.problems.front());
  EXPECT_EQ(result.expected, 1100u);
  EXPECT_EQ(result.actual, 1100u);
  EXPECT_EQ(result.dead_lettered, 3u);
}

TEST_F(AuditCheckTest, ARecordTooMuchOrTooFewIsFound) {
  Push({0, 1000});
  WithRows().counters[0] += 1;
  EXPECT_FALSE(Check().ok);
  EXPECT_EQ(Check().actual, Check().expected + 1);
  WithRows().counters[0] -= 2;
  EXPECT_FALSE(Check().ok);
}

TEST_F(AuditCheckTest, OneLostAndAnotherDoubledDoNotCancel) {
  Push({0, 1000});
  WithRows().counters[1] += 1;  // the count is right, the sum of the offsets is not
  const auto result = Check();
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.actual, result.expected);
  ASSERT_EQ(result.problems.size(), 1u);
}

TEST_F(AuditCheckTest, ALostRowIsFound) {
  Push({0, 1000});
  auto& audit = WithRows();
  audit.keys.pop_back();
  audit.counters.resize(audit.counters.size() - protocol::kAuditCounters);
  EXPECT_FALSE(Check().ok);
}

TEST_F(AuditCheckTest, RowsOfAnotherPartitionAreFound) {
  Push({0, 1000});
  std::swap(audits_[0].keys, audits_[1].keys);
  std::swap(audits_[0].counters, audits_[1].counters);
  EXPECT_FALSE(Check().ok);
}

TEST_F(AuditCheckTest, APartitionThatNobodyReportedIsMissingNotWrong) {
  Push({0, 1000});
  audits_.erase(audits_.begin() + 2);
  const auto result = Check();
  EXPECT_FALSE(result.ok);
  EXPECT_NE(result.missing.find("partition 2"), std::string::npos);
  EXPECT_TRUE(result.problems.empty());
}

TEST_F(AuditCheckTest, AReportUnderAnotherTenureDoesNotCount) {
  Push({0, 1000});
  auto old = audits_[1];
  old.tenure = Tenure(4);
  old.counters.assign(old.counters.size(), 77);
  audits_.push_back(old);
  EXPECT_TRUE(Check().ok);
  audits_[1].tenure = Tenure(4);
  EXPECT_FALSE(Check().missing.empty());
}

TEST_F(AuditCheckTest, WhatCannotBeReadIsAProblem) {
  Push({0, 1000});
  WithRows().counters.pop_back();
  EXPECT_FALSE(Check().ok);
  EXPECT_FALSE(Check().problems.empty());
}

}  // namespace
}  // namespace freshet::master
