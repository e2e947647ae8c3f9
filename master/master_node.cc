// SPDX-License-Identifier: Apache-2.0
// MasterNode: membership, view, heartbeats.
#include "master/master_node.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/mutant.h"

namespace freshet::master {

using base::ErrorCode;
using base::Result;
using protocol::Envelope;
using protocol::MessageType;
using protocol::Packet;
using protocol::PartitionId;
using protocol::RequestId;
using protocol::Role;
using std::chrono::milliseconds;
using transport::PeerId;

namespace {

// Far above any cluster; a bound for what strangers may make the master remember (I7).
constexpr size_t kMaxNodes = 8192;
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxAddressBytes = 256;

Result<> CheckRegistration(const protocol::RegisterRequest& request) {
  const auto refuse = [](const char* why) {
    return base::Fail(ErrorCode::kInvalidArgument, std::string("registration refused: ") + why);
  };
  const bool plain = std::all_of(request.name.begin(), request.name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  if (!plain || request.name.size() > kMaxNameBytes) {
    return refuse("a name has at most 64 characters out of a-z, A-Z, 0-9, '-', '_' and '.'");
  }
  if (request.address.size() > kMaxAddressBytes) return refuse("its address is too long");
  if (request.role == Role::kPs && request.address.empty()) return refuse("a PS without address");
  return {};
}

}  // namespace

MasterNode::MasterNode(MasterOptions options, base::Runtime runtime, transport::Endpoint& endpoint,
                       StateStore& store, Launcher& launcher, LogProbe& probe, ExitHandler exit)
    : options_(std::move(options)),
      runtime_(runtime),
      endpoint_(endpoint),
      store_(store),
      launcher_(launcher),
      probe_(probe),
      exit_(std::move(exit)),
      rpc_(endpoint, runtime, 1024),
      events_(runtime.clock),
      backup_({runtime_, rpc_, sender_, state_, nodes_, events_}),
      plans_({runtime_, state_, nodes_, events_, launcher_, [this] { return Save(); },
              [this] { PublishView(); }, [this](const std::string& name) { LaunchForPlan(name); },
              [this](const Node& node) {
                EndLeasesOf(node);
                KeepCounts(node);
                recoveries_.Forget(node.name);
              },
              [this]() -> ProgressBook& { return *progress_; },
              [this]() -> const LoadWatch& { return *load_; }},
             options_.plans),
      training_(options_.validation_window_records),
      evaluation_(options_.validation_window_records) {}

MasterNode::~MasterNode() {
  runtime_.timers.Cancel(tick_timer_);
  runtime_.timers.Cancel(probe_timer_);
  for (auto& [name, timer] : restart_timers_) runtime_.timers.Cancel(timer);
}

bool MasterNode::Save() {
  if (auto saved = store_.Save(protocol::EncodeStruct(state_)); !saved) {
    Exit(1, "cannot make the cluster's state durable: " + saved.error().message);
    return false;
  }
  return true;
}

void MasterNode::Exit(int code, const std::string& why) {
  if (exited_) return;
  exited_ = true;
  FRESHET_LOG_ERROR("{}", why);
  exit_(code, why);
}

void MasterNode::Fail(const std::string& why, base::ErrorCode code) {
  if (phase_ == Phase::kFailed || phase_ == Phase::kCompleted) return;
  // A stop that is under way ends all the same.
  if (phase_ == Phase::kDraining) return FRESHET_LOG_ERROR("while stopping: {}", why);
  phase_ = Phase::kFailed;
  error_ = why;
  error_code_ = code;
  training_ended_ = runtime_.clock.Now();
  FRESHET_LOG_ERROR("the job failed: {}", why);
  events_.Add("job_failed", "", why);
  plans_.EndAll("the job has failed: " + why);
}

void MasterNode::OnPacket(PeerId from, Packet packet) {
  if (exited_) return;
  const auto envelope = protocol::DecodeEnvelope(packet);
  if (!envelope) {
    FRESHET_LOG_WARN("packet dropped: {}", envelope.error().message);
    return;
  }
  // An error of a stranger is never answered: it would be answered in its turn, without end.
  if (envelope->type == MessageType::kErrorReply && envelope->cluster != state_.cluster) return;
  const bool stranger = envelope->cluster.value() == 0;
  if (envelope->type == MessageType::kRegisterRequest) {
    return OnRegister(from, *envelope, packet);
  }
  if (stranger || envelope->cluster != state_.cluster) {
    return ReplyError(from, envelope->request, ErrorCode::kConflict,
                      "this master leads another cluster than the sender's");
  }
  if (rpc_.OnReply(from, *envelope, packet)) return;
  switch (envelope->type) {
    case MessageType::kPsHeartbeat: return OnPsHeartbeat(from, *envelope, packet);
    case MessageType::kWorkerHeartbeat: return OnWorkerHeartbeat(from, *envelope, packet);
    case MessageType::kViewRequest:
      return Reply(from, envelope->request, protocol::ViewReply{state_.view});
    case MessageType::kLeaseRequest: return OnLeaseRequest(from, *envelope, packet);
    case MessageType::kDeclareTablesRequest: return OnDeclareTables(from, *envelope, packet);
    case MessageType::kMoveReport: return OnMoveReport(from, *envelope, packet);
    default: return;  // a late reply to a request that is over
  }
}

std::string MasterNode::FreeWorkerName(uint64_t process) const {
  // A repeated request of the same process gets the same name.
  for (const auto& [name, node] : nodes_) {
    if (node.role == Role::kWorker && node.process == process) return name;
  }
  for (uint32_t i = 0;; ++i) {
    std::string name = fmt::format("worker-{}", i);
    // The name of somebody who is to leave would make it leave.
    const bool free = !nodes_.contains(name) && !plans_.Leaves(name) && !plans_.WillLeave(name);
    if (free) return name;
  }
}

Result<> MasterNode::CheckKnown(const protocol::RegisterRequest& request) const {
  const auto known = nodes_.find(request.name);
  if (known == nodes_.end()) {
    if (nodes_.size() < kMaxNodes) return {};
    return base::Fail(ErrorCode::kResourceExhausted,
                      fmt::format("a cluster has at most {} nodes", kMaxNodes));
  }
  const Node& node = known->second;
  if (node.role != request.role) {
    return base::Fail(ErrorCode::kConflict,
                      "the name " + request.name + " belongs to a node of another role");
  }
  // A hello of a child that ended since may be late: it must not displace the one that runs.
  const bool ended = node.launched && node.pid != 0 && node.pid != request.pid;
  if (!ended || MUTANT(kLateHello)) return {};
  return base::Fail(ErrorCode::kConflict, fmt::format("{} runs as process {}, not {}", request.name,
                                                      node.pid, request.pid));
}

void MasterNode::OnRegister(PeerId from, const Envelope& envelope, const Packet& packet) {
  auto request = protocol::DecodeBody<protocol::RegisterRequest>(packet);
  if (!request) {
    return ReplyError(from, envelope.request, request.error().code, request.error().message);
  }
  if (auto ok = CheckRegistration(*request); !ok) {
    return ReplyError(from, envelope.request, ok.error().code, ok.error().message);
  }
  const bool joins_later = envelope.cluster.value() != 0 && envelope.cluster != state_.cluster;
  if (phase_ == Phase::kDraining) {
    return ReplyError(from, envelope.request, ErrorCode::kUnavailable,
                      "the cluster is being stopped; ask again when it is back");
  }
  if (joins_later || (request->role == Role::kPs && request->name.empty())) {
    return ReplyError(from, envelope.request, ErrorCode::kConflict,
                      "registration refused: of another cluster, or a PS without --name");
  }
  if (request->name.empty()) request->name = FreeWorkerName(request->process);
  if (auto ok = CheckKnown(*request); !ok) {
    return ReplyError(from, envelope.request, ok.error().code, ok.error().message);
  }
  Node& node = nodes_[request->name];
  if (node.process != request->process || node.incarnation.value() == 0) {
    EndLeasesOf(node);
    // What its predecessor was asked is not the same asked of it: it may have lost what was applied.
    if (const PeerId before = std::exchange(node.peer, PeerId()); before != PeerId()) {
      rpc_.GiveUp(before, {ErrorCode::kUnavailable, "it was replaced by a new process; try again"});
    }
    node.name = request->name;
    node.role = request->role;
    node.process = request->process;
    node.pid = request->pid;
    node.started = runtime_.clock.Now();
    KeepCounts(node);
    node.worker = {};
    node.ps = {};
    node.leasing = {};
    node.excluded = false;
    node.incarnation = state_.last_incarnation = state_.last_incarnation.Next();
    std::erase_if(state_.nodes, [&](const KnownNode& k) { return k.name == node.name; });
    state_.nodes.push_back({node.role, node.name, node.incarnation, node.process, node.pid,
                            node.restarts, node.launched});
    plans_.OnNodeBegins(node);
    if (node.role == Role::kPs) RegisterPs(node, *request);
    if (!Save()) return;
    events_.Add("node_registered", node.name,
                fmt::format("incarnation {}, pid {}", node.incarnation.value(), node.pid));
    if (node.role == Role::kPs) PublishView();
  }
  HeardFrom(node, from);
  node.state = "running";
  if (node.role == Role::kPs) PlanShareOf(node);
  Reply(from, envelope.request,
        protocol::RegisterReply{state_.cluster, node.incarnation, node.name, state_.view,
                                options_.job,
                                static_cast<uint64_t>(options_.heartbeat.count() / 1000)});
}

// Who came by itself gets its share.
void MasterNode::PlanShareOf(const Node& node) {
  const auto& servers = state_.servers;
  const bool known = std::find(servers.begin(), servers.end(), node.name) != servers.end();
  if (known || plans_.Leaves(node.name) || plans_.WillLeave(node.name) || !state_.placed) return;
  if (auto added = AddPlan({PlanKind::kJoin, 0, 0, node.name}); !added) {
    FRESHET_LOG_WARN("{} gets no partitions: {}", node.name, added.error().message);
  }
}

void MasterNode::HeardFrom(Node& node, PeerId from) {
  // What it was asked on a connection that is gone it is asked anew.
  if (node.peer != from && node.peer != PeerId()) rpc_.Redirect(node.peer, from);
  node.peer = from;
  node.connected = true;
  node.awaited = false;
  node.last_heard = runtime_.clock.Now();
}

// Rule G6: a new process serves these partitions from now on, so their tenures are raised in the write
// that makes it theirs.
void MasterNode::RegisterPs(Node& node, const protocol::RegisterRequest& request) {
  node.address = request.address;
  protocol::View& view = state_.view;
  const uint16_t index = IndexFor(node.name);
  view.nodes[index].incarnation = node.incarnation;
  view.nodes[index].address = request.address;
  view.number = view.number.Next();
  RaiseTenures(index);
  PlaceFirst();
}

// The place of a server that has left is taken by the next one that joins, so that a view does not grow
// for ever.
uint16_t MasterNode::IndexFor(const std::string& name) {
  protocol::View& view = state_.view;
  if (const auto index = view.FindNode(name)) return *index;
  for (size_t n = 0; n < view.nodes.size(); ++n) {
    const auto& servers = state_.servers;
    const bool used =
        view.nodes[n].incarnation.value() != 0 ||
        std::find(servers.begin(), servers.end(), view.nodes[n].name) != servers.end() ||
        std::any_of(view.places.begin(), view.places.end(),
                    [n](const protocol::Place& place) { return place.node == n; });
    if (used) continue;
    view.nodes[n].name = name;
    return static_cast<uint16_t>(n);
  }
  view.nodes.push_back({name, {}, {}});
  return static_cast<uint16_t>(view.nodes.size() - 1);
}

void MasterNode::RaiseTenures(uint16_t node) {
  for (size_t p = 0; p < state_.view.places.size(); ++p) {
    protocol::Place& place = state_.view.places[p];
    if (place.target == node) {
      place.migration = protocol::MigrationId();
      place.target = protocol::kNoNode;
    }
    if (place.node != node || MUTANT(kRestartKeepsTenure)) continue;
    place.tenure = place.tenure.Next();
    place.migration = protocol::MigrationId();
    place.target = protocol::kNoNode;
    progress_->Forget(PartitionId(static_cast<uint16_t>(p)));
  }
}

// Once all expected servers are there: neighbouring partitions together, shares equal within one.
void MasterNode::PlaceFirst() {
  protocol::View& view = state_.view;
  if (state_.placed || view.nodes.size() < options_.ps) return;
  state_.placed = true;
  for (size_t p = 0; p < view.places.size(); ++p) {
    view.places[p].node = static_cast<uint16_t>(p * view.nodes.size() / view.places.size());
    view.places[p].tenure = view.places[p].tenure.Next();
  }
  for (const protocol::ViewNode& node : view.nodes) state_.servers.push_back(node.name);
}

void MasterNode::OnMoveReport(PeerId from, const Envelope& envelope, const Packet& packet) {
  const Node* node = Sender(from, envelope);
  if (node == nullptr) return;
  const auto report = protocol::DecodeBody<protocol::MoveReport>(packet);
  if (!report) {
    return ReplyError(from, envelope.request, report.error().code, report.error().message);
  }
  const auto taken = plans_.OnReport(node->name, *report);
  if (exited_) return;  // nothing of it is durable
  if (!taken) {
    return ReplyError(from, envelope.request, taken.error().code, taken.error().message);
  }
  Reply(from, envelope.request, protocol::MoveReportReply());
}

void MasterNode::PublishView() {
  // Servers first: workers ask those that the view names at once.
  for (const Role role : {Role::kPs, Role::kWorker}) {
    for (const auto& [name, node] : nodes_) {
      if (!node.connected || node.role != role) continue;
      Reply(node.peer, RequestId(), protocol::ViewReply{state_.view});
    }
  }
}

Node* MasterNode::FindIncarnation(protocol::Incarnation incarnation) {
  for (auto& [name, node] : nodes_) {
    if (node.incarnation == incarnation && incarnation.value() != 0) return &node;
  }
  return nullptr;
}

// The last words of a process may come after its end was seen. They count, but it is not here any more.
bool MasterNode::Ended(const Node& node) const {
  return node.launched &&
         (node.state == "stopped" || node.state == "restarting" || node.state == "starting");
}

// The node that speaks, if it is the current process of its name; otherwise it is told to go.
Node* MasterNode::Sender(PeerId from, const Envelope& envelope) {
  Node* node = FindIncarnation(envelope.sender);
  if (node == nullptr && plans_.HasLeft(envelope.sender)) {
    ReplyError(from, envelope.request, ErrorCode::kUnavailable, "no plan needs this node: leave");
    return nullptr;
  }
  if (node == nullptr) {
    ReplyError(from, envelope.request, ErrorCode::kConflict,
               "another process has taken this node's name since");
    return nullptr;
  }
  if (Ended(*node)) return node;
  HeardFrom(*node, from);
  const char* state = node->excluded ? "excluded" : "running";
  if (node->state != state) {
    if (node->state == "lost") events_.Add("node_back", node->name, "heard again");
    node->state = state;
  }
  return node;
}

// Rule G9: an entry counts iff its tenure and owner are the current ones.
void MasterNode::OnPsHeartbeat(PeerId from, const Envelope& envelope, const Packet& packet) {
  Node* node = Sender(from, envelope);
  if (node == nullptr && !MUTANT(kOldIncarnation)) return;
  const auto heartbeat = protocol::DecodeBody<protocol::PsHeartbeat>(packet);
  if (!heartbeat) {
    return ReplyError(from, envelope.request, heartbeat.error().code, heartbeat.error().message);
  }
  TakeReports(*heartbeat, node);
  if (node == nullptr) return;
  node->ps = heartbeat->stats;
  if (const auto index = state_.view.FindNode(node->name)) {
    load_->OnServer(*index, node->incarnation, node->ps);
  }
  NoteServing(*node);
  CountRecords();
  ReplyHeartbeat(*node, envelope.request, heartbeat->view);
  AdvancePhase();
}

void MasterNode::TakeReports(const protocol::PsHeartbeat& heartbeat, const Node* node) {
  const auto index = node == nullptr ? std::nullopt : state_.view.FindNode(node->name);
  for (const protocol::PartitionReport& report : heartbeat.partitions) {
    if (report.partition.value() >= state_.view.partitions() ||
        report.applied_index >= heartbeat.applied.size() ||
        report.durable_index >= heartbeat.durable.size()) {
      FRESHET_LOG_WARN("a report that cannot be right was dropped");
      continue;
    }
    const protocol::Place& place = state_.view.places[report.partition.value()];
    const bool current = index && place.node == *index && place.tenure == report.tenure;
    if (!current && !MUTANT(kOldIncarnation)) continue;
    progress_->Report(report.partition, heartbeat.applied[report.applied_index],
                      heartbeat.durable[report.durable_index]);
    leases_->OnReport(report.partition);
    load_->OnPartition(report);
  }
}

void MasterNode::OnWorkerHeartbeat(PeerId from, const Envelope& envelope, const Packet& packet) {
  Node* node = Sender(from, envelope);
  if (node == nullptr) return;
  const auto heartbeat = protocol::DecodeBody<protocol::WorkerHeartbeat>(packet);
  if (!heartbeat) {
    return ReplyError(from, envelope.request, heartbeat.error().code, heartbeat.error().message);
  }
  node->worker = heartbeat->stats;
  for (const protocol::ValidationChunk& chunk : heartbeat->validation) {
    const auto log = logs_.find(chunk.log);
    if (log == logs_.end()) continue;
    const bool trains = log->second.spec.purpose == protocol::LogPurpose::kTrain;
    (trains ? training_ : evaluation_).Add(chunk);
  }
  TakeClaim(*node, *heartbeat);
  if (!heartbeat->fatal.empty()) OnFatal(*node, heartbeat->fatal);
  ReplyHeartbeat(*node, envelope.request, heartbeat->view);
}

// Somebody else's worker may lack a file, or be of another version: that is no reason to end the job of
// those that can do it.
void MasterNode::OnFatal(Node& node, const std::string& why) {
  if (node.excluded) return;
  size_t able = 0;
  size_t excluded = 1;
  for (const auto& [name, other] : nodes_) {
    if (other.role != Role::kWorker || name == node.name) continue;
    if (other.excluded)
      ++excluded;
    else if (other.state != "lost" && other.state != "stopped")
      ++able;
  }
  if (node.launched || (able == 0 && excluded >= options_.workers)) {
    return Fail(node.name + ": " + why);
  }
  node.excluded = true;
  node.state = "excluded";
  EndLeasesOf(node);
  events_.Add("worker_excluded", node.name, why);
}

void MasterNode::ReplyHeartbeat(const Node& node, RequestId request, protocol::ViewNumber known) {
  if (MustLeave(node)) {
    return ReplyError(node.peer, request, ErrorCode::kUnavailable,
                      "the cluster is being stopped: make durable and leave");
  }
  protocol::HeartbeatReply reply;
  if (known < state_.view.number) reply.view = state_.view;
  Reply(node.peer, request, reply);
}

void MasterNode::OnDeclareTables(PeerId from, const Envelope& envelope, const Packet& packet) {
  if (Sender(from, envelope) == nullptr) return;
  const auto request = protocol::DecodeBody<protocol::DeclareTablesRequest>(packet);
  if (!request) {
    return ReplyError(from, envelope.request, request.error().code, request.error().message);
  }
  std::vector<protocol::Table> tables = state_.view.tables;
  for (const protocol::TableSchema& schema : request->tables) {
    if (auto ok = protocol::ValidateTable(schema); !ok) {
      return ReplyError(from, envelope.request, ok.error().code, ok.error().message);
    }
    const auto known = std::find_if(tables.begin(), tables.end(), [&](const protocol::Table& t) {
      return t.schema.name == schema.name;
    });
    if (known == tables.end()) {
      if (tables.size() >= protocol::kMaxTables) {
        return ReplyError(from, envelope.request, ErrorCode::kResourceExhausted,
                          fmt::format("a cluster has at most {} tables", protocol::kMaxTables));
      }
      tables.push_back({protocol::TableId(static_cast<uint16_t>(tables.size())), schema});
    } else if (known->schema != schema) {
      return ReplyError(from, envelope.request, ErrorCode::kConflict,
                        "table " + schema.name +
                            " was declared differently before: use another name, or the same "
                            "model configuration as when the cluster was created");
    }
  }
  if (tables.size() != state_.view.tables.size()) {
    state_.view.tables = std::move(tables);
    state_.view.number = state_.view.number.Next();
    if (!Save()) return;
    PublishView();
  }
  Reply(from, envelope.request, protocol::DeclareTablesReply{state_.view});
}

}  // namespace freshet::master
