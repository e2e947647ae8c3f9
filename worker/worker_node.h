// SPDX-License-Identifier: Apache-2.0
// WorkerNode: the training loop of a worker, on top of a Session. Leases data shards, cuts them into
// batches, and keeps a bounded number of them on their way: read and route ahead on the executor; pull,
// compute, push, at most `pull_ahead` batches before the last one's push has ended.
// One loop; owns logs, model and batches; borrows session and runtime. A job it cannot do is reported to
// the master; a conflict or a timeout gives the lease back.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/runtime.h"
#include "protocol/validation.h"
#include "stream/record_batch.h"
#include "worker/batch.h"
#include "worker/client/session.h"
#include "worker/job_logs.h"
#include "worker/model/model.h"

namespace freshet::worker {

class WorkerNode {
 public:
  WorkerNode(base::Runtime runtime, Session& session, LogOpener& opener, DeadLetterSink& dead);
  ~WorkerNode();

  // Called before the work begins; set before Start.
  std::function<void(const protocol::RegisterReply&)> on_registered;

  void Start();
  // Finishes the batches in flight, gives the lease back, hands in what was predicted, then calls `done`:
  // in any case within half a minute.
  void Drain(std::function<void()> done);

 private:
  struct OpenLog {
    protocol::LogSpec spec;
    std::shared_ptr<stream::LogReader> reader;
  };

  void OnRegistered(const protocol::RegisterReply& reply);
  void OnLogsOpen(base::Result<std::vector<OpenLog>> logs);
  void OnTables(std::vector<protocol::TableSchema> schemas,
                base::Result<std::vector<protocol::TableId>> ids);
  void AskForLease();
  void OnLease(const protocol::LeaseReply& reply);
  void EndLease(protocol::LeaseEnd how);
  void FillPipeline();
  void ReadBatch(std::shared_ptr<Batch> batch);
  void OnRead(const std::shared_ptr<Batch>& batch);
  void StartPulls();
  void PullBatch(const std::shared_ptr<Batch>& batch);
  void OnPulled(const std::shared_ptr<Batch>& batch, base::Result<> outcome);
  void OnPushed(const std::shared_ptr<Batch>& batch, base::Result<PushResult> outcome);
  void CountValidation(const Batch& batch);
  void Retire(const std::shared_ptr<Batch>& batch);
  void MaybeEndLease();
  void OnCallFailed(const base::Error& error);
  void GiveBack(const std::string& why);
  void LeaveFlushed();
  void AwaitFlush();
  void Leave();
  void Fatal(const std::string& why);

  base::Runtime runtime_;
  Session& session_;
  LogOpener& opener_;
  DeadLetterSink& dead_;
  protocol::JobSpec job_;
  std::map<protocol::LogId, OpenLog> logs_;
  std::unique_ptr<Model> model_;
  std::vector<BatchTable> tables_;
  std::optional<protocol::Lease> lease_;
  protocol::Offset next_offset_ = 0;  // of the lease: what was not yet begun
  uint32_t in_flight_ = 0;            // batches between the begin of their read and their end
  uint32_t pulled_ = 0;               // of them: between the begin of their pull and their end
  std::deque<std::shared_ptr<Batch>> ready_;  // read, not yet pulled
  std::vector<std::shared_ptr<Batch>> free_;
  protocol::ValidationHistogram predictions_;  // scratch
  bool asking_ = false;
  bool giving_back_ = false;
  bool failed_ = false;
  std::function<void()> drained_;
  bool leaving_ = false;  // nothing of it is on its way any more but predictions
  bool left_ = false;
  base::TimerId lease_timer_;
  base::TimerId drain_timer_;
  base::TimerId flush_timer_;
};

}  // namespace freshet::worker
