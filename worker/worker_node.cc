// SPDX-License-Identifier: Apache-2.0
#include "worker/worker_node.h"

#include <utility>

#include "base/log.h"
#include "worker/batch_cutter.h"

namespace freshet::worker {

using base::Fail;
using base::Result;
using protocol::LeaseEnd;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// Batches read before they are needed, so that reading and parsing overlap with the rest.
constexpr uint32_t kReadAhead = 2;
// A draining worker does not wait for ever for servers or a master that are gone: whatever it holds is
// taken back when it has left.
constexpr seconds kDrainPatience{30};
constexpr seconds kFlushPatience{2};
constexpr base::Duration kAskWhenComplete = std::chrono::seconds(1);

}  // namespace

WorkerNode::WorkerNode(base::Runtime runtime, Session& session, LogOpener& opener,
                       DeadLetterSink& dead)
    : runtime_(runtime), session_(session), opener_(opener), dead_(dead) {
  session_.on_registered = [this](const protocol::RegisterReply& reply) { OnRegistered(reply); };
}

WorkerNode::~WorkerNode() {
  for (const base::TimerId timer : {lease_timer_, drain_timer_, flush_timer_}) {
    runtime_.timers.Cancel(timer);
  }
}

void WorkerNode::Start() { session_.Start(); }

void WorkerNode::OnRegistered(const protocol::RegisterReply& reply) {
  job_ = reply.job;
  if (on_registered) on_registered(reply);
  auto logs = std::make_shared<Result<std::vector<OpenLog>>>();
  runtime_.executor.Run(
      [logs, specs = job_.logs, opener = &opener_] {
        for (const protocol::LogSpec& spec : specs) {
          auto reader = opener->Open(spec);
          if (!reader) {
            *logs = Fail(reader.error().code, reader.error().message);
            return;
          }
          (*logs)->push_back({spec, std::move(*reader)});
        }
      },
      [this, logs] { OnLogsOpen(std::move(*logs)); });
}

void WorkerNode::OnLogsOpen(Result<std::vector<OpenLog>> logs) {
  if (!logs) return Fatal(logs.error().message);
  if (logs->empty()) return Fatal("the job has no logs");
  const auto& first = *logs->front().reader;
  for (OpenLog& log : *logs) {
    if (log.reader->dense_count() != first.dense_count() ||
        log.reader->sparse_count() != first.sparse_count()) {
      return Fatal("log " + log.spec.name + " has other columns than " + logs->front().spec.name);
    }
    logs_[log.spec.log] = std::move(log);
  }
  const auto& shape = *logs_.begin()->second.reader;
  auto model =
      CreateModel(job_.model, job_.model_config, {shape.dense_count(), shape.sparse_count()});
  if (!model) return Fatal(model.error().message);
  model_ = std::move(*model);
  auto schemas = model_->Tables();
  session_.DeclareTables(schemas, [this, schemas](Result<std::vector<protocol::TableId>> ids) {
    OnTables(schemas, std::move(ids));
  });
}

void WorkerNode::OnTables(std::vector<protocol::TableSchema> schemas,
                          Result<std::vector<protocol::TableId>> ids) {
  if (!ids) return Fatal(ids.error().message);
  for (size_t t = 0; t < schemas.size(); ++t) {
    tables_.push_back({(*ids)[t], std::move(schemas[t])});
  }
  AskForLease();
}

void WorkerNode::AskForLease() {
  if (asking_ || lease_ || failed_ || drained_) return;
  asking_ = true;
  session_.RequestLease({}, [this](const protocol::LeaseReply& reply) { OnLease(reply); });
}

void WorkerNode::OnLease(const protocol::LeaseReply& reply) {
  asking_ = false;
  if (drained_) {
    if (reply.answer == protocol::LeaseAnswer::kLease) {
      lease_ = reply.lease;
      return EndLease(LeaseEnd::kGivenBack);
    }
    return LeaveFlushed();
  }
  if (reply.answer == protocol::LeaseAnswer::kComplete) {
    // Not for ever: a restarted master may have to evaluate again.
    lease_timer_ = runtime_.timers.After(kAskWhenComplete, [this] { AskForLease(); });
    return;
  }
  const protocol::Lease& lease = reply.lease;
  if (reply.answer == protocol::LeaseAnswer::kWait || lease.span.empty() ||
      !logs_.contains(lease.log)) {
    const auto wait = milliseconds(std::clamp<uint64_t>(reply.wait_ms, 1, 10'000));
    lease_timer_ = runtime_.timers.After(wait, [this] { AskForLease(); });
    return;
  }
  lease_ = lease;
  session_.SetLease(lease);
  next_offset_ = lease.span.begin;
  giving_back_ = false;
  FillPipeline();
}

void WorkerNode::EndLease(LeaseEnd how) {
  const protocol::LeaseId id = lease_->id;
  lease_.reset();
  session_.SetLease(std::nullopt);
  asking_ = true;
  session_.RequestLease({id, how, !drained_},
                        [this](const protocol::LeaseReply& reply) { OnLease(reply); });
}

void WorkerNode::FillPipeline() {
  while (lease_ && !giving_back_ && !drained_ && !failed_ &&
         in_flight_ < job_.pull_ahead + 1 + kReadAhead && next_offset_ < lease_->span.end) {
    auto batch = free_.empty() ? std::make_shared<Batch>() : free_.back();
    if (!free_.empty()) free_.pop_back();
    batch->log = lease_->log;
    batch->span = NextBatch(*lease_, next_offset_, job_.batch_size);
    batch->purpose = logs_.at(lease_->log).spec.purpose;
    next_offset_ = batch->span.end;
    ++in_flight_;
    ReadBatch(std::move(batch));
  }
}

void WorkerNode::ReadBatch(std::shared_ptr<Batch> batch) {
  const auto reader = logs_.at(batch->log).reader;
  runtime_.executor.Run(
      [batch, reader, tables = &tables_, partitions = session_.partitions()] {
        batch->read = reader->Read(batch->span, batch->records);
        if (batch->read) batch->Route(*tables, partitions);
      },
      [this, batch] { OnRead(batch); });
}

void WorkerNode::OnRead(const std::shared_ptr<Batch>& batch) {
  if (!batch->read) {
    const std::string why =
        "log " + logs_.at(batch->log).spec.name + ": " + batch->read.error().message;
    // This host may see what was added later than the master's.
    const bool later = batch->read.error().code == base::ErrorCode::kUnavailable;
    later ? GiveBack(why) : Fatal(why);
    return Retire(batch);
  }
  ready_.push_back(batch);
  StartPulls();
}

void WorkerNode::StartPulls() {
  while (!ready_.empty() && (pulled_ <= job_.pull_ahead || failed_ || giving_back_)) {
    const auto batch = std::move(ready_.front());
    ready_.pop_front();
    // What was only read has done nothing yet.
    if (failed_ || giving_back_) {
      Retire(batch);
    } else {
      PullBatch(batch);
    }
  }
}

void WorkerNode::PullBatch(const std::shared_ptr<Batch>& batch) {
  ++pulled_;
  batch->pulled = true;
  if (batch->records.rows == 0) return OnPulled(batch, {});
  std::vector<RoutedRows> rows;
  for (size_t t = 0; t < tables_.size(); ++t) {
    rows.push_back({&batch->routings[t], tables_[t].schema.dim, batch->weights[t].data(), nullptr});
  }
  session_.Pull(std::move(rows),
                [this, batch](Result<> outcome) { OnPulled(batch, std::move(outcome)); });
}

void WorkerNode::OnPulled(const std::shared_ptr<Batch>& batch, Result<> outcome) {
  if (!outcome) {
    OnCallFailed(outcome.error());
    return Retire(batch);
  }
  if (batch->records.rows > 0) {
    batch->Compute(*model_);
    if (const char* what = batch->NotFinite()) {
      Fatal(std::string("the model diverged (a ") + what + " is not a finite number) at log " +
            logs_.at(batch->log).spec.name + " offset " + std::to_string(batch->span.begin) +
            ": lower learning_rate");
      return Retire(batch);
    }
  }
  if (batch->purpose == protocol::LogPurpose::kEvaluate) {
    CountValidation(*batch);
    return Retire(batch);
  }
  // Before the push: a worker that dies between the two leaves a line too many, never one too few (I8).
  if (!batch->records.dead.empty()) dead_.Add(logs_.at(batch->log).spec, batch->records.dead);
  Session::PushCall push{batch->log, batch->span, batch->DeadOffsets(), {}};
  if (batch->records.rows > 0) {
    for (size_t t = 0; t < tables_.size(); ++t) {
      push.rows.push_back(
          {&batch->routings[t], tables_[t].schema.dim, nullptr, batch->gradients[t].data()});
    }
  }
  session_.Push(std::move(push),
                [this, batch](Result<PushResult> result) { OnPushed(batch, std::move(result)); });
}

void WorkerNode::OnPushed(const std::shared_ptr<Batch>& batch, Result<PushResult> outcome) {
  if (!outcome) {
    OnCallFailed(outcome.error());
    return Retire(batch);
  }
  protocol::WorkerStats& stats = session_.stats();
  switch (*outcome) {
    case PushResult::kApplied:
      stats.records += batch->span.size();
      ++stats.steps;
      CountValidation(*batch);
      break;
    case PushResult::kAlreadyApplied: stats.already_applied += batch->span.size(); break;
    case PushResult::kConflict:
      ++stats.conflicts;
      GiveBack("span conflict");
      break;
  }
  Retire(batch);
}

void WorkerNode::CountValidation(const Batch& batch) {
  predictions_.Clear();
  for (size_t i = 0; i < batch.logits.size() && i < batch.records.rows; ++i) {
    predictions_.Add(batch.logits[i], batch.records.labels[i]);
  }
  session_.AddValidation(batch.log, batch.span, predictions_);
}

void WorkerNode::Retire(const std::shared_ptr<Batch>& batch) {
  --in_flight_;
  if (std::exchange(batch->pulled, false)) --pulled_;
  free_.push_back(batch);
  FillPipeline();
  StartPulls();
  MaybeEndLease();
}

void WorkerNode::MaybeEndLease() {
  if (in_flight_ > 0 || failed_) return;
  if (!lease_) {
    if (drained_ && !asking_) LeaveFlushed();
    return;
  }
  const bool finished = next_offset_ >= lease_->span.end && !giving_back_;
  if (finished) {
    EndLease(LeaseEnd::kFinished);
  } else if (giving_back_ || drained_) {
    EndLease(LeaseEnd::kGivenBack);
  }
}

void WorkerNode::OnCallFailed(const base::Error& error) {
  // A request that is wrong in itself would be as wrong under the next lease.
  if (error.code == base::ErrorCode::kInvalidArgument) return Fatal(error.message);
  GiveBack(error.message);
}

// What is in flight is finished first: whatever it applied is applied.
void WorkerNode::GiveBack(const std::string& why) {
  if (!lease_ || giving_back_) return MaybeEndLease();
  FRESHET_LOG_WARN("lease {} given back: {}", lease_->id.value(), why);
  giving_back_ = true;
  MaybeEndLease();
}

void WorkerNode::Drain(std::function<void()> done) {
  runtime_.timers.Cancel(lease_timer_);
  drained_ = std::move(done);
  drain_timer_ = runtime_.timers.After(kDrainPatience, [this] {
    FRESHET_LOG_WARN("leaving with {} batches on their way: no answer", in_flight_);
    Leave();
  });
  if (failed_) return LeaveFlushed();
  giving_back_ = lease_.has_value();
  if (!asking_) MaybeEndLease();
}

// What was predicted and learnt counts in the job's figures, so the master hears of it first.
void WorkerNode::LeaveFlushed() {
  if (leaving_) return;
  leaving_ = true;
  runtime_.timers.Cancel(drain_timer_);
  drain_timer_ = runtime_.timers.After(kFlushPatience, [this] { Leave(); });
  AwaitFlush();
}

void WorkerNode::AwaitFlush() {
  if (session_.validation_flushed()) return Leave();
  flush_timer_ = runtime_.timers.After(milliseconds(5), [this] { AwaitFlush(); });
}

void WorkerNode::Leave() {
  runtime_.timers.Cancel(drain_timer_);
  runtime_.timers.Cancel(flush_timer_);
  leaving_ = true;
  if (const auto done = std::exchange(left_, true) ? nullptr : drained_) done();
}

void WorkerNode::Fatal(const std::string& why) {
  failed_ = true;
  FRESHET_LOG_ERROR("{}", why);
  session_.ReportFatal(why);
  if (drained_) LeaveFlushed();
}

}  // namespace freshet::worker
