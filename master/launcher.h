// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace freshet::master {

enum class NodeRole : uint8_t { kPs, kWorker };

struct NodeSpec {
  std::string name;  // "ps-0", "worker-1"; unique in the cluster
  NodeRole role = NodeRole::kPs;
  std::vector<std::string> extra_args = {};  // after the launcher's own
  uint32_t processors = 0;                   // that it may run on; 0 = all
};

// Drain: asked to stop taking work, make durable and leave. Kill: ended at once.
enum class StopMode { kDrain, kKill };

// A process that ended, whatever the reason; told to the brain exactly once per successful Start or
// Adopt.
struct NodeExit {
  std::string name;
  int64_t pid = 0;
  std::string how;  // "exit 0", "signal 9"
  int code = 0;  // 128 + signal when a signal ended it; kUnknownCode of a process that was adopted
};
inline constexpr int kUnknownCode = -1;

// Starts and stops the processes of nodes. Decides nothing: whether and when to start again is the
// brain's. Belongs to the brain's loop and never blocks it.
class Launcher {
 public:
  virtual ~Launcher() = default;
  // The new process's pid. kConflict: a process of that name still runs; kNotFound: no such program.
  virtual base::Result<int64_t> Start(const NodeSpec& spec) = 0;
  // Takes over the process of that name, if it still runs, that a launcher of a master before this one
  // started; its pid. Asked once per name, before Start.
  virtual std::optional<int64_t> Adopt(const NodeSpec&) { return std::nullopt; }
  // Asks only: the exit is reported when it has happened. Unknown names are ignored.
  virtual void Stop(const std::string& name, StopMode mode) = 0;
  // kInvalidArgument: no node can have so many.
  virtual base::Result<> CanGive(uint32_t) const { return {}; }
  // False: nodes are started by others (by hand, systemd, pods) and Start always fails.
  virtual bool manages_processes() const = 0;
};

// Launcher `none`: whoever joins is used.
class NoLauncher final : public Launcher {
 public:
  base::Result<int64_t> Start(const NodeSpec& spec) override {
    return base::Fail(base::ErrorCode::kUnavailable,
                      "this cluster starts no processes itself; start " + spec.name + " by hand");
  }
  void Stop(const std::string&, StopMode) override {}
  bool manages_processes() const override { return false; }
};

}  // namespace freshet::master
