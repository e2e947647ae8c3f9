// SPDX-License-Identifier: Apache-2.0
// What the master's brain is bound to in a real process: its state in a durable cell, logs that are
// files, and the events file.
#pragma once

#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "checkpoint/durable_cell.h"
#include "master/cluster_state.h"
#include "master/event_log.h"
#include "master/master_node.h"
#include "stream/file_log.h"

namespace freshet::master {

class CellStateStore final : public StateStore {
 public:
  explicit CellStateStore(checkpoint::DurableCell& cell) : cell_(cell) {}
  base::Result<std::optional<protocol::Buffer>> Load() override;
  base::Result<> Save(const protocol::Buffer& state) override;

 private:
  checkpoint::DurableCell& cell_;
};

// Opens the file as a worker would, so that what is wrong with it is said before anyone starts. Keeps a
// file that is followed open, so that it notices when another one takes its place. On the executor.
class FileLogProbe final : public LogProbe {
 public:
  base::Result<protocol::Offset> SyncedEnd(const protocol::LogSpec& log) override;

 private:
  base::Result<std::unique_ptr<stream::FileLog>> Open(const protocol::LogSpec& log) const;

  struct Followed {
    std::unique_ptr<stream::FileLog> file;
    protocol::Offset synced = 0;
  };
  std::map<protocol::LogId, Followed> followed_;
};

// Appends one JSON object a line; a line that cannot be written is lost. A file of 64 MiB becomes PATH.1.
class EventFile {
 public:
  explicit EventFile(std::string path)
      : path_(std::move(path)), out_(path_, std::ios::app | std::ios::ate) {}
  void Write(const Event& event);

 private:
  static constexpr std::streamoff kMostEventBytes = 64 << 20;
  std::string path_;
  std::ofstream out_;
};

}  // namespace freshet::master
