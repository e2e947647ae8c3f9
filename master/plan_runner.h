// SPDX-License-Identifier: Apache-2.0
// PlanRunner: carries out plans, one after the other: starts the servers they need, moves partitions a
// few at a time (an intent in the view, PREPARED by its target, the commit; rules G6, G11, G12), ends
// those who leave. Everything that matters is durable before anyone hears of it; a restarted master goes
// on. Belongs to the master's loop; borrows the master's state and nodes. A move that fails is tried
// again, a plan that cannot go on ends as failed with the reason, with every partition at one owner.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/runtime.h"
#include "master/cluster_state.h"
#include "master/event_log.h"
#include "master/launcher.h"
#include "master/load_watch.h"
#include "master/placement.h"
#include "master/plan.h"
#include "master/progress_book.h"
#include "protocol/move_messages.h"

namespace freshet::master {

struct Node;

struct PlanLimits {
  uint32_t max_ps = 64;
  uint32_t max_workers = 1024;
  // At once, from one server and to one server.
  uint32_t moves_per_server = 8;
  // A server that is started for a plan must have joined by then.
  base::Duration join_timeout = std::chrono::seconds(60);
  uint32_t max_failed_moves = 20;
  // A server of which nothing can be moved, or to which nothing can, is waited for so long.
  base::Duration wait_timeout = std::chrono::minutes(5);
};

class PlanRunner {
 public:
  // What it sees of the master; all outlive it.
  struct Cluster {
    base::Runtime runtime;
    ClusterState& state;
    std::map<std::string, Node>& nodes;
    EventLog& events;
    Launcher& launcher;
    // Makes the state durable; false: the master is ending.
    std::function<bool()> save;
    std::function<void()> publish_view;
    std::function<void(const std::string& name)> launch;
    // A node is about to be removed: its leases end, its counts stay.
    std::function<void(const Node& node)> forget;
    // The rule G6 part of a commit: what was reported of the partition counts no more.
    std::function<ProgressBook&()> progress;
    std::function<const LoadWatch&()> load;
  };

  PlanRunner(Cluster cluster, PlanLimits limits) : cluster_(std::move(cluster)), limits_(limits) {}
  ~PlanRunner() { cluster_.runtime.timers.Cancel(commit_timer_); }
  PlanRunner(const PlanRunner&) = delete;
  PlanRunner& operator=(const PlanRunner&) = delete;

  // What the plan would do, or why it is refused: kInvalidArgument, kNotFound, kConflict, kUnavailable.
  struct Preview {
    bool nothing_to_do = false;
    size_t moves = 0;
    std::vector<std::string> joining;
    std::vector<std::string> leaving;
  };
  base::Result<Preview> Check(const PlanRequest& request) const;
  // Queues it; its id. A plan like the last one that has not ended is that one.
  base::Result<uint64_t> Add(const PlanRequest& request);
  // A plan of kind kEvenLoad or kRelieve with the moves it consists of; 0: refused.
  uint64_t AddDecided(const PlanRequest& request, std::vector<PlannedMove> moves);
  base::Result<> Cancel(uint64_t id);

  // To be called often: starts plans, moves, ends.
  void Advance();
  base::Result<> OnReport(const std::string& from, const protocol::MoveReport& report);
  // The process of a server ended, or is not heard: what is on its way to it is taken back.
  void OnServerLost(const std::string& name);
  // A node that shall not be started again when it ends.
  bool Leaves(const std::string& name) const { return leaving_.contains(name); }
  // A plan that has not ended says that it shall leave.
  bool WillLeave(const std::string& name) const;
  void OnNodeGone(const std::string& name);
  // It was told to leave, and taken for gone when it was silent; it may not have heard of either.
  bool HasLeft(protocol::Incarnation incarnation) const;
  // A new process of that name: one that a plan given up since told to leave may stay when it is back.
  void OnNodeBegins(const Node& node);
  // It was told to leave under a master before us, or for a plan that is no more.
  void LetGo(const std::string& name);

  // A server that was started for the running plan cannot be kept running: the plan fails, nothing else.
  // False: no plan waits for it.
  bool GiveUpJoining(const std::string& name, const std::string& why);
  // The job has failed: nothing moves any more.
  void EndAll(const std::string& why);

  const std::vector<PlanRecord>& plans() const { return cluster_.state.plans; }
  bool busy() const;
  // Partitions on their way now.
  size_t under_way() const;

 private:
  PlanRecord* Running();
  PlanRecord* Find(uint64_t id);
  bool IsServer(const std::string& name) const;
  bool Begin(PlanRecord& plan);
  void PromiseResources(const PlanRecord& plan);
  bool Joined(PlanRecord& plan);
  base::Result<> CheckScale(const PlanRequest& request, Preview* preview) const;
  base::Result<> CheckMigrate(const PlanRequest& request, Preview* preview) const;
  base::Result<> CheckDrain(const PlanRequest& request, Preview* preview) const;
  base::Result<> CheckJoin(const PlanRequest& request, Preview* preview) const;
  void CountMoves(const PlanRequest& request, Preview* preview) const;
  std::vector<std::string> ServersAfter(const Preview& preview) const;
  std::vector<std::string> NewServers(size_t count) const;
  bool MovesPartitions(const PlanRequest& request) const;
  bool IsPs(const std::string& name) const;
  bool Owns(uint16_t node) const;
  std::vector<std::string> PresentServers() const;
  std::vector<PlannedMove> MovesOf(const PlanRecord& plan) const;
  void SkipWithoutRoom(std::vector<PlannedMove>* moves) const;
  std::vector<uint16_t> Indices(const std::vector<std::string>& names) const;
  bool Usable(uint16_t node) const;
  void StartMoves(const std::vector<PlannedMove>& moves);
  bool AddIntents(const std::vector<PlannedMove>& moves);
  void CommitSoon(uint16_t target, const protocol::MoveReport& report);
  void CommitPrepared();
  bool GivenUpWaiting(PlanRecord& plan, const std::vector<PlannedMove>& moves);
  bool Commit(uint16_t target, const protocol::MoveReport& report);
  bool ClearIntents(const std::function<bool(const protocol::Place&)>& which);
  bool OtherWorkerHeard(const std::string& name, base::Instant since) const;
  static std::string OnlyWorkerText(const std::string& name);
  void AskLeaving();
  bool EndLeaving(PlanRecord& plan);
  void Undo(PlanRecord& plan);
  void End(PlanRecord& plan, PlanState state, const std::string& text);
  void NotePause(PlanRecord& plan, uint64_t pause_us);
  void TrimPlans();

  Cluster cluster_;
  PlanLimits limits_;
  std::map<std::string, int64_t>
      leaving_;  // told to leave by plans, and as which process; 0: not yet
  std::deque<protocol::Incarnation> left_;    // newest last
  std::vector<uint64_t> pauses_us_;           // of the running plan
  base::Instant began_;                       // of the running plan, in this process
  std::optional<base::Instant> waits_since_;  // it waits for somebody
  // Of a plan whose moves were decided when it began.
  std::vector<PlannedMove> decided_;
  struct Prepared {
    uint16_t target = protocol::kNoNode;
    protocol::MoveReport report;
  };
  std::vector<Prepared> prepared_;  // to be committed soon
  base::TimerId commit_timer_;
  // Only for MUTANT(kOldPreparedReport): what was prepared first, by partition.
  std::map<size_t, protocol::AppliedSets> prepared_before_;
};

}  // namespace freshet::master
