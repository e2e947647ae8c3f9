// SPDX-License-Identifier: Apache-2.0
// CopyPace: when the target of migrations may ask for its next slice. Copying gives way to workers: while
// they are served by the source, a slice is followed by a wait that is a multiple of the time it took, so
// the longer loops, wires and processors make it wait, the less of them it takes (the idea of RFC 6817,
// LEDBAT). No IO; belongs to the PS loop.
#pragma once

#include <cstdint>

#include "base/runtime.h"

namespace freshet::ps {

struct CopyPaceOptions {
  uint64_t bytes_per_second = 0;  // 0 = no such bound
  // Of the time, while workers are served; 100 = as fast as it goes.
  uint32_t share_percent = 10;
};

class CopyPace {
 public:
  explicit CopyPace(CopyPaceOptions options) : options_(options) {}

  struct Slice {
    base::Duration took{0};   // from the request to the answer
    base::Duration quiet{0};  // since the source served a worker
    uint64_t bytes = 0;
  };
  void OnSlice(base::Instant now, const Slice& slice);

  // How long the next slice has to wait.
  base::Duration Wait(base::Instant now) const;
  // Slices on their way at once, of all partitions together.
  uint32_t MaxSlices() const;
  bool gives_way() const { return gives_way_; }

 private:
  CopyPaceOptions options_;
  bool gives_way_ = false;
  base::Instant next_;
};

}  // namespace freshet::ps
