// SPDX-License-Identifier: Apache-2.0
// BackupManifest: what a backup's directory must hold, written last. DIR/manifest.json, DIR/state (the
// ClusterState), DIR/cluster.yaml (the settings, where the cluster has such a file) and DIR/images/,
// a file per partition.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "protocol/messages.h"

namespace freshet::master {

inline constexpr uint32_t kBackupFormat = 1;
inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kBackupStateFile = "state";
inline constexpr const char* kBackupImages = "images";
inline constexpr const char* kSettingsFile = "cluster.yaml";

// A small file beside the manifest.
struct BackupPart {
  uint64_t bytes = 0;
  uint64_t checksum = 0;
  bool operator==(const BackupPart&) const = default;
};

struct BackupManifest {
  protocol::ClusterId cluster;
  std::string job;
  int64_t unix_ms = 0;
  protocol::ViewNumber view;
  uint32_t partitions = 0;
  BackupPart state;
  std::optional<BackupPart> settings;
  // A restored cluster learns again from here on, so the logs must still have it.
  std::vector<protocol::LogWatermark> replay_from;
  std::vector<protocol::BackupFile> files;  // one per partition, ascending

  bool operator==(const BackupManifest&) const = default;
};

// The lowest watermark of each log over all files; a log that some partition knows nothing of: 0.
std::vector<protocol::LogWatermark> LowestWatermarks(
    const std::vector<protocol::BackupFile>& files);

std::string EncodeManifest(const BackupManifest& manifest);
// kCorrupt: not what EncodeManifest makes, or not one file for each partition; kInvalidArgument:
// another format. The message does not name the file.
base::Result<BackupManifest> DecodeManifest(std::string_view text);

}  // namespace freshet::master
