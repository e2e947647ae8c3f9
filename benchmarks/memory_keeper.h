// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace freshet::benchmarks {

enum class GiveBack { kAtOnce, kBitByBit };

// Memory that the system has already got: a child takes it, and gives it back when something begins that is
// measured. A virtual machine whose host takes back what is free has none at hand otherwise, and each first
// touch waits for it. Ends the process where the system refuses a pipe, a child or the memory.
class MemoryKeeper {
 public:
  // Returns when the child has touched `bytes`; 0 = no child.
  explicit MemoryKeeper(uint64_t bytes);
  ~MemoryKeeper();
  MemoryKeeper(const MemoryKeeper&) = delete;
  MemoryKeeper& operator=(const MemoryKeeper&) = delete;

  // Bit by bit it is at hand for as long as what is measured takes, as the host takes it back within seconds.
  void Release(GiveBack how);

 private:
  void End();

  pid_t pid_ = 0;
  int begin_ = -1;
};

}  // namespace freshet::benchmarks
