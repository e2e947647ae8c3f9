// SPDX-License-Identifier: Apache-2.0
// What survives a crash: the images of a PS and the state of the master. Each lives longer than the
// process that uses it; what a killed process had not finished writing is not there.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/random.h"
#include "checkpoint/image_store.h"
#include "master/cluster_state.h"

namespace freshet::sim {

struct DiskFaults {
  double full = 0;         // kResourceExhausted: nothing changed
  double write_fails = 0;  // kIo: it is there or it is not
  double read_fails = 0;
};

// The disk of one PS: per partition a whole image, then differences.
struct SimDisk {
  std::map<protocol::PartitionId, std::vector<protocol::Image>> images;

  // Of the newest image; nothing if there is none.
  const protocol::ImageHeader* Newest(protocol::PartitionId partition) const;
};

class SimImageStore final : public checkpoint::ImageStore {
 public:
  SimImageStore(SimDisk& disk, uint64_t seed, const DiskFaults& faults)
      : disk_(disk), random_(seed), faults_(faults) {}

  // For MUTANT(kTwoTransactions): ends the process between the two.
  std::function<void()> die;

  base::Result<std::vector<checkpoint::StoredImage>> List() override;
  base::Result<std::vector<protocol::Image>> Load(protocol::PartitionId partition) override;
  // Nothing is ever damaged here.
  base::Result<uint32_t> Repair(protocol::PartitionId) override { return 0; }
  base::Result<> Save(const protocol::Image& image) override;
  base::Result<std::vector<char>> SaveAll(const std::vector<protocol::Image>& images) override;
  base::Result<> Remove(protocol::PartitionId partition, protocol::Tenure below) override;

 private:
  bool SaveOne(const protocol::Image& image);
  void SaveRowsWithoutSet(const protocol::Image& image);

  SimDisk& disk_;
  base::Random random_;
  const DiskFaults& faults_;
};

class SimStateStore final : public master::StateStore {
 public:
  using Cell = std::optional<protocol::Buffer>;
  SimStateStore(Cell& cell, uint64_t seed, const DiskFaults& faults)
      : cell_(cell), random_(seed), faults_(faults) {}

  base::Result<std::optional<protocol::Buffer>> Load() override { return cell_; }
  base::Result<> Save(const protocol::Buffer& state) override;

 private:
  Cell& cell_;
  base::Random random_;
  const DiskFaults& faults_;
};

}  // namespace freshet::sim
