// SPDX-License-Identifier: Apache-2.0
// MasterNode: leases, phases of the job, checkpoint, audit.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/mutant.h"
#include "master/master_node.h"

namespace freshet::master {

using base::ErrorCode;
using base::Result;
using protocol::Envelope;
using protocol::LogPurpose;
using protocol::Packet;
using protocol::Role;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::PeerId;

namespace {

constexpr milliseconds kTick{100};
// A tick that comes later by this: the process was stopped, or its machine, or its disk stood still.
constexpr milliseconds kOwnAbsence{500};
constexpr seconds kPredictionPatience{2};
// Partitions that move may be reported by nobody for a moment.
constexpr seconds kAuditPatience{20};

double InSeconds(base::Duration duration) { return static_cast<double>(duration.count()) / 1e6; }

// Only for MUTANT(kTrustFinished): what rule G14 forbids.
void TrustFinished(const LeaseBook& leases, LeaseBook::Holder holder, ProgressBook* progress) {
  const protocol::Lease* lease = nullptr;
  while (lease == nullptr && holder.sequence-- > 1) lease = leases.Find(holder);
  if (lease == nullptr) return;
  protocol::AppliedSets applied;
  applied.Mutable(lease->log).Add(lease->span);
  for (uint32_t p = 0; p < progress->partitions(); ++p) {
    progress->Report(protocol::PartitionId(static_cast<uint16_t>(p)), applied, {});
  }
}

}  // namespace

std::string PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kStarting: return "starting";
    case Phase::kTraining: return "training";
    case Phase::kFinishing: return "finishing";
    case Phase::kEvaluating: return "evaluating";
    case Phase::kAuditing: return "auditing";
    case Phase::kCompleted: return "completed";
    case Phase::kFailed: return "failed";
    case Phase::kDraining: return "draining";
  }
  return "unknown";
}

void MasterNode::OnLeaseRequest(PeerId from, const Envelope& envelope, const Packet& packet) {
  Node* node = Sender(from, envelope);
  if (node == nullptr) return;
  const auto request = protocol::DecodeBody<protocol::LeaseRequest>(packet);
  if (!request) {
    return ReplyError(from, envelope.request, request.error().code, request.error().message);
  }
  const LeaseBook::Holder holder{envelope.sender, request->sequence};
  LeaseTalk& talk = node->leasing;
  if (request->sequence < talk.sequence) return;  // an old repetition
  const bool repeated = request->sequence == talk.sequence;
  talk.sequence = request->sequence;
  protocol::LeaseReply reply;
  reply.sequence = request->sequence;
  reply.answer = protocol::LeaseAnswer::kWait;
  reply.wait_ms = 50;
  reply.view = state_.view;
  if (const protocol::Lease* lease = leases_->Find(holder)) {
    reply.answer = protocol::LeaseAnswer::kLease;
    reply.lease = *lease;
    return Reply(from, envelope.request, reply);
  }
  if (MUTANT(kTrustFinished) && request->how == protocol::LeaseEnd::kFinished) {
    TrustFinished(*leases_, holder, progress_.get());
  }
  if (!repeated) {
    EndLeasesOf(*node);
    talk.claim.reset();
  }
  if (phase_ == Phase::kCompleted) {
    reply.answer = protocol::LeaseAnswer::kComplete;
  } else if (request->wants_more && !repeated && !node->excluded) {
    // Whoever was told to wait asks anew: a lease for a request that is over would be nobody's.
    if (auto lease = GrantLease(holder, *node)) {
      reply.answer = protocol::LeaseAnswer::kLease;
      reply.lease = std::move(*lease);
    }
  }
  Reply(from, envelope.request, reply);
}

uint64_t MasterNode::LeaseRecords(const LogState& log, const Node& worker) const {
  const uint64_t batch = options_.job.batch_size;
  const bool trains = log.spec.purpose == LogPurpose::kTrain;
  const auto& done = trains ? progress_->Done(log.spec.log) : evaluation_.Counted(log.spec.log);
  const uint64_t left = log.end - std::min(log.end, done.Count());
  // As much work as the target says; smaller towards the end, so that all finish together.
  const double rate = worker.records_per_sec;
  const uint64_t wanted =
      rate > 0 ? static_cast<uint64_t>(rate * InSeconds(options_.lease_target)) : batch * 64;
  const auto workers =
      static_cast<uint64_t>(std::count_if(nodes_.begin(), nodes_.end(), [](const auto& entry) {
        return entry.second.role == Role::kWorker && entry.second.state == "running";
      }));
  const uint64_t share = left / (2 * std::max<uint64_t>(workers, 1)) + batch;
  return std::clamp(std::min(wanted, share), batch, options_.max_lease_records);
}

std::optional<protocol::Lease> MasterNode::GrantLease(const LeaseBook::Holder& holder,
                                                      const Node& worker) {
  leases_->ReleaseSettled(runtime_.clock.Now());
  const bool training = phase_ == Phase::kTraining;
  if (!training && phase_ != Phase::kEvaluating) return std::nullopt;
  if (training && !progress_->AllReported()) return std::nullopt;  // rule G15
  if (AwaitsHolders()) return std::nullopt;
  for (auto& [id, log] : logs_) {
    if ((log.spec.purpose == LogPurpose::kTrain) != training || !log.probed) continue;
    const auto& done = training ? progress_->Done(id) : evaluation_.Counted(id);
    auto gap = leases_->FindGap({id, log.end, &done, LeaseRecords(log, worker)});
    if (!gap || !CutToBatches(log, *gap)) continue;
    auto cuts =
        training && !MUTANT(kNoCuts) ? progress_->Edges(id, *gap) : std::vector<protocol::Offset>();
    return leases_->Grant(holder, id, *gap, std::move(cuts));
  }
  return std::nullopt;
}

void MasterNode::EndLeasesOf(const Node& node) {
  if (node.incarnation.value() == 0) return;
  const base::Instant now = runtime_.clock.Now();
  // Evaluated spans are known by the chunks that follow with the heartbeats.
  const bool evaluating = phase_ == Phase::kEvaluating;
  leases_->EndAllOf(node.incarnation, evaluating ? now + options_.heartbeat * 4 : now);
  for (const auto& [id, log] : logs_) {
    if (log.spec.purpose == LogPurpose::kEvaluate) leases_->ReleaseWithoutReports(id);
  }
}

void MasterNode::BeginTicks() {
  ticked_ = runtime_.clock.Now();
  tick_timer_ = runtime_.timers.After(kTick, [this] { Tick(); });
}

// Who seems silent may have spoken while this process could not listen: that time counts for nobody.
void MasterNode::ForgiveOwnAbsence() {
  const base::Instant now = runtime_.clock.Now();
  const base::Duration late = now - ticked_ - kTick;
  if (late < kOwnAbsence) return;
  for (auto& [name, node] : nodes_) node.last_heard = std::min(now, node.last_heard + late);
}

void MasterNode::Tick() {
  ForgiveOwnAbsence();
  BeginTicks();
  CheckNodes();
  SampleRates();
  for (PendingAudit& audit : std::exchange(pending_audits_, {})) AuditUntil(std::move(audit));
  leases_->ReleaseSettled(runtime_.clock.Now());
  AdvancePhase();
  if (phase_ == Phase::kDraining) return CheckStopped();
  if (phase_ == Phase::kFailed) return;
  plans_.Advance();
  if (options_.auto_balance) Balance();
}

void MasterNode::SampleRates() {
  const base::Instant now = runtime_.clock.Now();
  const double elapsed = InSeconds(now - sampled_);
  if (elapsed < 1.0) return;
  const uint64_t records = RecordsDone();
  const uint64_t steps = Steps();
  const auto rate = [elapsed](uint64_t to, uint64_t from) {
    return to > from ? static_cast<double>(to - from) / elapsed : 0.0;
  };
  records_per_sec_ = rate(records, sampled_records_);
  steps_per_sec_ = rate(steps, sampled_steps_);
  for (auto& [name, node] : nodes_) {
    const uint64_t units =
        node.role == Role::kPs ? node.ps.rows_pushed + node.ps.rows_pulled : node.worker.records;
    if (!node.sampled_units && units == 0) continue;  // not heard of yet
    const double units_per_sec = rate(units, node.sampled_units.value_or(units));
    (node.role == Role::kPs ? node.rows_per_sec : node.records_per_sec) = units_per_sec;
    node.sampled_units = units;
    const uint64_t noted = node.noted_images.value_or(node.ps.images_saved);
    if (node.ps.images_saved > noted) {
      events_.Add("checkpoint", name,
                  fmt::format("{} images of partitions saved", node.ps.images_saved - noted));
    }
    node.noted_images = node.ps.images_saved;
    NoteRefused(node);
  }
  sampled_ = now;
  sampled_records_ = records;
  sampled_steps_ = steps;
}

void MasterNode::CountRecords() {
  if (!progress_->AllReported()) return;
  records_done_ = 0;
  for (const auto& [id, log] : logs_) {
    if (log.spec.purpose == LogPurpose::kTrain) records_done_ += progress_->Done(id).Count();
  }
  for (const auto& caught_up : recoveries_.OnProgress(runtime_.clock.Now(), records_done_)) {
    events_.Add("ps_caught_up", caught_up.ps,
                fmt::format("{} records replayed, caught up after {} ms",
                            caught_up.replayed_records, caught_up.milliseconds));
  }
}

void MasterNode::NoteServing(const Node& node) {
  if (!recoveries_.Watching(node.name)) return;
  const auto index = state_.view.FindNode(node.name);
  for (size_t p = 0; p < state_.view.places.size(); ++p) {
    const bool own = index && state_.view.places[p].node == *index;
    if (own && !progress_->Reported(protocol::PartitionId(static_cast<uint16_t>(p)))) return;
  }
  if (const auto after = recoveries_.OnServing(node.name, runtime_.clock.Now())) {
    events_.Add("ps_serving", node.name, fmt::format("serving again after {} ms", *after));
  }
}

uint64_t MasterNode::RecordsTotal() const {
  uint64_t records = 0;
  for (const auto& [id, log] : logs_) {
    if (log.spec.purpose == LogPurpose::kTrain) records += log.end;
  }
  return records;
}

uint64_t MasterNode::Steps() const {
  uint64_t steps = gone_.steps;
  for (const auto& [name, node] : nodes_) steps += node.worker.steps;
  return steps;
}

uint64_t MasterNode::ReplayedRecords() const {
  uint64_t records = gone_.already_applied;
  for (const auto& [name, node] : nodes_) records += node.worker.already_applied;
  return records;
}

uint64_t MasterNode::Conflicts() const {
  uint64_t conflicts = gone_.conflicts;
  for (const auto& [name, node] : nodes_) conflicts += node.worker.conflicts;
  return conflicts;
}

double MasterNode::Seconds() const {
  if (training_began_ == base::Instant()) return 0;
  const bool running = training_ended_ == base::Instant();
  return InSeconds((running ? runtime_.clock.Now() : training_ended_) - training_began_);
}

uint32_t MasterNode::TotalRestarts() const {
  uint32_t restarts = 0;
  for (const auto& [name, node] : nodes_) restarts += node.restarts;
  return restarts;
}

bool MasterNode::AllDone() const {
  return std::all_of(logs_.begin(), logs_.end(), [this](const auto& entry) {
    const LogState& log = entry.second;
    if (log.spec.purpose != LogPurpose::kTrain) return true;
    return progress_->Done(entry.first).Watermark() >= log.end;
  });
}

bool MasterNode::AllDurable() const {
  return std::all_of(logs_.begin(), logs_.end(), [this](const auto& entry) {
    const LogState& log = entry.second;
    if (log.spec.purpose != LogPurpose::kTrain) return true;
    return progress_->DurableFloor(entry.first) >= log.end;
  });
}

bool MasterNode::AllEvaluated() const {
  return std::all_of(logs_.begin(), logs_.end(), [this](const auto& entry) {
    const LogState& log = entry.second;
    if (log.spec.purpose != LogPurpose::kEvaluate) return true;
    return evaluation_.Counted(entry.first).Watermark() >= log.end;
  });
}

void MasterNode::AdvancePhase() {
  switch (phase_) {
    case Phase::kStarting: {
      const bool probed = std::all_of(logs_.begin(), logs_.end(),
                                      [](const auto& entry) { return entry.second.probed; });
      if (!probed || !state_.placed || !progress_->AllReported()) return;
      if (auto whole = CheckReplayable(); !whole) {
        return Fail(whole.error().message, whole.error().code);
      }
      phase_ = Phase::kTraining;
      training_began_ = runtime_.clock.Now();
      events_.Add("training_started", "", fmt::format("{} records", RecordsTotal()));
      return;
    }
    case Phase::kTraining:
      if (progress_->AllReported() && AllDone() && !Follows()) EnterFinishing();
      return;
    case Phase::kFinishing:
      // Rule G19: the stream has ended when everything is durable, not when it is applied.
      if (AllDurable() || MUTANT(kEndByApplied)) return AwaitPredictions();
      if (!AllDone() && progress_->AllReported()) phase_ = Phase::kTraining;  // a PS fell back
      return;
    case Phase::kEvaluating:
      if (progress_->AllReported() && !BackToTraining() && AllEvaluated()) EnterAuditing();
      return;
    case Phase::kCompleted: BackToTraining(); return;
    default: return;
  }
}

void MasterNode::EnterFinishing() {
  if (training_ended_ == base::Instant()) training_ended_ = runtime_.clock.Now();
  phase_ = Phase::kFinishing;
  durable_since_.reset();
  if (asking_ps_) return;
  asking_ps_ = true;
  Checkpoint([this](const Result<>& outcome) {
    asking_ps_ = false;
    if (!outcome) FRESHET_LOG_WARN("last checkpoint: {}", outcome.error().message);
    if (phase_ == Phase::kFinishing && !AllDurable()) phase_ = Phase::kTraining;
    AdvancePhase();
  });
}

// A worker that has pushed its last batch may not have said yet what it predicted; it does so before it
// ends its lease. One that keeps its lease is not waited for.
void MasterNode::AwaitPredictions() {
  const base::Instant now = runtime_.clock.Now();
  if (!durable_since_) durable_since_ = now;
  if (leases_->active() > 0 && now - *durable_since_ < kPredictionPatience) return;
  EnterEvaluating();
}

void MasterNode::EnterEvaluating() {
  phase_ = Phase::kEvaluating;
  events_.Add("training_finished", "", fmt::format("{} records durable", RecordsDone()));
  AdvancePhase();
}

// A server that came back from older images than it had lacks records: they are gaps, and what was found
// out about the model is void.
bool MasterNode::BackToTraining() {
  if (!progress_->AllReported() || AllDone()) return false;
  phase_ = Phase::kTraining;
  state_.completed = false;
  final_audit_.reset();
  evaluation_ = ValidationBook(options_.validation_window_records);
  events_.Add("training_resumed", "",
              fmt::format("a server lost records after the end: {} of {} are done", RecordsDone(),
                          RecordsTotal()));
  return true;
}

void MasterNode::EnterAuditing() {
  phase_ = Phase::kAuditing;
  Audit([this](Result<AuditResult> result) {
    if (phase_ != Phase::kAuditing) return;
    const bool whole = result && progress_->AllReported() && AllDone();
    if (!whole) {
      if (!result) FRESHET_LOG_WARN("audit: {}", result.error().message);
      phase_ = Phase::kEvaluating;  // asks again
      return;
    }
    final_audit_ = std::move(*result);
    Complete();
  });
}

void MasterNode::Complete() {
  phase_ = Phase::kCompleted;
  state_.completed = true;
  if (!Save()) return;
  for (const std::string& problem : final_audit_->problems) {
    events_.Add("audit_problem", "", problem);
  }
  events_.Add("job_completed", "", fmt::format("{} records in {:.1f} s", RecordsDone(), Seconds()));
}

bool MasterNode::OwnsPartitions(const std::string& name) const {
  const auto index = state_.view.FindNode(name);
  const auto& places = state_.view.places;
  return index && std::any_of(places.begin(), places.end(),
                              [&](const protocol::Place& place) { return place.node == *index; });
}

template <class Request, class Response>
void MasterNode::AskEveryPs(const Request& request, base::Duration deadline,
                            std::function<void(Result<std::vector<Response>>)> done) {
  struct Gathering {
    size_t waiting = 0;
    Result<std::vector<Response>> answers;
    std::function<void(Result<std::vector<Response>>)> done;
  };
  auto gathering = std::make_shared<Gathering>();
  gathering->done = std::move(done);
  for (const auto& [name, node] : nodes_) {
    if (node.role != Role::kPs || node.incarnation.value() == 0 || !OwnsPartitions(name)) continue;
    ++gathering->waiting;
    rpc_.Call(node.peer, sender_, request, {}, {.deadline = deadline, .attempt = seconds(2)},
              [gathering, name = name](Result<Packet> packet) {
                auto answer = packet ? protocol::DecodeAs<Response>(*packet)
                                     : base::Fail(packet.error().code, packet.error().message);
                if (!answer && gathering->answers) {
                  gathering->answers =
                      base::Fail(answer.error().code, name + ": " + answer.error().message);
                } else if (answer && gathering->answers) {
                  gathering->answers->push_back(std::move(*answer));
                }
                if (--gathering->waiting == 0) gathering->done(std::move(gathering->answers));
              });
  }
  if (gathering->waiting == 0) {
    runtime_.timers.After(base::Duration(0), [gathering] {
      gathering->done(base::Fail(ErrorCode::kUnavailable, "no PS has registered yet"));
    });
  }
}

void MasterNode::Checkpoint(std::function<void(Result<>)> done) {
  const base::Instant began = runtime_.clock.Now();
  AskEveryPs<protocol::CheckpointRequest, protocol::CheckpointReply>(
      {}, seconds(60),
      [this, began,
       done = std::move(done)](Result<std::vector<protocol::CheckpointReply>> replies) {
        if (!replies) return done(base::Fail(replies.error().code, replies.error().message));
        events_.Add("checkpoint", "",
                    fmt::format("checkpoint saved in {:.3f} s, {} servers",
                                InSeconds(runtime_.clock.Now() - began), replies->size()));
        done({});
      });
}

void MasterNode::Audit(std::function<void(Result<AuditResult>)> done) {
  AuditUntil({runtime_.clock.Now() + kAuditPatience, std::move(done)});
}

void MasterNode::AuditUntil(PendingAudit audit) {
  AskEveryPs<protocol::AuditRequest, protocol::AuditReply>(
      {}, seconds(20),
      [this, audit = std::move(audit)](Result<std::vector<protocol::AuditReply>> replies) mutable {
        if (!replies) return audit.done(base::Fail(replies.error().code, replies.error().message));
        std::vector<protocol::PartitionAudit> audits;
        for (auto& reply : *replies)
          std::ranges::move(reply.partitions, std::back_inserter(audits));
        std::vector<protocol::LogId> logs;
        for (const auto& [id, log] : logs_) {
          if (log.spec.purpose == LogPurpose::kTrain) logs.push_back(id);
        }
        AuditResult result = CheckAudit(state_.view, logs, audits);
        if (result.missing.empty() || !result.problems.empty()) {
          return audit.done(std::move(result));
        }
        // Something moved between the answers of two servers.
        if (runtime_.clock.Now() < audit.give_up)
          return pending_audits_.push_back(std::move(audit));
        audit.done(base::Fail(ErrorCode::kTimeout, result.missing + "; try again"));
      });
}

}  // namespace freshet::master
