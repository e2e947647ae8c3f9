// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace freshet::base {

// "0.1.0"; declared in the CMakeLists.txt at the root.
std::string_view Version();

}  // namespace freshet::base
