// SPDX-License-Identifier: Apache-2.0
#include "tests/chaos/recovery_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace freshet::chaos {
namespace {

std::string Quantiles(std::vector<int64_t> values) {
  if (values.empty()) return fmt::format("{:>6} {:>6} {:>6}", "-", "-", "-");
  std::sort(values.begin(), values.end());
  const auto at = [&values](size_t percent) {
    return values[(values.size() * percent + 99) / 100 - 1];  // the nearest rank
  };
  return fmt::format("{:>6} {:>6} {:>6}", at(50), at(99), values.back());
}

}  // namespace

void RecoveryTable::Add(FaultKind kind, const Recovery& recovery) {
  Row& row = rows_[kind];
  ++row.done;
  if (recovery.serving_ms) row.serving_ms.push_back(*recovery.serving_ms);
  if (recovery.flowing_ms) row.flowing_ms.push_back(*recovery.flowing_ms);
}

bool RecoveryTable::complete() const {
  return std::all_of(rows_.begin(), rows_.end(),
                     [](const auto& entry) { return entry.second.done == entry.second.planned; });
}

std::string RecoveryTable::Text() const {
  std::string text = fmt::format("{:<16} {:>7} {:>5} {:>6}  {:^20}  {:^20}\n", "fault", "planned",
                                 "done", "alone", "serving again, ms", "records flow, ms");
  text += fmt::format("{:<16} {:>7} {:>5} {:>6}  {:>6} {:>6} {:>6}  {:>6} {:>6} {:>6}\n", "", "",
                      "", "", "p50", "p99", "max", "p50", "p99", "max");
  for (const auto& [kind, row] : rows_) {
    text +=
        fmt::format("{:<16} {:>7} {:>5} {:>6}  {}  {}\n", NameOf(kind), row.planned, row.done,
                    row.flowing_ms.size(), Quantiles(row.serving_ms), Quantiles(row.flowing_ms));
  }
  return text;
}

}  // namespace freshet::chaos
