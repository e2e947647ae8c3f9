// SPDX-License-Identifier: Apache-2.0
// What survives a crash: the images of a PS, the state of the master, and backups. Each lives longer than
// the process that uses it; what a killed process had not finished writing is not there.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "checkpoint/image_store.h"
#include "master/backup_run.h"
#include "master/cluster_state.h"

namespace freshet::sim {

struct DiskFaults {
  double full = 0;         // kResourceExhausted: nothing changed
  double write_fails = 0;  // kIo: it is there or it is not
  double read_fails = 0;
  double crash = 0;  // the process ends, and it is there or it is not
};

// How one process reaches its disk: any write may fail, or be the last thing that the process does.
class DiskAccess {
 public:
  DiskAccess(uint64_t seed, const DiskFaults& faults) : random_(seed), faults_(faults) {}

  // Ends the process within this event.
  std::function<void()> die;

  // Does what `write` says, or nothing; what the process is told of it.
  base::Result<> Write(const std::function<void()>& write);
  base::Result<> Read();
  // How often this process was told of a failure.
  uint64_t failures() const { return failures_; }
  bool Draw(double chance) { return random_.Chance(chance); }

 private:
  base::Error Told(base::ErrorCode code, const char* what);
  base::Error Die();

  base::Random random_;
  const DiskFaults& faults_;
  uint64_t failures_ = 0;
  bool dead_ = false;
};

// The disk of one PS: per partition a whole image, then differences.
struct SimDisk {
  using Chain = std::vector<protocol::Image>;
  std::map<protocol::PartitionId, Chain> images;
  // The first image of a chain that is damaged.
  std::map<protocol::PartitionId, size_t> damaged;
  uint64_t repairs = 0;

  // Of the newest image; nothing if there is none.
  const protocol::ImageHeader* Newest(protocol::PartitionId partition) const;
};

// Where backups are put: files by path, and what belongs to each complete backup.
struct SimVault {
  struct Backup {
    master::BackupManifest manifest;
    protocol::Buffer state;
    std::string image_dir;
  };
  std::map<std::string, SimDisk::Chain> files;
  std::vector<Backup> finished;

  const SimDisk::Chain& File(const Backup& backup, const std::string& name) const {
    return files.at(backup.image_dir + "/" + name);
  }
};

class SimImageStore final : public checkpoint::ImageStore {
 public:
  SimImageStore(SimDisk& disk, SimVault& vault, DiskAccess& access)
      : disk_(disk), vault_(vault), access_(access) {}

  base::Result<std::vector<checkpoint::StoredImage>> List() override;
  base::Result<std::vector<protocol::Image>> Load(protocol::PartitionId partition) override;
  base::Result<uint32_t> Repair(protocol::PartitionId partition) override;
  base::Result<> Save(const protocol::Image& image) override;
  base::Result<std::vector<char>> SaveAll(const std::vector<protocol::Image>& images) override;
  base::Result<> Remove(protocol::PartitionId partition, protocol::Tenure below) override;
  base::Result<checkpoint::ImageFileInfo> Export(protocol::PartitionId partition,
                                                 const std::string& path) override;

 private:
  bool SaveOne(const protocol::Image& image);
  void SaveRowsWithoutSet(const protocol::Image& image);

  SimDisk& disk_;
  SimVault& vault_;
  DiskAccess& access_;
};

class SimStateStore final : public master::StateStore {
 public:
  using Cell = std::optional<protocol::Buffer>;
  SimStateStore(Cell& cell, DiskAccess& access) : cell_(cell), access_(access) {}

  std::function<void(const Cell& before, const protocol::Buffer& after)> on_saved;

  base::Result<std::optional<protocol::Buffer>> Load() override { return cell_; }
  base::Result<> Save(const protocol::Buffer& state) override;

 private:
  Cell& cell_;
  DiskAccess& access_;
};

class SimBackupWriter final : public master::BackupWriter {
 public:
  SimBackupWriter(SimVault& vault, std::string dir) : vault_(vault), dir_(std::move(dir)) {}

  const std::string& dir() const override { return dir_; }
  std::string image_dir() const override { return dir_ + "/images"; }
  base::Result<> Prepare() override { return {}; }
  base::Result<> Finish(master::BackupManifest manifest, const protocol::Buffer& state) override;

 private:
  SimVault& vault_;
  std::string dir_;
};

}  // namespace freshet::sim
