// SPDX-License-Identifier: Apache-2.0
// SimLog: a log whose records are a function of (seed, log, offset). Some of them cannot be parsed.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "master/master_node.h"
#include "stream/record_batch.h"
#include "tests/sim/scheduler.h"
#include "worker/worker_node.h"

namespace freshet::sim {

// What every reader of the log agrees on.
struct SimLog {
  protocol::LogSpec spec;
  protocol::Offset end = 0;
  double dead_rate = 0;
  uint64_t seed = 0;
  base::Duration growth{};  // written evenly within this time; 0: all is there from the start

  protocol::Offset WrittenAt(base::Duration now) const;
  bool IsDead(protocol::Offset offset) const;
  uint64_t DeadIn(protocol::Span span) const;
};

class SimLogs;

class SimLogReader final : public stream::LogReader {
 public:
  SimLogReader(const SimLogs& logs, const SimLog& log) : logs_(logs), log_(log) {}
  uint32_t dense_count() const override { return 2; }
  uint32_t sparse_count() const override { return 3; }
  protocol::Offset end() const override;
  base::Result<> Read(protocol::Span span, stream::RecordBatch& out) override;

 private:
  const SimLogs& logs_;
  const SimLog& log_;
};

// The logs of a run, for workers and for the master. What no master has synced may vanish, so nobody may
// read it (G15).
class SimLogs final : public worker::LogOpener, public master::LogProbe {
 public:
  SimLogs(const std::vector<SimLog>& logs, const Scheduler& scheduler)
      : logs_(logs), scheduler_(scheduler) {}
  base::Result<std::unique_ptr<stream::LogReader>> Open(const protocol::LogSpec& log) override;
  base::Result<protocol::Offset> SyncedEnd(const protocol::LogSpec& log) override;
  protocol::Offset Synced(const SimLog& log) const;

 private:
  const SimLog* Find(const protocol::LogSpec& spec) const;

  const std::vector<SimLog>& logs_;
  const Scheduler& scheduler_;
  std::map<protocol::LogId, protocol::Offset> synced_;
};

// Counts; what a killed worker had not written is lost, as with the real file.
class SimDeadLetters final : public worker::DeadLetterSink {
 public:
  void Add(const protocol::LogSpec&, const std::vector<stream::DeadRecord>&) override {}
};

}  // namespace freshet::sim
