// SPDX-License-Identifier: Apache-2.0
// Restore: makes a new cluster's directory from a backup, for any number of servers. Offline; nothing
// runs on the directory before it is there, whole, under its name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "master/backup_manifest.h"
#include "master/cluster_state.h"

namespace freshet::master {

struct RestoreOptions {
  std::string from;  // the backup
  std::string dir;   // of the new cluster; not there, or empty
  uint32_t ps = 0;   // servers; 0: as many as there were
  // Of the new cluster: processes of the old one, which may still run, do not take it for theirs.
  protocol::ClusterId cluster;
};

struct RestoreReport {
  std::string dir;  // absolute
  std::string job;
  protocol::ClusterId cluster;
  uint32_t ps = 0;
  uint32_t partitions = 0;
  uint64_t bytes = 0;
  bool has_settings = false;  // cluster.yaml was in the backup and is in `dir`
  std::vector<protocol::LogWatermark> replay_from;
  protocol::JobSpec spec;  // as it was led
};

// Reads and checks every byte of the backup. Every partition gets a tenure above any of its stamps
// (rule G6), so whatever any process of the old cluster still writes is older. kNotFound: no backup;
// kConflict: something is in the new directory; kCorrupt: damaged, and what. On an error the new
// directory is as it was.
base::Result<RestoreReport> RestoreBackup(const RestoreOptions& options);

// The first half of a restore, without files: `state`, as it was in the backup, becomes that of a cluster
// in which nobody has registered yet, with every partition's new owner.
void ReshapeForRestore(ClusterState& state, const BackupManifest& manifest,
                       const RestoreOptions& options);

// `freshet-master restore`, which `freshet restore` is; argv[0] is ignored. The exit code.
int RunRestore(int argc, const char* const* argv);

}  // namespace freshet::master
