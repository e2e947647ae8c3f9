// SPDX-License-Identifier: Apache-2.0
#include "ps/copy_pace.h"

#include <algorithm>

namespace freshet::ps {

using base::Duration;
using std::chrono::milliseconds;

namespace {

// More make the wire no faster.
constexpr uint32_t kMaxSlices = 4;
constexpr uint32_t kMaxSlicesGivingWay = 1;
// A source whose workers said nothing for so long has none to give way to.
constexpr milliseconds kQuiet{100};
// One slice that met a stopped process is no reason to wait for long.
constexpr milliseconds kMaxWait{200};

}  // namespace

void CopyPace::OnSlice(base::Instant now, const Slice& slice) {
  gives_way_ = options_.share_percent < 100 && slice.quiet < kQuiet;
  Duration wait{0};
  if (options_.bytes_per_second > 0) {
    wait = Duration(slice.bytes * 1'000'000 / options_.bytes_per_second);
  }
  if (gives_way_) {
    const uint32_t share = std::max(1u, options_.share_percent);
    wait = std::max(wait, std::min<Duration>(slice.took * (100 - share) / share, kMaxWait));
  }
  next_ = std::max(next_, now) + wait;
}

Duration CopyPace::Wait(base::Instant now) const { return std::max(Duration(0), next_ - now); }

uint32_t CopyPace::MaxSlices() const { return gives_way_ ? kMaxSlicesGivingWay : kMaxSlices; }

}  // namespace freshet::ps
