// SPDX-License-Identifier: Apache-2.0
#include "ps/memory_toucher.h"

#include <algorithm>

namespace freshet::ps {
namespace {

// A server with few rows stays small.
constexpr uint64_t kAheadShare = 4;
constexpr uint64_t kMaxAheadBytes = uint64_t{64} << 20;
constexpr size_t kStepBytes = size_t{2} << 20;

}  // namespace

MemoryToucher::MemoryToucher(RowArena& arena, base::Executor* executor)
    : arena_(arena), executor_(executor) {
  if (executor_ == nullptr) return;
  arena_.on_growth = [this] {
    if (!touching_) TouchNext();
  };
}

void MemoryToucher::TouchNext() {
  const uint64_t ahead = std::min(arena_.used_bytes() / kAheadShare, kMaxAheadBytes);
  const RowArena::Stretch stretch = arena_.NextToTouch(kStepBytes, ahead);
  touching_ = stretch.bytes > 0;
  if (!touching_) return;
  executor_->Run([stretch] { RowArena::Touch(stretch); }, [this] { TouchNext(); });
}

}  // namespace freshet::ps
