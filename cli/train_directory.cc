// SPDX-License-Identifier: Apache-2.0
#include "cli/train_directory.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <system_error>

#include "cli/admin_client.h"

namespace freshet::cli {
namespace {

namespace fs = std::filesystem;
using base::ErrorCode;

constexpr const char* kMarker = "train.marker";

// A lock taken by another stays a conflict; whatever else is wrong, the user can only go elsewhere.
base::Error Unwritable(const fs::path& dir, const base::Error& why) {
  if (why.code == ErrorCode::kConflict) return why;
  return {ErrorCode::kIo,
          fmt::format("cannot use {}: {}; choose another --dir", dir.string(), why.message)};
}

base::Result<> RemovePrevious(const fs::path& previous) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(previous, error))) return {};
  if (!fs::exists(previous / kMarker, error)) {
    return base::Fail(ErrorCode::kConflict,
                      fmt::format("{} is in the way and was not written by freshet train; move it "
                                  "away or choose another --dir",
                                  previous.string()));
  }
  fs::remove_all(previous, error);
  if (!error) return {};
  return base::Fail(ErrorCode::kIo,
                    fmt::format("cannot remove {}: {}", previous.string(), error.message()));
}

// Renames a directory that holds a former run; holds its lock meanwhile.
base::Result<> MoveAway(const fs::path& dir, const std::function<void(const std::string&)>& say) {
  const base::Result<base::LockFile> lock = base::LockFile::Acquire((dir / kMarker).string());
  if (!lock) {
    if (lock.error().code != ErrorCode::kConflict) return tl::unexpected(lock.error());
    return base::Fail(ErrorCode::kConflict,
                      fmt::format("another freshet train runs in {}; wait for it or choose another "
                                  "--dir ({})",
                                  dir.string(), lock.error().message));
  }
  const fs::path previous = dir.string() + ".previous";
  if (base::Result<> removed = RemovePrevious(previous); !removed) return removed;
  std::error_code error;
  fs::rename(dir, previous, error);
  if (error) {
    return base::Fail(ErrorCode::kIo,
                      fmt::format("cannot rename {} to {}: {}; choose another --dir", dir.string(),
                                  previous.string(), error.message()));
  }
  say(fmt::format("the former run in {} is now in {}", dir.string(), previous.string()));
  return {};
}

// Makes way for a new run in a directory that exists.
base::Result<> Clear(const fs::path& dir, const std::function<void(const std::string&)>& say) {
  std::error_code error;
  if (AdminClient(dir.string()).SomebodyListens()) {
    return base::Fail(
        ErrorCode::kConflict,
        fmt::format("a cluster runs in {}; wait for it or choose another --dir", dir.string()));
  }
  const bool empty = fs::is_empty(dir, error);
  if (error) {
    return base::Fail(ErrorCode::kIo,
                      fmt::format("cannot look into {}: {}", dir.string(), error.message()));
  }
  if (empty) return {};
  if (fs::exists(dir / kMarker, error)) return MoveAway(dir, say);
  return base::Fail(ErrorCode::kConflict,
                    fmt::format("{} is not empty and was not written by freshet train; choose "
                                "another --dir",
                                dir.string()));
}

}  // namespace

base::Result<TrainDirectory> TrainDirectory::Prepare(
    const std::string& dir, const std::function<void(const std::string&)>& say) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(dir, error), error);
  if (error) {
    return base::Fail(ErrorCode::kIo, fmt::format("cannot use {}: {}", dir, error.message()));
  }
  if (!path.has_filename()) path = path.parent_path();
  if (fs::exists(path, error)) {
    if (!fs::is_directory(path, error)) {
      return base::Fail(ErrorCode::kConflict,
                        fmt::format("{} is no directory; choose another --dir", path.string()));
    }
    if (base::Result<> cleared = Clear(path, say); !cleared) {
      return tl::unexpected(cleared.error());
    }
  }
  if (base::Result<> made = base::MakeDirectories((path / "logs").string()); !made) {
    return tl::unexpected(Unwritable(path, made.error()));
  }
  base::Result<base::LockFile> lock = base::LockFile::Acquire((path / kMarker).string());
  if (!lock) return tl::unexpected(Unwritable(path, lock.error()));
  return TrainDirectory(path.string(), std::move(*lock));
}

}  // namespace freshet::cli
