// SPDX-License-Identifier: Apache-2.0
#include "ps/audit_reply.h"

#include <cstring>

#include "protocol/audit.h"

namespace freshet::ps {

protocol::AuditReply AuditOf(const Slots& slots) {
  protocol::AuditReply reply;
  for (size_t p = 0; p < slots.size(); ++p) {
    const Slot& slot = slots[p];
    if (!slot.serving()) continue;
    auto& audit = reply.partitions.emplace_back();
    audit.partition = protocol::PartitionId(static_cast<uint16_t>(p));
    audit.tenure = slot.tenure;
    audit.applied = slot.partition->applied();
    slot.partition->ForEachRow(
        protocol::kAuditTable, [&audit](protocol::Key key, std::span<const float> weights) {
          uint64_t counters[protocol::kAuditCounters];
          std::memcpy(counters, weights.data(), sizeof counters);
          audit.keys.push_back(key);
          audit.counters.insert(audit.counters.end(), std::begin(counters), std::end(counters));
        });
  }
  return reply;
}

}  // namespace freshet::ps
