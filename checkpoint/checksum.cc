// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checksum.h"

// Inlined, it uses the widest vectors this file is compiled for; the value is the same for all
// widths.
#define XXH_INLINE_ALL
#ifdef __AVX512F__
#define XXH_VECTOR \
  2  // AVX2: memory is the limit either way, and g++ 12 warns in its AVX-512 header
#endif
#include <xxhash.h>

namespace freshet::checkpoint {

uint64_t Checksum(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace freshet::checkpoint
