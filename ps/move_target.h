// SPDX-License-Identifier: Apache-2.0
// MoveTarget: the receiving end of migrations (rules G10, G11). For each partition that a view says is to
// come here it copies slices, then differences, makes the state durable under the source's stamp, has
// the source freeze, makes the rest durable, tells the master, and gives the rows to the PS when a view
// says that they are its own. Whatever goes wrong changes nothing for the source but a thaw, by view.
// Belongs to the PS loop; owns the rows that are coming; borrows everything else.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/runtime.h"
#include "checkpoint/image_store.h"
#include "protocol/codec.h"
#include "protocol/move_messages.h"
#include "ps/checkpointer.h"
#include "ps/copy_pace.h"
#include "ps/partition.h"
#include "transport/endpoint.h"
#include "transport/rpc_client.h"

namespace freshet::ps {

// Rows that came, and what of them is in the store: what a slot needs to serve them.
struct ArrivedRows {
  std::unique_ptr<Partition> partition;
  protocol::Stamp saved;
  uint64_t saved_bytes = 0;
  uint64_t difference_bytes = 0;
  uint32_t differences = 0;
};

class MoveTarget {
 public:
  struct Parts {
    base::Runtime runtime;
    transport::Endpoint& endpoint;
    transport::RpcClient& rpc;
    const protocol::Sender& sender;
    const transport::PeerId& master;
    const TableSet& tables;
    RowArena& arena;
    checkpoint::ImageStore& store;
    Checkpointer& checkpointer;
    CopyPaceOptions pace;  // all migrations together
  };

  explicit MoveTarget(const Parts& parts) : parts_(parts), pace_(parts.pace) {}
  ~MoveTarget();
  MoveTarget(const MoveTarget&) = delete;
  MoveTarget& operator=(const MoveTarget&) = delete;

  // After a failed sync nobody knows what is on the disk: the process should end.
  std::function<void(const std::string&)> on_store_failure;

  // Begins and ends migrations as the view says. `self`: this PS's index in it.
  void OnView(const protocol::View& view, uint16_t self);
  // The rows of a partition that a view gives to this PS under `tenure`, if they are those that were
  // prepared for it: what the store would give, without reading it (rule G8).
  std::optional<ArrivedRows> Take(protocol::PartitionId partition, protocol::Tenure tenure);

 private:
  struct Move;
  using MovePtr = std::shared_ptr<Move>;

  void Begin(protocol::PartitionId partition, const protocol::Place& place,
             const protocol::ViewNode& source);
  void Restart(const MovePtr& move);
  void End(const MovePtr& move);
  transport::PeerId PeerOf(const protocol::ViewNode& source);
  void DropIdlePeers();
  void Ask(const MovePtr& move, protocol::CopyMode mode);
  void AskSlice(const MovePtr& move);
  void EndSlice(const MovePtr& move);
  void AskWaiting();
  void OnAnswer(const MovePtr& move, protocol::CopyMode mode,
                base::Result<protocol::Packet> packet);
  void OnSlice(const MovePtr& move, const protocol::CopyReply& reply);
  void OnDifference(const MovePtr& move, const protocol::CopyReply& reply,
                    protocol::Image difference);
  void Later(const MovePtr& move, base::Duration delay, std::function<void()> step);
  void Retry(const MovePtr& move, const base::Error& error);
  void CutNext(const MovePtr& move);
  void Store(const MovePtr& move, protocol::Image image);
  void StoreNext();
  struct StoreJob;
  void OnWritten(const StoreJob& job);
  void OnStored(const MovePtr& move, const protocol::ImageHeader& header, uint64_t bytes);
  void NextDifference(const MovePtr& move);
  void WantFreeze(const MovePtr& move);
  void FreezeNext();
  void EndFreeze(const MovePtr& move);
  void Prepared(const MovePtr& move);
  void Failed(const MovePtr& move, const base::Error& error);
  void Report(const MovePtr& move, protocol::MoveReport report);

  Parts parts_;
  std::map<protocol::PartitionId, MovePtr> moves_;
  std::map<protocol::Incarnation, transport::PeerId> peers_;
  std::deque<std::pair<MovePtr, protocol::Image>> to_store_;  // one image a move at most
  bool storing_ = false;
  std::deque<MovePtr> to_freeze_;
  std::vector<MovePtr> freezing_;  // together; nothing else is copied or written meanwhile
  std::deque<MovePtr> to_ask_;     // for their next slice, when they may
  uint32_t slices_asked_ = 0;
  CopyPace pace_;
  base::TimerId pace_timer_;
  // Only for MUTANT(kCopyOutlivesMigration).
  std::map<protocol::PartitionId, MovePtr> kept_;
};

}  // namespace freshet::ps
