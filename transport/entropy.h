// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace freshet::transport {

// 64 bits of real chance, for the seed of a base::Random: drawn once per loop.
uint64_t DrawSeed();

}  // namespace freshet::transport
