// SPDX-License-Identifier: Apache-2.0
// CHECK: for what cannot happen unless this program is wrong. Always on; aborts with file and line.
// Never use it on anything that came from a peer, a file or a user.
#pragma once

namespace freshet::base {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace freshet::base

#define CHECK(condition)                               \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::freshet::base::CheckFailed(__FILE__, __LINE__, #condition))
