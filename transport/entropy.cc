// SPDX-License-Identifier: Apache-2.0
#include "transport/entropy.h"

#include <sys/random.h>

#include "base/check.h"

namespace freshet::transport {

uint64_t DrawSeed() {
  uint64_t seed = 0;
  CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed);
  return seed;
}

}  // namespace freshet::transport
