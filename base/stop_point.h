// SPDX-License-Identifier: Apache-2.0
// Stop points: moments of a protocol at which a test holds a real process, to kill it or others there.
// Without STOP_POINT_FILE in the environment they do nothing.
#pragma once

#include <string_view>

namespace freshet::base {

// If the file that STOP_POINT_FILE names holds `name`, removes the file and stops this process as
// SIGSTOP does, until somebody continues or ends it. So of many processes one stops, once.
void StopPoint(std::string_view name);

}  // namespace freshet::base
