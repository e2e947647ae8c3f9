// SPDX-License-Identifier: Apache-2.0
#include "cli/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "cli/json.h"

namespace freshet::cli {
namespace {

using base::ErrorCode;

constexpr size_t kMaxTailBytes = 1 << 20;

tl::unexpected<base::Error> FileError(const std::string& path, int error) {
  const ErrorCode code = error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  return base::Fail(
      code, fmt::format("cannot read {}: {}", path, std::generic_category().message(error)));
}

std::vector<std::string> SplitLines(const std::string& text) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

}  // namespace

base::Result<std::vector<std::string>> LastLines(const std::string& path, size_t lines) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(path, errno);
  const off_t size = ::lseek(fd, 0, SEEK_END);
  const off_t begin = std::max<off_t>(0, size - static_cast<off_t>(kMaxTailBytes));
  std::string text(kMaxTailBytes, '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t n =
        ::pread(fd, text.data() + filled, text.size() - filled, begin + static_cast<off_t>(filled));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      ::close(fd);
      return FileError(path, error);
    }
    if (n == 0) break;
    filled += static_cast<size_t>(n);
  }
  ::close(fd);
  text.resize(filled);
  std::vector<std::string> all = SplitLines(text);
  // The first line of a long file may be cut.
  if (begin > 0 && !all.empty()) all.erase(all.begin());
  if (all.size() > lines) all.erase(all.begin(), all.end() - static_cast<ptrdiff_t>(lines));
  return all;
}

std::string ReadableLogLine(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object() || !At(json, "msg").is_string()) return line;
  std::string out = TextAt(json, "level");
  if (const std::string node = TextAt(json, "node"); !node.empty()) out += " " + node;
  return out + ": " + TextAt(json, "msg");
}

base::Result<LogFollower> LogFollower::Open(const std::string& path, From from) {
  LogFollower follower(path);
  if (base::Result<> opened = follower.Reopen(); !opened) return tl::unexpected(opened.error());
  if (from == From::kEnd) ::lseek(follower.fd_, 0, SEEK_END);
  return follower;
}

LogFollower::~LogFollower() {
  if (fd_ >= 0) ::close(fd_);
}

base::Result<> LogFollower::Reopen() {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(path_, errno);
  struct stat info = {};
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    return FileError(path_, error);
  }
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
  inode_ = info.st_ino;
  return {};
}

bool LogFollower::Replaced() const {
  struct stat info = {};
  // Between a rename and the new file there is none: nothing is new yet.
  if (::stat(path_.c_str(), &info) != 0) return false;
  return info.st_ino != inode_ || info.st_size < ::lseek(fd_, 0, SEEK_CUR);
}

base::Result<std::string> LogFollower::ReadMore() {
  std::string text(kMaxTailBytes, '\0');
  for (int round = 0; round < 2; ++round) {
    ssize_t n = 0;
    do {
      n = ::read(fd_, text.data(), text.size());
    } while (n < 0 && errno == EINTR);
    if (n < 0) return FileError(path_, errno);
    if (n > 0) {
      text.resize(static_cast<size_t>(n));
      return text;
    }
    if (!Replaced()) break;
    if (base::Result<> opened = Reopen(); !opened) break;
  }
  return std::string();
}

}  // namespace freshet::cli
