// SPDX-License-Identifier: Apache-2.0
#include "base/stop_point.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "base/file.h"

namespace freshet::base {

void StopPoint(std::string_view name) {
  static const char* const kFile = std::getenv("STOP_POINT_FILE");
  if (kFile == nullptr) return;
  const auto wanted = ReadFile(kFile, 256);
  if (!wanted || *wanted != name || unlink(kFile) != 0) return;
  std::raise(SIGSTOP);
}

}  // namespace freshet::base
