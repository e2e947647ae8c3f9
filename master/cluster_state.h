// SPDX-License-Identifier: Apache-2.0
// ClusterState: what the master must not forget, written as one value with every change that matters
// (rule G6). StateStore: where it is kept; the simulator has its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "master/plan.h"
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

// What a server was promised that differs from the configuration; 0 = as there.
struct ServerResources {
  std::string name;
  uint32_t processors = 0;
  uint64_t memory_bytes = 0;

  static auto Fields(auto& self, auto&& f) {
    return f(self.name, self.processors, self.memory_bytes);
  }
};

struct ClusterState {
  static constexpr uint32_t kFormat = 4;
  uint32_t format = kFormat;
  protocol::ClusterId cluster;
  uint64_t boot = 0;  // starts of the master
  protocol::Incarnation last_incarnation;
  protocol::JobSpec job;  // as it was last led
  protocol::View view;
  std::vector<KnownNode> nodes;
  bool placed = false;  // the first placement was made
  bool completed = false;
  std::vector<std::string> servers;  // that shall own partitions, once placed
  std::vector<std::string> workers;  // that the launcher shall keep running
  uint32_t configured_ps = 0;        // what the configuration said last
  uint32_t configured_workers = 0;
  uint32_t next_ps = 0;  // number of the next server that is started; none is used twice
  protocol::MigrationId last_migration;
  uint64_t last_plan = 0;
  std::vector<PlanRecord> plans;  // the last ones, oldest first
  std::vector<ServerResources> resources;

  const ServerResources* ResourcesOf(const std::string& name) const {
    const auto found = std::find_if(resources.begin(), resources.end(),
                                    [&](const ServerResources& r) { return r.name == name; });
    return found == resources.end() ? nullptr : &*found;
  }

  static auto Fields(auto& self, auto&& f) {
    return f(self.format, self.cluster, self.boot, self.last_incarnation, self.job, self.view,
             self.nodes, self.placed, self.completed, self.servers, self.workers,
             self.configured_ps, self.configured_workers, self.next_ps, self.last_migration,
             self.last_plan, self.plans, self.resources);
  }
};

// kConflict names another version's format, kCorrupt anything else; `what` says of what in messages.
base::Result<ClusterState> DecodeClusterState(const protocol::Buffer& bytes,
                                              const std::string& what);

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
