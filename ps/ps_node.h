// SPDX-License-Identifier: Apache-2.0
// PsNode: the brain of a parameter server. Registers, follows the view, loads and serves partitions,
// reports what is applied and durable. Runs on one loop; owns its partitions; borrows endpoint, store
// and runtime. It never aborts on a peer's bytes; when it cannot go on it calls `exit` once.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/runtime.h"
#include "checkpoint/image_store.h"
#include "protocol/codec.h"
#include "protocol/messages.h"
#include "ps/checkpointer.h"
#include "ps/copy_source.h"
#include "ps/data_service.h"
#include "ps/image_copier.h"
#include "ps/memory_toucher.h"
#include "ps/move_target.h"
#include "ps/row_arena.h"
#include "ps/slot.h"
#include "ps/work_meter.h"
#include "transport/endpoint.h"
#include "transport/rpc_client.h"

namespace freshet::ps {

struct PsOptions {
  std::string name;     // "ps-0"
  std::string address;  // where others reach this PS
  std::string master;
  int64_t pid = 0;
  CheckpointerOptions checkpoint;
  uint64_t memory_limit_bytes = 64ull << 30;
  CopyPaceOptions migration_pace;
  ProcessorTimes processor_times;
  base::Executor* memory_executor = nullptr;  // see MemoryToucher
};

class PsNode : public transport::PacketHandler {
 public:
  // `exit` is called with an exit code and the reason; the process should end soon after.
  using ExitHandler = std::function<void(int, const std::string&)>;

  PsNode(PsOptions options, base::Runtime runtime, transport::Endpoint& endpoint,
         checkpoint::ImageStore& store, ExitHandler exit);
  ~PsNode() override;

  void Start();
  void OnPacket(transport::PeerId from, protocol::Packet packet) override;
  // Stops taking pushes, makes everything durable, then calls `done`; also when the disk does not take
  // it for long.
  void Drain(std::function<void()> done);

  const protocol::View& view() const { return view_; }
  protocol::Incarnation incarnation() const { return sender_.incarnation; }
  const Slots& slots() const { return slots_; }

 private:
  void Register();
  void OnRegistered(base::Result<protocol::Packet> reply);
  void OnView(const protocol::View& view);
  void AddTables(const protocol::View& view);
  void Activate(protocol::PartitionId partition, protocol::Tenure tenure);
  void Deactivate(protocol::PartitionId partition, protocol::Tenure below);
  void LoadNext();
  void OnLoaded(protocol::PartitionId partition, protocol::Tenure tenure,
                base::Result<std::vector<protocol::Image>> images);
  void Heartbeat();
  void HeartbeatSoon();
  void NoteRefused();
  void OnHeartbeatReply(base::Result<protocol::Packet> reply);
  protocol::PsHeartbeat BuildHeartbeat() const;
  void WatchDrain(uint64_t images_saved, const std::function<void()>& leave);
  void OnRequest(transport::PeerId from, const protocol::Envelope& envelope,
                 protocol::Packet& packet);
  void OnData(transport::PeerId from, const protocol::Envelope& envelope,
              const protocol::Packet& packet);
  void OnPull(transport::PeerId from, protocol::RequestId request, const protocol::Packet& packet);
  void OnPush(transport::PeerId from, protocol::RequestId request, const protocol::Packet& packet);
  void OnCheckpoint(transport::PeerId from, protocol::RequestId request);
  void OnAudit(transport::PeerId from, protocol::RequestId request);
  void OnCopy(transport::PeerId from, protocol::RequestId request, const protocol::Packet& packet);
  void OnBackup(transport::PeerId from, protocol::RequestId request,
                const protocol::Packet& packet);
  template <class Message>
  void Reply(transport::PeerId to, protocol::RequestId request, const Message& message,
             std::vector<protocol::Buffer> arrays = {});
  void ReplyError(transport::PeerId to, protocol::RequestId request, const base::Error& error);
  void Exit(int code, const std::string& why);

  PsOptions options_;
  base::Runtime runtime_;
  transport::Endpoint& endpoint_;
  checkpoint::ImageStore& store_;
  ExitHandler exit_;
  RowArena arena_;
  MemoryToucher toucher_;
  TableSet tables_;
  Slots slots_;
  DataService data_;
  Checkpointer checkpointer_;
  ImageCopier copier_;
  CopySource source_;
  transport::RpcClient rpc_;
  transport::PeerId master_;
  uint64_t process_ = 0;
  protocol::Sender sender_;
  protocol::View view_;
  MoveTarget target_;
  WorkMeter work_;
  base::Duration heartbeat_interval_ = std::chrono::milliseconds(200);
  base::TimerId heartbeat_timer_;
  base::TimerId register_timer_;
  base::TimerId drain_timer_;
  transport::CallWindow heartbeat_calls_{rpc_};
  std::deque<std::pair<protocol::PartitionId, protocol::Tenure>> to_load_;
  uint64_t refused_ = 0;  // pushes, when it was looked at last
  std::optional<base::Instant> last_refused_;
  bool load_running_ = false;
  bool draining_ = false;
  bool exited_ = false;
  // Only for MUTANT(kServeOldRows).
  std::map<protocol::PartitionId, std::unique_ptr<Partition>> left_rows_;
  // Checkpoint requests that are being worked on, so that a repeated one is not begun again.
  std::set<std::pair<transport::PeerId, protocol::RequestId>> checkpoints_;
};

}  // namespace freshet::ps
