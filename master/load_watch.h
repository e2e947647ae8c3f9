// SPDX-License-Identifier: Apache-2.0
// LoadWatch: what servers and partitions have to do, and whether something should be done about it:
// a server that is slow (a busy neighbour, a throttled processor) or has a hot partition sheds load, one
// that is short of memory sheds partitions. It acts on what lasted for several samples, far apart from
// even, and then goes all the way, so that it does not swing. Pure; belongs to the master's loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/runtime.h"
#include "master/placement.h"
#include "master/plan.h"
#include "protocol/messages.h"

namespace freshet::master {

struct LoadWatchOptions {
  base::Duration sample_interval = std::chrono::seconds(2);
  // So many samples in a row must say the same.
  uint32_t samples = 3;
  // After its last plan ended.
  base::Duration rest = std::chrono::seconds(15);
  // Utilisation of the busiest against the mean: where it acts, and what it then aims at.
  double act_above = 1.35;
  double aim_at = 1.05;
  // A cluster whose busiest server has less to do than this is left alone.
  double least_busy = 0.25;
  // Of a server's memory limit: where it acts, what it aims at, and what a server may be filled to.
  double memory_act = 0.80;
  double memory_aim = 0.65;
  double memory_fill = 0.75;
};

class LoadWatch {
 public:
  LoadWatch(uint32_t partitions, LoadWatchOptions options)
      : options_(options), partitions_(partitions) {}

  void OnPartition(const protocol::PartitionReport& report);
  // A heartbeat of a server; `incarnation` tells that its counters began anew.
  void OnServer(uint16_t node, protocol::Incarnation incarnation, const protocol::PsStats& stats);
  void Forget(uint16_t node) { servers_.erase(node); }

  struct Advice {
    PlanRequest request;
    std::vector<PlannedMove> moves;  // empty: a server more is needed
    std::string why;
  };
  // To be asked often; answers at most once per need. `busy`: plans are under way, so what is seen now
  // says nothing.
  std::optional<Advice> Look(base::Instant now, const std::vector<protocol::Place>& places,
                             const std::vector<std::string>& names, bool busy);

  // Rows of pulls and pushes a second that it could serve, as measured; 0 = not known yet.
  double CapacityOf(uint16_t node) const;

 private:
  struct Partition {
    uint64_t touched = 0;
    uint64_t before = 0;
    uint64_t bytes = 0;
    double load = 0;  // a second, in the last sample
  };
  struct Server {
    protocol::Incarnation incarnation;
    protocol::PsStats stats;
    protocol::PsStats before;
    bool sampled = false;  // `before` is of this process
    double busy = 0;
    double us_per_row = 0;  // smoothed
  };

  void Sample(double seconds, const std::vector<protocol::Place>& places);
  std::optional<Advice> LookAtMemory(const std::vector<protocol::Place>& places,
                                     const std::vector<std::string>& names) const;
  std::optional<Advice> LookAtLoad(const std::vector<protocol::Place>& places,
                                   const std::vector<std::string>& names);
  std::vector<ServerLoad> Loads() const;
  std::vector<PartitionLoad> PartitionLoads() const;

  LoadWatchOptions options_;
  std::vector<Partition> partitions_;
  std::map<uint16_t, Server> servers_;
  std::optional<base::Instant> sampled_;
  base::Instant resting_until_;
  uint32_t uneven_ = 0;  // samples in a row
};

}  // namespace freshet::master
