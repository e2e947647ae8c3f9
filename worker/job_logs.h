// SPDX-License-Identifier: Apache-2.0
// What a worker needs of the world to read a job's logs.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "protocol/messages.h"
#include "stream/record_batch.h"

namespace freshet::worker {

// Opens the job's logs; may block (it runs on the executor).
class LogOpener {
 public:
  virtual ~LogOpener() = default;
  virtual base::Result<std::unique_ptr<stream::LogReader>> Open(const protocol::LogSpec& log) = 0;
};

// Takes records that could not be parsed, before their span is pushed; again when it is read again.
class DeadLetterSink {
 public:
  virtual ~DeadLetterSink() = default;
  virtual void Add(const protocol::LogSpec& log, const std::vector<stream::DeadRecord>& dead) = 0;
};

}  // namespace freshet::worker
