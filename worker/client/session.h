// SPDX-License-Identifier: Apache-2.0
// Session: a worker's connection to a cluster: membership, view, leases, pulls and pushes. A brain
// without IO, on one loop; `Client` (client.h) is the blocking form for users' own training code.
// Pulls and pushes are retried until their deadline over restarts and moves of servers. What a call
// borrows must live until its callback ran, which happens exactly once, never inside the call.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/runtime.h"
#include "protocol/buffer_pool.h"
#include "protocol/codec.h"
#include "protocol/messages.h"
#include "protocol/validation.h"
#include "transport/endpoint.h"
#include "transport/rpc_client.h"
#include "worker/client/audit_rows.h"
#include "worker/client/routed_call.h"

namespace freshet::worker {

struct SessionOptions {
  std::string name;  // empty: the master chooses
  std::string master;
  int64_t pid = 0;
  size_t max_in_flight = 1024;  // requests
  base::Duration call_deadline = std::chrono::minutes(5);
  base::Duration attempt = std::chrono::seconds(1);
  // A partition that moves takes no pushes for two or three milliseconds.
  base::Duration min_backoff = std::chrono::microseconds(500);
  base::Duration max_backoff = std::chrono::milliseconds(500);
};

class Session : public transport::PacketHandler {
 public:
  Session(SessionOptions options, base::Runtime runtime, transport::Endpoint& endpoint);
  ~Session() override;

  // Set before Start.
  std::function<void(const protocol::RegisterReply&)> on_registered;
  // The master refused this worker or gave its name to another process: code and reason.
  std::function<void(int, const std::string&)> on_exit;
  // The cluster is being stopped: finish what is in hand and leave. Called once; without it, on_exit.
  std::function<void()> on_leave;

  void Start();
  void OnPacket(transport::PeerId from, protocol::Packet packet) override;

  // The tables' ids in order of the schemas. The same declaration again is fine; a different one under
  // the same name is kConflict.
  using TablesCallback = std::function<void(base::Result<std::vector<protocol::TableId>>)>;
  void DeclareTables(std::vector<protocol::TableSchema> tables, TablesCallback done);

  // Ends a lease (or none) and asks for the next; asks until there is an answer.
  struct LeaseCall {
    protocol::LeaseId ended;
    protocol::LeaseEnd how = protocol::LeaseEnd::kNone;
    bool wants_more = true;
  };
  using LeaseCallback = std::function<void(protocol::LeaseReply)>;
  void RequestLease(const LeaseCall& call, LeaseCallback done);

  using PullCallback = std::function<void(base::Result<>)>;
  void Pull(std::vector<RoutedRows> rows, PullCallback done);

  // One gradient step: to every partition, with the audit rows of the span (I1). `dead` are the span's
  // dead-lettered offsets, ascending.
  struct PushCall {
    protocol::LogId log;
    protocol::Span span;
    std::vector<protocol::Offset> dead;
    std::vector<RoutedRows> rows;
  };
  using PushCallback = std::function<void(base::Result<PushResult>)>;
  void Push(PushCall call, PushCallback done);

  // Predictions of a span whose push was applied (or that was evaluated); sent with heartbeats.
  void AddValidation(protocol::LogId log, protocol::Span span,
                     const protocol::ValidationHistogram& predictions);
  // Nothing of the above is waiting for the master any more.
  bool validation_flushed() const { return chunks_.empty() && unacknowledged_.empty(); }
  protocol::WorkerStats& stats() { return stats_; }
  // Tells the master that this worker cannot do the job.
  void ReportFatal(const std::string& why);

  // What heartbeats name as the lease in hand.
  void SetLease(std::optional<protocol::Lease> lease) { lease_ = std::move(lease); }

  const protocol::View& view() const { return view_; }
  uint32_t partitions() const { return view_.partitions(); }
  protocol::Incarnation incarnation() const { return sender_.incarnation; }
  // What the master calls this worker; until it registered what the options say.
  const std::string& name() const { return options_.name; }

 private:
  using CallId = uint64_t;
  struct Call {
    RoutedCall routed;
    PullCallback pull_done;
    PushCallback push_done;
    std::unique_ptr<AuditRows> audit;
    base::TimerId retry_timer;
    bool retry_scheduled = false;
  };
  struct Attempt {
    CallId call = 0;
    uint16_t node = 0;
    protocol::Incarnation incarnation;
    std::vector<uint16_t> cover;
  };
  struct Peer {
    protocol::Incarnation incarnation;
    transport::PeerId peer;
  };
  struct Chunk {
    protocol::SpanSet spans;
    protocol::ValidationHistogram histogram;
  };
  // Chunks that were sent, by the heartbeat that sent them first.
  struct SentChunks {
    uint64_t number = 0;
    std::vector<protocol::ValidationChunk> chunks;
  };

  void Register();
  void OnRegistered(base::Result<protocol::Packet> reply);
  void OnView(const protocol::View& view);
  void ConnectPeers();
  void RefreshView();
  void Heartbeat();
  void SendChunks(protocol::WorkerHeartbeat* heartbeat);
  void OnHeartbeatReply(uint64_t chunks_sent, base::Result<protocol::Packet> reply);
  void OnHeartbeatRefused(const base::Error& error);
  void SendLease(protocol::LeaseRequest request, LeaseCallback done);
  void SendDeclare(std::vector<protocol::TableSchema> tables, TablesCallback done);
  void StartCall(Call call);
  void Drive(CallId id);
  void Send(CallId id, uint16_t node, std::vector<uint16_t> cover);
  void OnAttempt(protocol::RequestId request, base::Result<protocol::Packet> reply);
  bool HaveMoved(const Attempt& attempt, const std::vector<uint16_t>& waiting) const;
  void ScheduleRetry(CallId id);
  void FinishCall(CallId id, base::Result<> outcome);
  void DropAttemptsOf(CallId id);
  void Exit(int code, const std::string& why);

  SessionOptions options_;
  base::Runtime runtime_;
  transport::Endpoint& endpoint_;
  transport::RpcClient rpc_;
  protocol::BufferPool buffers_;
  transport::PeerId master_;
  uint64_t process_ = 0;
  protocol::Sender sender_;
  protocol::View view_;
  std::map<uint16_t, Peer> peers_;  // by index into view_.nodes
  std::map<CallId, Call> calls_;
  std::map<protocol::RequestId, Attempt> attempts_;
  CallId next_call_ = 0;
  uint64_t lease_sequence_ = 0;
  bool refreshing_ = false;
  bool exited_ = false;
  bool leaving_ = false;
  base::Duration heartbeat_interval_ = std::chrono::milliseconds(200);
  base::TimerId heartbeat_timer_;
  base::TimerId register_timer_;
  std::map<uint64_t, base::TimerId> later_;  // retries of master requests, by lease sequence
  transport::CallWindow heartbeat_calls_{rpc_};
  std::map<protocol::LogId, Chunk> chunks_;
  std::deque<SentChunks> unacknowledged_;
  uint64_t chunks_sent_ = 0;
  protocol::WorkerStats stats_;
  std::string fatal_;
  std::optional<protocol::Lease> lease_;
};

}  // namespace freshet::worker
