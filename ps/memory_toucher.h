// SPDX-License-Identifier: Apache-2.0
// MemoryToucher: has fresh memory put behind the arena before rows need it. The system clears a huge page
// at its first touch, and a virtual machine may have to get it from its host: milliseconds in which a
// touching loop serves nobody. Belongs to the PS loop; the touching is done by an executor of its own.
#pragma once

#include "base/runtime.h"
#include "ps/row_arena.h"

namespace freshet::ps {

class MemoryToucher {
 public:
  // `executor`: may be null, then nothing is touched ahead. Its `done` must not run after this object.
  MemoryToucher(RowArena& arena, base::Executor* executor);
  ~MemoryToucher() { arena_.on_growth = nullptr; }
  MemoryToucher(const MemoryToucher&) = delete;
  MemoryToucher& operator=(const MemoryToucher&) = delete;

 private:
  void TouchNext();

  RowArena& arena_;
  base::Executor* executor_;
  bool touching_ = false;
};

}  // namespace freshet::ps
