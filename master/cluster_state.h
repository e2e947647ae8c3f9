// SPDX-License-Identifier: Apache-2.0
// ClusterState: what the master must not forget, written as one value with every change that matters
// (rule G6). StateStore: where it is kept; the simulator has its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/codec.h"
#include "protocol/messages.h"
#include "protocol/view.h"

namespace freshet::master {

// A process that registered; a restarted master knows it again.
struct KnownNode {
  protocol::Role role = protocol::Role::kPs;
  std::string name;
  protocol::Incarnation incarnation;
  uint64_t process = 0;
  int64_t pid = 0;  // 0: it left when the cluster was stopped
  uint32_t restarts = 0;
  bool launched = false;  // by the launcher; otherwise it joined by itself

  static auto Fields(auto& self, auto&& f) {
    return f(self.role, self.name, self.incarnation, self.process, self.pid, self.restarts,
             self.launched);
  }
};

struct ClusterState {
  static constexpr uint32_t kFormat = 2;
  uint32_t format = kFormat;
  protocol::ClusterId cluster;
  uint64_t boot = 0;  // starts of the master
  protocol::Incarnation last_incarnation;
  protocol::JobSpec job;  // as it was last led
  protocol::View view;
  std::vector<KnownNode> nodes;
  bool placed = false;  // the first placement was made
  bool completed = false;

  static auto Fields(auto& self, auto&& f) {
    return f(self.format, self.cluster, self.boot, self.last_incarnation, self.job, self.view,
             self.nodes, self.placed, self.completed);
  }
};

// Blocking; called on the master's loop, once per change of an owner (a millisecond or so).
class StateStore {
 public:
  virtual ~StateStore() = default;
  // Nothing: the cluster is new.
  virtual base::Result<std::optional<protocol::Buffer>> Load() = 0;
  // Durable when it returns; on an error the old state stays.
  virtual base::Result<> Save(const protocol::Buffer& state) = 0;
};

}  // namespace freshet::master
