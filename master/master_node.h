// SPDX-License-Identifier: Apache-2.0
// MasterNode: the brain of the cluster: membership, view, leases, job. Never on the data path. Runs on
// one loop; owns its books; borrows endpoint, store, launcher and runtime. Every change of an owner is
// durable before anyone hears of it; if that write fails the master exits (nobody else stops).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/runtime.h"
#include "master/audit_check.h"
#include "master/backup_run.h"
#include "master/cluster_state.h"
#include "master/event_log.h"
#include "master/launcher.h"
#include "master/lease_book.h"
#include "master/load_watch.h"
#include "master/log_tail.h"
#include "master/plan_runner.h"
#include "master/progress_book.h"
#include "master/recovery_watch.h"
#include "master/validation_book.h"
#include "protocol/codec.h"
#include "transport/endpoint.h"
#include "transport/rpc_client.h"

namespace freshet::master {

// Tells how far a log goes; may block (it runs on the executor).
class LogProbe {
 public:
  virtual ~LogProbe() = default;
  // First offset that is not durable in the log yet. Asked again and again of a log that is followed;
  // an error then ends the job.
  virtual base::Result<protocol::Offset> SyncedEnd(const protocol::LogSpec& log) = 0;
};

struct MasterOptions {
  protocol::JobSpec job;
  uint32_t partitions = 256;
  uint32_t ps = 1;
  uint32_t workers = 1;
  base::Duration heartbeat = std::chrono::milliseconds(100);
  // A node that says nothing for this long is taken for lost; its leases go to others.
  base::Duration node_timeout = std::chrono::seconds(10);
  // A lease should cover about this much work.
  base::Duration lease_target = std::chrono::seconds(40);
  uint64_t max_lease_records = 50'000'000;
  // How long the newest records of a log that grows wait for more when they do not fill a batch.
  base::Duration linger = std::chrono::seconds(1);
  uint64_t validation_window_records = 100'000;
  uint32_t max_quick_restarts = 10;
  // A node of the launcher that says nothing for this long is killed and started again.
  base::Duration hung_timeout = std::chrono::seconds(30);
  // How long Stop waits for the nodes to make durable and leave before it kills what it may.
  base::Duration drain_timeout = std::chrono::seconds(45);
  PlanLimits plans;
  // Servers that are slow, hot or short of memory shed partitions without being told to.
  bool auto_balance = false;
  LoadWatchOptions balance;
  std::vector<std::string> ps_args;      // for the launcher
  std::vector<std::string> worker_args;  // for the launcher
};

enum class Phase : uint8_t {
  kStarting,
  kTraining,
  kFinishing,  // everything applied; making it durable
  kEvaluating,
  kAuditing,
  kCompleted,
  kFailed,
  kDraining
};
std::string PhaseName(Phase phase);

// What a worker's process and the master say of leases.
struct LeaseTalk {
  uint64_t sequence = 0;                 // of its newest request
  std::optional<protocol::Lease> claim;  // of the master before; not yet judged
  protocol::LeaseId refused;             // the last claim that was
};

// A PS or worker as the master sees it.
struct Node {
  protocol::Role role = protocol::Role::kPs;
  std::string name;
  // starting, adopted, running, excluded, lost, restarting, stopped
  std::string state = "starting";
  bool launched = false;  // by the launcher; it is started again when it ends
  bool awaited = false;   // known from before this master started, not heard yet
  bool kill_asked = false;
  bool excluded = false;  // a guest that cannot do the job; it gets no more leases
  protocol::Incarnation incarnation;
  uint64_t process = 0;
  int64_t pid = 0;
  uint32_t restarts = 0;
  uint32_t quick_exits = 0;  // in a row
  std::string address;
  transport::PeerId peer;
  bool connected = false;
  base::Instant started;
  base::Instant last_heard;
  protocol::PsStats ps;
  protocol::WorkerStats worker;
  LeaseTalk leasing;
  double rows_per_sec = 0;
  double records_per_sec = 0;
  // Nothing: of a process that is older than this master, not sampled yet.
  std::optional<uint64_t> sampled_units = 0;
  std::optional<uint64_t> noted_images = 0;  // that an event told of
  uint64_t noted_refused = 0;  // pushes
  std::optional<base::Instant> refusal_said;
};

struct LogState {
  protocol::LogSpec spec;
  protocol::Offset end = 0;
  bool probed = false;
  LogTail tail;
};

class MasterNode : public transport::PacketHandler {
 public:
  using ExitHandler = std::function<void(int, const std::string&)>;

  MasterNode(MasterOptions options, base::Runtime runtime, transport::Endpoint& endpoint,
             StateStore& store, Launcher& launcher, LogProbe& probe, ExitHandler exit);
  ~MasterNode() override;

  // Loads or creates the cluster, probes the logs, starts the processes.
  void Start();
  void OnPacket(transport::PeerId from, protocol::Packet packet) override;
  void OnNodeExit(const NodeExit& exit);

  // Everything applied before the call is durable on every PS.
  void Checkpoint(std::function<void(base::Result<>)> done);
  void Audit(std::function<void(base::Result<AuditResult>)> done);
  // Copies what is durable to another place while the cluster works; see backup_status() for its end.
  base::Result<> StartBackup(std::shared_ptr<BackupWriter> writer);
  // What a plan would do; why it cannot be. kUnavailable while the cluster starts or stops.
  base::Result<PlanRunner::Preview> CheckPlan(const PlanRequest& request) const;
  // Its id; its end is in plans().
  base::Result<uint64_t> AddPlan(const PlanRequest& request);
  base::Result<> CancelPlan(uint64_t id) { return plans_.Cancel(id); }
  const std::vector<PlanRecord>& plans() const { return state_.plans; }
  // So many there shall be, now or when the plans that were asked for have ended.
  size_t WantedServers() const;
  size_t WantedWorkers() const;
  // Asks every node to leave, workers first; calls `done` when all are gone, or with kTimeout when some
  // had to be killed. May be asked more than once.
  void Stop(std::function<void(base::Result<>)> done);

  // For status and tests.
  const MasterOptions& options() const { return options_; }
  Phase phase() const { return phase_; }
  const std::string& error() const { return error_; }
  base::ErrorCode error_code() const { return error_code_; }
  const ClusterState& state() const { return state_; }
  const protocol::View& view() const { return state_.view; }
  const std::map<std::string, Node>& nodes() const { return nodes_; }
  const std::map<protocol::LogId, LogState>& logs() const { return logs_; }
  const ProgressBook& progress() const { return *progress_; }
  const ValidationBook& training_validation() const { return training_; }
  const ValidationBook& evaluation() const { return evaluation_; }
  const std::optional<AuditResult>& final_audit() const { return final_audit_; }
  EventLog& events() { return events_; }
  BackupStatus backup_status() const { return backup_.Status(); }
  const base::Clock& clock() const { return runtime_.clock; }
  // The last that is known while reports are missing.
  uint64_t RecordsDone() const { return records_done_; }
  uint64_t RecordsTotal() const;
  uint64_t Steps() const;
  double records_per_sec() const { return records_per_sec_; }
  double steps_per_sec() const { return steps_per_sec_; }
  double Seconds() const;
  uint32_t TotalRestarts() const;
  // Since this master started: records that workers pushed and every partition had already, and pushes
  // that overlapped with what was there.
  uint64_t ReplayedRecords() const;
  uint64_t Conflicts() const;
  // Everything there is is learnt, but more may come.
  bool WaitsForRecords() const;

 private:
  // start, end and the nodes' processes (master_members.cc)
  base::Result<> LoadState();
  base::Result<> CheckSameJob() const;
  void RecallNodes();
  void RecallServers();
  void FollowConfiguration();
  void StartNodes();
  bool AdoptNode(const std::string& name);
  NodeSpec SpecOf(const std::string& name) const;
  void Launch(const std::string& name);
  void LaunchForPlan(const std::string& name);
  base::Result<> StartProcess(const std::string& name);
  void KeepCounts(const Node& node);
  void CheckNodes();
  void MissNode(Node& node, base::Duration silence);
  void KillIfHung(Node& node, base::Duration silence);
  void ForgetGuests();
  bool AwaitsHolders() const;
  bool StillHere(const Node& node) const;
  bool MustLeave(const Node& node) const;
  void AskToLeave(protocol::Role role);
  void CheckStopped();
  void EndStop(const base::Result<>& outcome);

  // membership (master_node.cc)
  bool Save();
  // `code` tells the command what to exit with.
  void Fail(const std::string& why, base::ErrorCode code = base::ErrorCode::kFailed);
  void Exit(int code, const std::string& why);
  base::Result<> CheckKnown(const protocol::RegisterRequest& request) const;
  void OnRegister(transport::PeerId from, const protocol::Envelope& envelope,
                  const protocol::Packet& packet);
  std::string FreeWorkerName(uint64_t process) const;
  void RegisterPs(Node& node, const protocol::RegisterRequest& request);
  void PlanShareOf(const Node& node);
  void PlaceFirst();
  void PublishView();
  void RaiseTenures(uint16_t node);
  uint16_t IndexFor(const std::string& name);
  void OnMoveReport(transport::PeerId from, const protocol::Envelope& envelope,
                    const protocol::Packet& packet);
  void HeardFrom(Node& node, transport::PeerId from);
  Node* FindIncarnation(protocol::Incarnation incarnation);
  bool Ended(const Node& node) const;
  Node* Sender(transport::PeerId from, const protocol::Envelope& envelope);
  void OnPsHeartbeat(transport::PeerId from, const protocol::Envelope& envelope,
                     const protocol::Packet& packet);
  void TakeReports(const protocol::PsHeartbeat& heartbeat, const Node* node);
  void OnWorkerHeartbeat(transport::PeerId from, const protocol::Envelope& envelope,
                         const protocol::Packet& packet);
  void OnFatal(Node& node, const std::string& why);
  void ReplyHeartbeat(const Node& node, protocol::RequestId request, protocol::ViewNumber known);
  void OnDeclareTables(transport::PeerId from, const protocol::Envelope& envelope,
                       const protocol::Packet& packet);
  template <class Message>
  void Reply(transport::PeerId to, protocol::RequestId request, const Message& message) {
    // A reply that cannot be queued is a lost reply: the other side asks again.
    (void)endpoint_.Send(to, protocol::EncodePacket(sender_, request, message));
  }
  void ReplyError(transport::PeerId to, protocol::RequestId request, base::ErrorCode code,
                  const std::string& message) {
    Reply(to, request, protocol::ErrorReply{code, message});
  }

  // logs (master_logs.cc)
  void ProbeLogs(std::vector<protocol::LogSpec> specs);
  void TakeEnd(LogState& log, protocol::Offset end);
  void FollowLogs();
  bool Follows() const;
  base::Result<> CheckReplayable() const;
  bool CutToBatches(LogState& log, protocol::Span& gap);
  void TakeClaim(Node& node, const protocol::WorkerHeartbeat& heartbeat);
  void AdoptClaim(Node& node);

  // job (master_job.cc)
  void OnLeaseRequest(transport::PeerId from, const protocol::Envelope& envelope,
                      const protocol::Packet& packet);
  std::optional<protocol::Lease> GrantLease(const LeaseBook::Holder& holder, const Node& worker);
  uint64_t LeaseRecords(const LogState& log, const Node& worker) const;
  void BeginTicks();
  void ForgiveOwnAbsence();
  void Tick();
  void CountRecords();
  void NoteServing(const Node& node);
  void SampleRates();
  void Balance();
  bool AddServerForMemory(const std::string& why);
  void NoteRefused(Node& node);
  void AdvancePhase();
  bool AllDone() const;
  bool AllDurable() const;
  bool AllEvaluated() const;
  void EnterFinishing();
  void AwaitPredictions();
  void EnterEvaluating();
  void EnterAuditing();
  bool BackToTraining();
  void Complete();
  void EndLeasesOf(const Node& node);
  bool OwnsPartitions(const std::string& name) const;
  struct PendingAudit {
    base::Instant give_up;
    std::function<void(base::Result<AuditResult>)> done;
  };
  void AuditUntil(PendingAudit audit);
  template <class Request, class Response>
  void AskEveryPs(const Request& request, base::Duration deadline,
                  std::function<void(base::Result<std::vector<Response>>)> done);

  MasterOptions options_;
  base::Runtime runtime_;
  transport::Endpoint& endpoint_;
  StateStore& store_;
  Launcher& launcher_;
  LogProbe& probe_;
  ExitHandler exit_;
  transport::RpcClient rpc_;
  EventLog events_;
  ClusterState state_;
  protocol::Sender sender_;
  std::map<std::string, Node> nodes_;
  std::map<protocol::LogId, LogState> logs_;
  std::unique_ptr<ProgressBook> progress_;
  std::unique_ptr<LeaseBook> leases_;
  RecoveryWatch recoveries_;
  std::vector<PendingAudit> pending_audits_;  // to be asked again with the next tick
  BackupRun backup_;
  PlanRunner plans_;
  std::unique_ptr<LoadWatch> load_;
  std::optional<base::Instant> memory_noted_;
  uint64_t records_done_ = 0;
  ValidationBook training_;
  ValidationBook evaluation_;
  Phase phase_ = Phase::kStarting;
  std::string error_;
  base::ErrorCode error_code_ = base::ErrorCode::kFailed;
  std::optional<AuditResult> final_audit_;
  base::Instant training_began_;
  base::Instant training_ended_;
  base::TimerId tick_timer_;
  base::Instant ticked_;
  base::TimerId probe_timer_;
  std::map<std::string, base::TimerId> restart_timers_;
  base::Instant sampled_;
  uint64_t sampled_records_ = 0;
  uint64_t sampled_steps_ = 0;
  protocol::WorkerStats gone_;  // sums over worker processes that are gone
  double records_per_sec_ = 0;
  double steps_per_sec_ = 0;
  std::optional<base::Instant> durable_since_;  // while finishing
  bool asking_ps_ = false;                      // a checkpoint of the job's end is under way
  bool exited_ = false;
  bool stopping_workers_ = false;
  std::vector<std::function<void(base::Result<>)>> stopped_;
  base::Instant stop_deadline_;
  base::Instant started_;
};

}  // namespace freshet::master
