// SPDX-License-Identifier: Apache-2.0
// SimLog: a log whose records are a function of (seed, log, offset). Some of them cannot be parsed.
#pragma once

#include <memory>
#include <vector>

#include "master/master_node.h"
#include "stream/record_batch.h"
#include "worker/worker_node.h"

namespace freshet::sim {

// What every reader of the log agrees on.
struct SimLog {
  protocol::LogSpec spec;
  protocol::Offset end = 0;
  double dead_rate = 0;
  uint64_t seed = 0;

  bool IsDead(protocol::Offset offset) const;
  uint64_t DeadIn(protocol::Span span) const;
};

class SimLogReader final : public stream::LogReader {
 public:
  explicit SimLogReader(const SimLog& log) : log_(log) {}
  uint32_t dense_count() const override { return 2; }
  uint32_t sparse_count() const override { return 3; }
  protocol::Offset end() const override { return log_.end; }
  base::Result<> Read(protocol::Span span, stream::RecordBatch& out) override;

 private:
  const SimLog& log_;
};

// The logs of a run, for workers and for the master.
class SimLogs final : public worker::LogOpener, public master::LogProbe {
 public:
  explicit SimLogs(const std::vector<SimLog>& logs) : logs_(logs) {}
  base::Result<std::unique_ptr<stream::LogReader>> Open(const protocol::LogSpec& log) override;
  base::Result<protocol::Offset> SyncedEnd(const protocol::LogSpec& log) override;

 private:
  const SimLog* Find(const protocol::LogSpec& spec) const;

  const std::vector<SimLog>& logs_;
};

// Counts; what a killed worker had not written is lost, as with the real file.
class SimDeadLetters final : public worker::DeadLetterSink {
 public:
  void Add(const protocol::LogSpec&, const std::vector<stream::DeadRecord>&) override {}
};

}  // namespace freshet::sim
