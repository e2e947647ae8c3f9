// SPDX-License-Identifier: Apache-2.0
#include "master/file_backup_writer.h"

#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/file.h"
#include "checkpoint/checksum.h"

namespace freshet::master {

namespace fs = std::filesystem;
using base::ErrorCode;
using base::Fail;
using base::Result;

namespace {

constexpr size_t kMaxSettingsBytes = 1 << 20;

Result<BackupPart> WritePart(const std::string& path, std::string_view content) {
  if (auto written = base::WriteFileAtomic(path, content); !written) {
    return tl::unexpected(written.error());
  }
  return BackupPart{content.size(), checkpoint::Checksum(content)};
}

}  // namespace

std::string FileBackupWriter::image_dir() const {
  return base::JoinPath(place_.dir, kBackupImages);
}

Result<> FileBackupWriter::Prepare() {
  const std::string& dir = place_.dir;
  if (!fs::path(dir).is_absolute()) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is no absolute path; servers may run elsewhere", dir));
  }
  std::error_code error;
  if (fs::exists(dir, error) && (!fs::is_directory(dir, error) || !fs::is_empty(dir, error))) {
    return Fail(ErrorCode::kConflict,
                fmt::format("{} is there already and not an empty directory; a backup overwrites "
                            "nothing, so choose another one",
                            dir));
  }
  return base::MakeDirectories(image_dir());
}

Result<> FileBackupWriter::CheckFiles(const BackupManifest& manifest) const {
  for (const protocol::BackupFile& file : manifest.files) {
    const std::string path = base::JoinPath(image_dir(), file.name);
    std::error_code error;
    const auto size = fs::file_size(path, error);
    if (!error && size == file.bytes) continue;
    return Fail(
        ErrorCode::kFailed,
        fmt::format("{} is not as its server wrote it; the directory must be on storage "
                    "that the master and all servers share, and nobody else may write there",
                    path));
  }
  return {};
}

// Of servers that were killed while they wrote.
void FileBackupWriter::RemoveLeftovers(const BackupManifest& manifest) const {
  std::set<std::string> listed;
  for (const protocol::BackupFile& file : manifest.files) listed.insert(file.name);
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(image_dir(), error)) {
    if (!listed.contains(entry.path().filename().string())) leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove(path, error);
}

Result<> FileBackupWriter::Finish(BackupManifest manifest, const protocol::Buffer& state) {
  if (auto there = CheckFiles(manifest); !there) return there;
  RemoveLeftovers(manifest);
  const auto in_backup = [this](const char* name) { return base::JoinPath(place_.dir, name); };
  const auto kept = WritePart(in_backup(kBackupStateFile),
                              {reinterpret_cast<const char*>(state.data()), state.size()});
  if (!kept) return tl::unexpected(kept.error());
  manifest.state = *kept;
  const auto settings =
      base::ReadFile(base::JoinPath(place_.cluster_dir, kSettingsFile), kMaxSettingsBytes);
  if (settings) {
    const auto copied = WritePart(in_backup(kSettingsFile), *settings);
    if (!copied) return tl::unexpected(copied.error());
    manifest.settings = *copied;
  } else if (settings.error().code != ErrorCode::kNotFound) {
    return tl::unexpected(settings.error());
  }
  const auto manifested = WritePart(in_backup(kManifestFile), EncodeManifest(manifest));
  if (!manifested) return tl::unexpected(manifested.error());
  return {};
}

}  // namespace freshet::master
