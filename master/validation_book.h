// SPDX-License-Identifier: Apache-2.0
// ValidationBook: adds up the workers' predictions, each span once, whatever is replayed: progressive
// validation over the whole run and over a recent window. Pure; belongs to the master's loop.
#pragma once

#include <map>

#include "protocol/messages.h"
#include "protocol/validation.h"

namespace freshet::master {

class ValidationBook {
 public:
  // `window_records`: how many of the newest records the windowed figures are about (at least half).
  explicit ValidationBook(uint64_t window_records) : half_window_(window_records / 2 + 1) {}

  // A chunk whose spans were counted (even in part, after a crash) is dropped whole.
  void Add(const protocol::ValidationChunk& chunk);

  const protocol::SpanSet& Counted(protocol::LogId log) const;
  uint64_t records() const { return total_.records(); }
  uint64_t dropped_records() const { return dropped_records_; }
  double Auc() const { return total_.Auc(); }
  double LogLoss() const { return total_.LogLoss(); }
  double WindowAuc() const;
  double WindowLogLoss() const;

 private:
  protocol::ValidationHistogram Window() const;

  uint64_t half_window_;
  protocol::AppliedSets counted_;
  protocol::ValidationHistogram total_;
  protocol::ValidationHistogram older_;
  protocol::ValidationHistogram newer_;
  uint64_t dropped_records_ = 0;
};

}  // namespace freshet::master
