// SPDX-License-Identifier: Apache-2.0
#include "transport/malloc_tuning.h"

// Any header of the C library says whether it is glibc; without one nothing below would be compiled.
#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace freshet::transport {

void TuneMallocForFrames() {
#ifdef __GLIBC__
  // 32 MiB is the most that glibc accepts. Setting it also switches off its own adapting of both.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

}  // namespace freshet::transport
