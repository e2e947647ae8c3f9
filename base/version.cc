// SPDX-License-Identifier: Apache-2.0
#include "base/version.h"

namespace freshet::base {

std::string_view Version() { return FRESHET_VERSION; }

}  // namespace freshet::base
