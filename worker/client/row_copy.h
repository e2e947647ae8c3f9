// SPDX-License-Identifier: Apache-2.0
// Rows on their way between the order of the caller's keys and the order of a request. Pure functions.
#pragma once

#include <cstdint>
#include <span>

namespace freshet::worker {

// out[i] = rows[order[i]], rows of `dim` floats.
void GatherRows(const float* rows, std::span<const uint32_t> order, uint32_t dim, float* out);

// rows[order[i]] = in[i].
void ScatterRows(const float* in, std::span<const uint32_t> order, uint32_t dim, float* rows);

}  // namespace freshet::worker
