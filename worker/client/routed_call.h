// SPDX-License-Identifier: Apache-2.0
// RoutedCall: one pull or push on its way to every partition it covers, over as many requests as it
// takes. No IO: the Session sends what Prepare builds and feeds what comes back. Belongs to the loop;
// borrows the caller's memory until the call is over.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/runtime.h"
#include "protocol/buffer_pool.h"
#include "protocol/codec.h"
#include "protocol/messages.h"
#include "worker/client/key_routing.h"

namespace freshet::worker {

// Rows of one table: values of a pull go to `out` [keys][dim], gradients of a push come from
// `gradients` [keys][dim], both in the order of the keys the routing was built from.
struct RoutedRows {
  const KeyRouting* routing = nullptr;
  uint32_t dim = 0;
  float* out = nullptr;
  const float* gradients = nullptr;
};

enum class PushResult : uint8_t {
  kApplied,         // by every partition, by some of them perhaps earlier
  kAlreadyApplied,  // by every partition before: another worker was faster
  kConflict         // some partition has a part of the span; the lease must be given back
};

class RoutedCall {
 public:
  // A pull covers the partitions of its keys; a push covers all (rule G4).
  static RoutedCall Pull(std::vector<RoutedRows> rows, uint32_t partitions);
  static RoutedCall Push(protocol::LogId log, protocol::Span span, std::vector<RoutedRows> rows,
                         uint32_t partitions);

  bool is_push() const { return push_.has_value(); }
  // Partitions that have not been asked, or have to be asked again.
  const std::vector<uint16_t>& Waiting() const { return waiting_; }
  bool finished() const { return waiting_.empty() && in_flight_ == 0; }
  bool conflict() const { return conflict_; }
  PushResult push_result() const;

  struct Request {
    std::vector<uint16_t> cover;
    std::vector<protocol::Buffer> arrays;
    std::vector<protocol::TableRows> tables;
  };
  // Takes `cover` (ascending, all waiting) out of the waiting ones.
  Request Prepare(std::vector<uint16_t> cover, protocol::BufferPool& pool);
  protocol::PullRequest PullBody(const Request& request) const;
  protocol::PushRequest PushBody(const Request& request) const;

  struct Verdict {
    bool wrong_owner = false;  // the view must be refreshed
    bool progress = false;
  };
  // What came back for `cover`; an error puts all of it back. A reply that does not fit is an error.
  Verdict OnReply(const std::vector<uint16_t>& cover, const base::Result<protocol::Packet>& reply);

  uint32_t attempts_without_progress = 0;
  base::Instant deadline;

 private:
  struct PushTarget {
    protocol::LogId log;
    protocol::Span span;
  };
  base::Result<std::vector<uint8_t>> ReadStatuses(const std::vector<uint16_t>& cover,
                                                  const protocol::Packet& packet);
  base::Result<> CheckValues(const std::vector<uint16_t>& cover, const protocol::Packet& packet);
  void CopyRows(const std::vector<uint16_t>& cover, const protocol::Packet& packet);
  void PutBack(std::vector<uint16_t> partitions);

  std::vector<RoutedRows> rows_;
  std::optional<PushTarget> push_;
  std::vector<uint16_t> waiting_;
  uint32_t in_flight_ = 0;  // partitions
  bool conflict_ = false;
  bool any_applied_ = false;
};

}  // namespace freshet::worker
