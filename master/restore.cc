// SPDX-License-Identifier: Apache-2.0
#include "master/restore.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/file.h"
#include "checkpoint/checksum.h"
#include "checkpoint/durable_cell.h"
#include "checkpoint/image_file.h"
#include "checkpoint/lmdb_image_store.h"
#include "master/cluster_state.h"
#include "protocol/codec.h"

namespace freshet::master {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::BackupFile;
using protocol::Buffer;

namespace {

constexpr size_t kMaxManifestBytes = 256 << 20;
// One transaction holds at most about this much.
constexpr uint64_t kGroupBytes = 32 << 20;

tl::unexpected<Error> Pass(const Error& error) { return tl::unexpected<Error>(error); }

Result<BackupManifest> LoadManifest(const std::string& from) {
  const std::string path = base::JoinPath(from, kManifestFile);
  const auto text = base::ReadFile(path, kMaxManifestBytes);
  if (!text && text.error().code == ErrorCode::kNotFound) {
    return Fail(
        ErrorCode::kNotFound,
        fmt::format("there is no complete backup in {}: {} is missing, which freshet backup "
                    "writes last",
                    from, kManifestFile));
  }
  if (!text) return Pass(text.error());
  auto manifest = DecodeManifest(*text);
  if (!manifest) {
    return Fail(manifest.error().code,
                fmt::format("{} cannot be used: {}", path, manifest.error().message));
  }
  return manifest;
}

Result<std::string> LoadPart(const std::string& path, const BackupPart& part) {
  auto content = base::ReadFile(path, checkpoint::DurableCell::kMaxBytes);
  if (!content) return Pass(content.error());
  if (content->size() == part.bytes && checkpoint::Checksum(*content) == part.checksum) {
    return content;
  }
  return Fail(ErrorCode::kCorrupt,
              fmt::format("{} is damaged: it is not what the manifest says; take it from another "
                          "copy",
                          path));
}

Result<ClusterState> LoadState(const std::string& from, const BackupManifest& manifest) {
  const std::string path = base::JoinPath(from, kBackupStateFile);
  const auto content = LoadPart(path, manifest.state);
  if (!content) return Pass(content.error());
  auto state = DecodeClusterState(Buffer::Copy(*content), path);
  if (!state) return Pass(state.error());
  if (auto sound = protocol::ValidateView(state->view); !sound) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{} cannot be used: {}", path, sound.error().message));
  }
  if (state->cluster != manifest.cluster || state->view.partitions() != manifest.partitions) {
    return Fail(ErrorCode::kCorrupt, fmt::format("{} and {} in {} are not of one backup",
                                                 kBackupStateFile, kManifestFile, from));
  }
  return state;
}

uint32_t FormerServers(const protocol::View& view) {
  std::set<uint16_t> owners;
  for (const protocol::Place& place : view.places) {
    if (place.node < view.nodes.size()) owners.insert(place.node);
  }
  return static_cast<uint32_t>(owners.size());
}

// Neighbouring partitions together, shares equal within one, as a new cluster is placed.
uint32_t OwnerOf(size_t partition, uint32_t ps, size_t partitions) {
  return static_cast<uint32_t>(partition * ps / partitions);
}

std::string ServerName(uint32_t number) { return fmt::format("ps-{}", number); }

// The servers' number is the only setting that a restore changes.
std::string WithServers(const std::string& settings, uint32_t ps) {
  const std::string line = fmt::format("ps: {}\n", ps);
  std::string out;
  bool found = false;
  for (size_t at = 0; at < settings.size();) {
    const size_t end = std::min(settings.find('\n', at), settings.size() - 1) + 1;
    const std::string before = settings.substr(at, end - at);
    const bool ours = before.starts_with("ps:");
    out += ours ? line : before;
    found = found || ours;
    at = end;
  }
  if (found) return out;
  if (!out.empty() && out.back() != '\n') out += '\n';
  return out + line;
}

class Restoring {
 public:
  Restoring(const RestoreOptions& options, BackupManifest manifest, std::string staging)
      : options_(options), manifest_(std::move(manifest)), staging_(std::move(staging)) {}

  Result<> Run(ClusterState state) {
    for (uint32_t number = 0; number < options_.ps; ++number) {
      if (auto filled = FillServer(number); !filled) return filled;
    }
    if (auto written = WriteSettings(); !written) return written;
    ReshapeForRestore(state, manifest_, options_);
    auto cell = checkpoint::DurableCell::Open({base::JoinPath(staging_, "master"), "master"});
    if (!cell) return Pass(cell.error());
    const Buffer bytes = protocol::EncodeStruct(state);
    return (*cell)->Write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

 private:
  Result<> FillServer(uint32_t number) {
    const std::string dir = fmt::format("{}/{}/images", staging_, ServerName(number));
    auto store = checkpoint::LmdbImageStore::Open({.directory = dir});
    if (!store) return Pass(store.error());
    std::vector<protocol::Image> group;
    uint64_t bytes = 0;
    for (const BackupFile& file : manifest_.files) {
      if (OwnerOf(file.partition.value(), options_.ps, manifest_.files.size()) != number) continue;
      auto images = ReadFileOf(file);
      if (!images) return Pass(images.error());
      std::move(images->begin(), images->end(), std::back_inserter(group));
      bytes += file.bytes;
      if (bytes < kGroupBytes) continue;
      if (auto saved = SaveGroup(**store, std::exchange(group, {})); !saved) return saved;
      bytes = 0;
    }
    return SaveGroup(**store, std::move(group));
  }

  Result<std::vector<protocol::Image>> ReadFileOf(const BackupFile& file) const {
    const std::string path = fmt::format("{}/{}/{}", options_.from, kBackupImages, file.name);
    auto read = checkpoint::ReadImageFile(path);
    if (!read && read.error().code == ErrorCode::kNotFound) {
      return Fail(ErrorCode::kCorrupt,
                  fmt::format("{} is missing: the backup is not whole; copy it again", path));
    }
    if (!read) return Pass(read.error());
    const checkpoint::ImageFileInfo& info = read->info;
    if (info.partition == file.partition && info.stamp.tenure == file.tenure &&
        info.stamp.version == file.version && info.bytes == file.bytes &&
        info.checksum == file.checksum) {
      return std::move(read->images);
    }
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{} is a sound file, but not the one that the manifest names; take it "
                            "from another copy",
                            path));
  }

  Result<> SaveGroup(checkpoint::LmdbImageStore& store, std::vector<protocol::Image> group) const {
    if (group.empty()) return {};
    const auto saved = store.SaveAll(group);
    if (!saved) return Pass(saved.error());
    if (std::count(saved->begin(), saved->end(), 1) == static_cast<ptrdiff_t>(group.size())) {
      return {};
    }
    return Fail(ErrorCode::kFailed, "images of the backup do not follow each other");
  }

  Result<> WriteSettings() const {
    if (!manifest_.settings) return {};
    const auto settings =
        LoadPart(base::JoinPath(options_.from, kSettingsFile), *manifest_.settings);
    if (!settings) return Pass(settings.error());
    return base::WriteFileAtomic(base::JoinPath(staging_, kSettingsFile),
                                 WithServers(*settings, options_.ps));
  }

  const RestoreOptions& options_;
  const BackupManifest manifest_;
  const std::string staging_;
};

// Where the new directory is built, beside its place.
Result<std::string> MakeStaging(const std::string& dir) {
  std::error_code error;
  if (fs::exists(dir, error) && (!fs::is_directory(dir, error) || !fs::is_empty(dir, error))) {
    return Fail(
        ErrorCode::kConflict,
        fmt::format("{} is there already and not an empty directory; choose another --dir", dir));
  }
  const std::string staging = dir + ".restoring";
  if (fs::exists(fs::symlink_status(staging, error))) {
    return Fail(ErrorCode::kConflict,
                fmt::format("{} was left by a restore that did not end, or is being written by "
                            "another one; remove it if no other restore runs",
                            staging));
  }
  if (auto made = base::MakeDirectories(staging); !made) return Pass(made.error());
  return staging;
}

Result<> MoveIntoPlace(const std::string& staging, const std::string& dir) {
  std::error_code error;
  fs::rename(staging, dir, error);
  if (error) {
    return Fail(ErrorCode::kIo, fmt::format("cannot rename {} to {}: {}; choose another --dir",
                                            staging, dir, error.message()));
  }
  return base::SyncDirectory(fs::path(dir).parent_path().string());
}

}  // namespace

void ReshapeForRestore(ClusterState& state, const BackupManifest& manifest,
                       const RestoreOptions& options) {
  state.cluster = options.cluster;
  state.nodes.clear();
  state.placed = true;
  // Its end is found again by what the partitions report.
  state.completed = false;
  // Which servers and workers there shall be follows from the view and the settings again.
  state.servers.clear();
  state.workers.clear();
  state.plans.clear();
  state.configured_ps = state.configured_workers = state.next_ps = 0;
  protocol::View& view = state.view;
  view.number = view.number.Next();
  view.nodes.clear();
  for (uint32_t i = 0; i < options.ps; ++i) view.nodes.push_back({ServerName(i), {}, {}});
  for (size_t p = 0; p < view.places.size(); ++p) {
    protocol::Place& place = view.places[p];
    const protocol::Tenure highest = std::max(place.tenure, manifest.files[p].tenure);
    place = {};
    place.node = static_cast<uint16_t>(OwnerOf(p, options.ps, view.places.size()));
    place.tenure = highest.Next();
  }
}

Result<RestoreReport> RestoreBackup(const RestoreOptions& given) {
  RestoreOptions options = given;
  std::error_code error;
  fs::path dir = fs::absolute(given.dir, error).lexically_normal();
  if (!dir.has_filename()) dir = dir.parent_path();
  options.dir = dir.string();
  const auto manifest = LoadManifest(options.from);
  if (!manifest) return Pass(manifest.error());
  auto state = LoadState(options.from, *manifest);
  if (!state) return Pass(state.error());
  if (options.ps == 0) options.ps = FormerServers(state->view);
  if (options.ps == 0 || options.ps > manifest->partitions) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("--ps {}: with {} partitions there can be 1 to {} servers", options.ps,
                            manifest->partitions, manifest->partitions));
  }
  const auto staging = MakeStaging(options.dir);
  if (!staging) return Pass(staging.error());
  RestoreReport report{.dir = options.dir,
                       .job = state->job.name,
                       .cluster = options.cluster,
                       .ps = options.ps,
                       .partitions = manifest->partitions,
                       .has_settings = manifest->settings.has_value(),
                       .replay_from = manifest->replay_from,
                       .spec = state->job};
  for (const BackupFile& file : manifest->files) report.bytes += file.bytes;
  Result<> done = Restoring(options, *manifest, *staging).Run(std::move(*state));
  if (done) done = MoveIntoPlace(*staging, options.dir);
  if (!done) {
    fs::remove_all(*staging, error);
    return Pass(done.error());
  }
  return report;
}

}  // namespace freshet::master
