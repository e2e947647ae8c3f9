// SPDX-License-Identifier: Apache-2.0
// Real data for local tests, which the project does not ship: below FRESHET_DATA_DIR, else ../shared/data
// beside the source tree. Where it is absent its tests are skipped, and say so. Needs FRESHET_SOURCE_DIR.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace freshet::base {

inline std::filesystem::path DataFile(const std::string& name) {
  const char* set = std::getenv("FRESHET_DATA_DIR");
  const auto beside = std::filesystem::path(FRESHET_SOURCE_DIR) / ".." / "shared" / "data";
  return (set != nullptr ? std::filesystem::path(set) : beside) / name;
}

inline std::string NoData(const std::string& name) {
  return "NO DATA: " + DataFile(name).string() + " is absent; set FRESHET_DATA_DIR";
}

}  // namespace freshet::base
