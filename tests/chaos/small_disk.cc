// SPDX-License-Identifier: Apache-2.0
#include "tests/chaos/small_disk.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace freshet::chaos {

base::Result<SmallDisk> SmallDisk::Mount(const std::string& path, uint64_t bytes) {
  const std::string size = "size=" + std::to_string(bytes);
  if (::mount("tmpfs", path.c_str(), "tmpfs", 0, size.c_str()) != 0) {
    return base::Fail(base::ErrorCode::kUnavailable,
                      "no tmpfs can be mounted at " + path + ": " + std::strerror(errno));
  }
  return SmallDisk(path);
}

SmallDisk::~SmallDisk() {
  if (!path_.empty()) ::umount2(path_.c_str(), MNT_DETACH);
}

base::Result<> SmallDisk::Fill() {
  const int fd = ::open(FillerPath().c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) {
    return base::Fail(base::ErrorCode::kIo, FillerPath() + ": " + std::strerror(errno));
  }
  const std::string chunk(1 << 20, 'x');
  // Smaller and smaller pieces, until not even a byte fits.
  for (size_t bytes = chunk.size(); bytes > 0;) {
    if (::write(fd, chunk.data(), bytes) <= 0) bytes /= 2;
  }
  ::close(fd);
  return {};
}

void SmallDisk::Free() { ::unlink(FillerPath().c_str()); }

}  // namespace freshet::chaos
