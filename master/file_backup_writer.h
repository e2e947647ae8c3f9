// SPDX-License-Identifier: Apache-2.0
// FileBackupWriter: a backup in a directory that the master and all servers can write to.
#pragma once

#include <string>
#include <utility>

#include "master/backup_run.h"

namespace freshet::master {

struct BackupPlace {
  std::string dir;          // of the backup; absolute
  std::string cluster_dir;  // where cluster.yaml is, if there is one
};

class FileBackupWriter final : public BackupWriter {
 public:
  explicit FileBackupWriter(BackupPlace place) : place_(std::move(place)) {}

  const std::string& dir() const override { return place_.dir; }
  std::string image_dir() const override;
  base::Result<> Prepare() override;
  base::Result<> Finish(BackupManifest manifest, const protocol::Buffer& state) override;

 private:
  base::Result<> CheckFiles(const BackupManifest& manifest) const;
  void RemoveLeftovers(const BackupManifest& manifest) const;

  BackupPlace place_;
};

}  // namespace freshet::master
