// SPDX-License-Identifier: Apache-2.0
// The checksum of everything this folder stores: XXH3, 64 bits. The value is part of the format on
// disk.
#pragma once

#include <cstdint>
#include <string_view>

namespace freshet::checkpoint {

uint64_t Checksum(std::string_view bytes);

}  // namespace freshet::checkpoint
