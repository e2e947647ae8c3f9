// SPDX-License-Identifier: Apache-2.0
#include "transport/processor_time.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "base/file.h"

namespace freshet::transport {
namespace {

constexpr size_t kMaxBytes = 256;

base::Duration FromNanoseconds(unsigned long long ns) {
  return std::chrono::duration_cast<base::Duration>(std::chrono::nanoseconds(ns));
}

bool CarriesMessages(const std::filesystem::path& thread) {
  if (thread.filename() == std::to_string(getpid())) return true;
  const auto name = base::ReadFile((thread / "comm").string(), kMaxBytes);
  return name && name->starts_with("ZMQbg/IO");
}

}  // namespace

ThreadTimes MessageThreadTimes() {
  ThreadTimes times;
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", error)) {
    if (!CarriesMessages(thread.path())) continue;
    const auto text = base::ReadFile((thread.path() / "schedstat").string(), kMaxBytes);
    unsigned long long ran = 0;
    unsigned long long waited = 0;
    if (!text || std::sscanf(text->c_str(), "%llu %llu", &ran, &waited) != 2) continue;
    times.ran += FromNanoseconds(ran);
    times.waited += FromNanoseconds(waited);
  }
  return times;
}

}  // namespace freshet::transport
