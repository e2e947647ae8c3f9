// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

namespace freshet::base {
namespace {

std::string_view Remedy(int error) {
  switch (error) {
    case ENOENT: return "check the path";
    case EACCES:
    case EPERM: return "check who owns it and its permissions";
    case EROFS: return "the file system is read-only; use another directory";
    case ENOSPC:
    case EDQUOT: return "free some space or use another directory";
    case EMFILE:
    case ENFILE: return "raise the limit on open files (ulimit -n)";
    case ENOTDIR: return "a part of the path is a file; remove it or use another directory";
    case EISDIR: return "give a file";
    default: return "see the kernel's log";
  }
}

tl::unexpected<Error> FailedTo(std::string_view action, const std::string& path, int error) {
  const ErrorCode code = error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  return Fail(code, fmt::format("cannot {} {}: {}; {}", action, path,
                                std::generic_category().message(error), Remedy(error)));
}

// Closes when it goes; Close() is for those who want to know whether that worked.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  bool Close() { return ::close(Release()) == 0; }

 private:
  int fd_;
};

// False with errno set.
bool WriteAll(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    content.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

std::string ParentOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// The error of the draft, after removing what is there of it.
tl::unexpected<Error> DraftFailed(const std::string& draft, int error) {
  ::unlink(draft.c_str());
  return FailedTo("write", draft, error);
}

}  // namespace

Result<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return FailedTo("open", path, errno);
  std::string content;
  constexpr size_t kChunk = size_t{64} << 10;
  while (true) {
    const size_t before = content.size();
    content.resize(before + kChunk);
    const ssize_t got = ::read(file.get(), content.data() + before, kChunk);
    const int error = errno;
    content.resize(before + (got > 0 ? static_cast<size_t>(got) : 0));
    if (got < 0 && error == EINTR) continue;
    if (got < 0) return FailedTo("read", path, error);
    if (got == 0) return content;
    if (content.size() > max_bytes) {
      return Fail(ErrorCode::kResourceExhausted,
                  fmt::format("{} is longer than the {} bytes it may have; is it the right file?",
                              path, max_bytes));
    }
  }
}

Result<void> WriteFileAtomic(const std::string& path, std::string_view content) {
  const std::string draft = path + ".tmp";
  Descriptor file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (file.get() < 0) return FailedTo("create", draft, errno);
  // After a failed fsync the kernel may have dropped the bytes, so there is no second try.
  if (!WriteAll(file.get(), content) || ::fsync(file.get()) != 0 || !file.Close()) {
    return DraftFailed(draft, errno);
  }
  if (::rename(draft.c_str(), path.c_str()) != 0) return DraftFailed(draft, errno);
  return SyncDirectory(ParentOf(path));
}

Result<void> MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error && !std::filesystem::is_directory(path, error) && !error) {
    return FailedTo("create the directory", path, ENOTDIR);
  }
  if (error) return FailedTo("create the directory", path, error.value());
  return {};
}

Result<void> SyncDirectory(const std::string& path) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) return FailedTo("open", path, errno);
  if (::fsync(directory.get()) != 0) return FailedTo("sync", path, errno);
  return {};
}

std::string ShortestPath(const std::string& path) {
  std::error_code error;
  const std::string relative = std::filesystem::proximate(path, error).string();
  return !error && !relative.empty() && relative.size() < path.size() ? relative : path;
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  return (std::filesystem::path(directory) / name).string();
}

Result<LockFile> LockFile::Acquire(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (file.get() < 0) return FailedTo("open", path, errno);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FailedTo("lock", path, errno);
    std::string holder = ReadFile(path, 64).value_or("");
    while (!holder.empty() && holder.back() == '\n') holder.pop_back();
    return Fail(
        ErrorCode::kConflict,
        fmt::format("{} is locked by process {}; stop that process or use another directory", path,
                    holder.empty() ? "(unknown)" : holder));
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(file.get(), 0) != 0 || !WriteAll(file.get(), pid)) {
    return FailedTo("write", path, errno);
  }
  return LockFile(file.Release());
}

LockFile::~LockFile() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace freshet::base
