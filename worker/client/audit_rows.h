// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "protocol/audit.h"
#include "worker/client/routed_call.h"

namespace freshet::worker {

// The audit rows (I1) of one push, which travel with it like those of any other table.
class AuditRows {
 public:
  // `dead`: the span's dead-lettered offsets, ascending.
  AuditRows(protocol::LogId log, protocol::Span span, const std::vector<protocol::Offset>& dead,
            uint32_t partitions);
  AuditRows(const AuditRows&) = delete;
  AuditRows& operator=(const AuditRows&) = delete;

  // Points into this object.
  RoutedRows Routed() const;

 private:
  KeyRouting routing_;
  std::vector<float> gradients_;
};

}  // namespace freshet::worker
