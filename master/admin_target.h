// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace freshet::master {

struct AdminTarget {
  std::string path;
  std::map<std::string, std::string> query;
};

// Parses the target of an HTTP request, "/v1/events?since=7": kInvalidArgument if it is none.
base::Result<AdminTarget> ParseAdminTarget(std::string_view target);

}  // namespace freshet::master
