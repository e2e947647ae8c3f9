// SPDX-License-Identifier: Apache-2.0
// LeaseBook: which spans are leased to whom. The only thing the scheduler does is lease the gaps: the
// oldest span that is neither done nor under a lease (G16). Pure; belongs to the master's loop.
#pragma once

#include <optional>
#include <vector>

#include "base/runtime.h"
#include "protocol/messages.h"
#include "protocol/span.h"

namespace freshet::master {

class LeaseBook {
 public:
  // Lease ids are (boot, counter), so that they are not reused after a restart of the master.
  LeaseBook(uint32_t partitions, uint64_t boot) : partitions_(partitions), next_(boot << 32) {}

  struct Holder {
    protocol::Incarnation worker;
    uint64_t sequence = 0;
    bool operator==(const Holder&) const = default;
  };
  // The lease that was granted to this very request before.
  const protocol::Lease* Find(const Holder& holder) const;

  struct Gap {
    protocol::LogId log;
    protocol::Offset end = 0;  // of the log: what is synced
    const protocol::SpanSet* done = nullptr;
    uint64_t max_records = 0;
  };
  // The oldest gap, without cuts; nothing if there is none.
  std::optional<protocol::Span> FindGap(const Gap& gap) const;
  protocol::Lease Grant(const Holder& holder, protocol::LogId log, protocol::Span span,
                        std::vector<protocol::Offset> cuts);
  // A lease granted before this master started, as its holder says; false if it overlaps another one.
  bool Adopt(const Holder& holder, const protocol::Lease& lease);

  // After a lease ended, for whatever reason, its span stays held until every partition was reported
  // twice more, and until `hold_until`: its last pushes may still be on their way (G16).
  void EndAllOf(protocol::Incarnation worker, base::Instant hold_until);
  void OnReport(protocol::PartitionId partition);
  void ReleaseSettled(base::Instant now);
  // What was leased of a log that needs no reports (evaluation) is held by time only.
  void ReleaseWithoutReports(protocol::LogId log);

  size_t active() const;
  bool Holds(protocol::Incarnation worker) const;

 private:
  struct Entry {
    protocol::Lease lease;
    Holder holder;
    bool ended = false;
    base::Instant hold_until;
    std::vector<uint8_t> reports_needed;  // per partition, once ended
    uint32_t partitions_needed = 0;
  };
  uint32_t partitions_;
  uint64_t next_;
  std::vector<Entry> entries_;
};

}  // namespace freshet::master
