// SPDX-License-Identifier: Apache-2.0
// The real LogOpener and DeadLetterSink of a worker: files on this host.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "stream/dead_letter.h"
#include "worker/job_logs.h"

namespace freshet::worker {

class FileLogOpener final : public LogOpener {
 public:
  base::Result<std::unique_ptr<stream::LogReader>> Open(const protocol::LogSpec& log) override;
};

// One file per log and worker process. A record that cannot be written is logged instead: its offset
// is counted in the audit either way.
class DeadLetterFiles final : public DeadLetterSink {
 public:
  // Where, and who writes; known once the worker is registered.
  void Configure(const std::string& directory, protocol::Incarnation writer);
  void Add(const protocol::LogSpec& log, const std::vector<stream::DeadRecord>& dead) override;

 private:
  std::string directory_;
  protocol::Incarnation writer_;
  std::map<protocol::LogId, std::unique_ptr<stream::DeadLetterFile>> files_;
};

}  // namespace freshet::worker
