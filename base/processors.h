// SPDX-License-Identifier: Apache-2.0
// The processors that this process may run on.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"

namespace freshet::base {

// In ascending order; at least one.
std::vector<int> AllowedProcessors();

// "0,2,3". kInvalidArgument: that is no such list.
Result<std::vector<int>> ParseProcessors(std::string_view list);

// From now on, and for the threads that are started later. kInvalidArgument: some are not there.
Result<> LimitToProcessors(const std::vector<int>& processors);

}  // namespace freshet::base
