// SPDX-License-Identifier: Apache-2.0
#include "base/processors.h"

#include <fmt/format.h>
#include <sched.h>

#include <charconv>

namespace freshet::base {

std::vector<int> AllowedProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> allowed;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) allowed.push_back(cpu);
    }
  }
  if (allowed.empty()) allowed.push_back(0);
  return allowed;
}

Result<std::vector<int>> ParseProcessors(std::string_view list) {
  std::vector<int> processors;
  const char* at = list.data();
  const char* end = at + list.size();
  while (true) {
    int cpu = -1;
    const auto read = std::from_chars(at, end, cpu);
    const bool more = read.ptr != end;
    if (read.ec != std::errc() || cpu < 0 || cpu >= CPU_SETSIZE || (more && *read.ptr != ',')) {
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("'{}' is no list of processors such as 0,2", list));
    }
    processors.push_back(cpu);
    if (!more) return processors;
    at = read.ptr + 1;
  }
}

Result<> LimitToProcessors(const std::vector<int>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : processors) CPU_SET(static_cast<size_t>(cpu), &set);
  if (::sched_setaffinity(0, sizeof set, &set) == 0) return {};
  return Fail(ErrorCode::kInvalidArgument, "this machine does not have these processors");
}

}  // namespace freshet::base
