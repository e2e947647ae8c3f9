// SPDX-License-Identifier: Apache-2.0
#include "worker/client/audit_rows.h"

#include <cstring>

namespace freshet::worker {
namespace {

// A counter is two floats wide.
constexpr uint32_t kDim = protocol::kAuditCounters * 2;

}  // namespace

AuditRows::AuditRows(protocol::LogId log, protocol::Span span,
                     const std::vector<protocol::Offset>& dead, uint32_t partitions) {
  const auto rows = protocol::AuditRowsOf(log, span, dead);
  std::vector<protocol::Key> keys;
  gradients_.resize(rows.size() * kDim);
  for (size_t i = 0; i < rows.size(); ++i) {
    keys.push_back(rows[i].key);
    std::memcpy(&gradients_[i * kDim], rows[i].counters.data(), sizeof rows[i].counters);
  }
  routing_.Build(protocol::kAuditTable, keys, partitions);
}

RoutedRows AuditRows::Routed() const { return {&routing_, kDim, nullptr, gradients_.data()}; }

}  // namespace freshet::worker
