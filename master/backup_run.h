// SPDX-License-Identifier: Apache-2.0
// BackupRun: a backup of the whole cluster while it works. Every PS copies the images of its partitions
// on its own (each says what is in it, so no cut across partitions is needed); who is restarted is
// asked again, what moved is asked of the new owner. Belongs to the master's loop. It fails, with a
// reason, when nothing got done for long; a backup without a manifest is none.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/runtime.h"
#include "master/backup_manifest.h"
#include "master/cluster_state.h"
#include "master/event_log.h"
#include "protocol/codec.h"
#include "transport/rpc_client.h"

namespace freshet::master {

struct Node;

// Where a backup is put. Blocking; called on the executor.
class BackupWriter {
 public:
  virtual ~BackupWriter() = default;
  virtual const std::string& dir() const = 0;
  // Where servers put their files.
  virtual std::string image_dir() const = 0;
  // kConflict: there is something in the directory already.
  virtual base::Result<> Prepare() = 0;
  // Writes what is missing, the manifest last; fills in what it says about the other parts.
  virtual base::Result<> Finish(BackupManifest manifest, const protocol::Buffer& state) = 0;
};

enum class BackupPhase : uint8_t { kNone, kRunning, kEnded, kFailed };

struct BackupStatus {
  BackupPhase phase = BackupPhase::kNone;
  std::string dir;
  uint64_t partitions = 0;
  uint64_t copied = 0;
  uint64_t bytes = 0;
  double seconds = 0;
  std::vector<protocol::LogWatermark> replay_from;  // when it has ended
  base::Error error;                                // when it has failed
};

class BackupRun {
 public:
  // What it sees of the master; all outlive it.
  struct Cluster {
    base::Runtime runtime;
    transport::RpcClient& rpc;
    const protocol::Sender& sender;
    const ClusterState& state;
    const std::map<std::string, Node>& nodes;
    EventLog& events;
  };

  explicit BackupRun(Cluster cluster) : cluster_(cluster) {}
  ~BackupRun();
  BackupRun(const BackupRun&) = delete;
  BackupRun& operator=(const BackupRun&) = delete;

  // kConflict: one is under way. kUnavailable: the cluster is not placed yet.
  base::Result<> Start(std::shared_ptr<BackupWriter> writer);
  // Of the last one that was started by this process.
  BackupStatus Status() const;

 private:
  // What one process was asked for.
  struct Ask {
    protocol::Incarnation incarnation;
    protocol::BackupRequest request;
    std::optional<protocol::RequestId> call;
    uint64_t done = 0;
    uint64_t bytes = 0;
  };

  void Poll();
  void DropGone();
  void AskOwners();
  void Call(const std::string& name, Ask& ask);
  void OnReply(const std::string& name, uint64_t round, base::Result<protocol::Packet> packet);
  void TakeFiles(std::vector<protocol::BackupFile> files);
  void NoteProgress();
  std::string Awaited() const;
  void Finish();
  void End(base::Result<> outcome);

  Cluster cluster_;
  std::shared_ptr<BackupWriter> writer_;
  BackupStatus status_;
  std::map<uint16_t, protocol::BackupFile> files_;
  std::map<std::string, Ask> asks_;  // by PS
  base::TimerId timer_;
  base::Instant began_;
  base::Instant progressed_;
  uint64_t last_done_ = 0;
  uint64_t last_quarter_ = 0;
};

}  // namespace freshet::master
