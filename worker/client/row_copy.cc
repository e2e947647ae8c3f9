// SPDX-License-Identifier: Apache-2.0
#include "worker/client/row_copy.h"

#include <cstddef>
#include <cstring>

namespace freshet::worker {
namespace {

// Rows lie about at random, in memory that the caches have long forgotten: they are fetched this many
// ahead of their turn.
constexpr size_t kAhead = 16;
constexpr size_t kLineFloats = 16;

enum class Access { kRead, kWrite };

template <Access kAccess>
inline void Fetch(const float* row, size_t dim) {
  constexpr int kWrite = kAccess == Access::kWrite ? 1 : 0;
  // Of a long row the beginning; the processor follows by itself.
  const size_t floats = dim < 8 * kLineFloats ? dim : 8 * kLineFloats;
  for (size_t at = 0; at < floats; at += kLineFloats) __builtin_prefetch(row + at, kWrite, 3);
  __builtin_prefetch(row + floats - 1, kWrite, 3);
}

// kDim 0: any. A copy of a known size is two or three instructions, a call of memcpy costs as much as
// the row itself.
template <uint32_t kDim>
void Gather(const float* rows, std::span<const uint32_t> order, uint32_t any_dim, float* out) {
  const size_t dim = kDim != 0 ? kDim : any_dim;
  for (size_t i = 0; i < order.size(); ++i, out += dim) {
    if (i + kAhead < order.size()) Fetch<Access::kRead>(rows + order[i + kAhead] * dim, dim);
    std::memcpy(out, rows + order[i] * dim, dim * sizeof(float));
  }
}

template <uint32_t kDim>
void Scatter(const float* in, std::span<const uint32_t> order, uint32_t any_dim, float* rows) {
  const size_t dim = kDim != 0 ? kDim : any_dim;
  for (size_t i = 0; i < order.size(); ++i, in += dim) {
    if (i + kAhead < order.size()) Fetch<Access::kWrite>(rows + order[i + kAhead] * dim, dim);
    std::memcpy(rows + order[i] * dim, in, dim * sizeof(float));
  }
}

}  // namespace

void GatherRows(const float* rows, std::span<const uint32_t> order, uint32_t dim, float* out) {
  switch (dim) {
    case 1: return Gather<1>(rows, order, dim, out);
    case 8: return Gather<8>(rows, order, dim, out);
    case 16: return Gather<16>(rows, order, dim, out);
    case 17: return Gather<17>(rows, order, dim, out);
    case 32: return Gather<32>(rows, order, dim, out);
    case 64: return Gather<64>(rows, order, dim, out);
    default: return Gather<0>(rows, order, dim, out);
  }
}

void ScatterRows(const float* in, std::span<const uint32_t> order, uint32_t dim, float* rows) {
  switch (dim) {
    case 1: return Scatter<1>(in, order, dim, rows);
    case 8: return Scatter<8>(in, order, dim, rows);
    case 16: return Scatter<16>(in, order, dim, rows);
    case 17: return Scatter<17>(in, order, dim, rows);
    case 32: return Scatter<32>(in, order, dim, rows);
    case 64: return Scatter<64>(in, order, dim, rows);
    default: return Scatter<0>(in, order, dim, rows);
  }
}

}  // namespace freshet::worker
