// SPDX-License-Identifier: Apache-2.0
// LoadWatch: what servers and partitions have to do, and whether something should be done about it:
// a server that is slow (a busy neighbour, a throttled processor) or has a hot partition sheds load, one
// that is short of memory, or soon will be, sheds partitions. It acts on what lasted for several samples
// and gains much, then goes all the way and rests. A server that was too slow once gets work back in
// steps, ever later if they fail. Pure; belongs to the master's loop.
#pragma once

#include <array>
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
  // The same for a server that has less to do than it could, where others hardly suffer from it.
  uint32_t samples_underused = 15;
  // Samples that are passed over after a plan ended.
  uint32_t rest_samples = 8;
  // Utilisation of the busiest server against an even one: where it acts, what it then aims at, and what a
  // plan must leave of it to be worth the while; or how much more who was underused must have to do.
  double act_above = 1.35;
  double aim_at = 1.05;
  double worth = 0.9;
  double worth_underused = 1.25;
  // Of an even utilisation: a server that has less to do could do more.
  double underused = 0.7;
  // Servers that differ from the usual one by less than this factor count as usual.
  double alike = 1.3;
  // The same for how much longer their work takes as they are kept from running.
  double alike_stretch = 1.6;
  // A cluster whose busiest server has less to do than this is left alone.
  double least_busy = 0.15;
  // A server that was found to be slow is trusted with `trust_growth` times as much after so many samples,
  // twice as many after each time that it was found so again.
  uint32_t trust_samples = 30;
  uint32_t trust_samples_most = 1800;
  double trust_growth = 1.6;
  // Of a server's memory limit: where it acts, what it aims at, and what a server may be filled to.
  double memory_act = 0.80;
  double memory_aim = 0.65;
  double memory_fill = 0.75;
  // It acts as well if the limit would be reached in so many samples, from this fill on.
  uint32_t memory_ahead_samples = 5;
  double memory_ahead_from = 0.5;
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
    std::vector<PlannedMove> moves;
    std::string why;
    bool needs_server = false;  // the moves, if any, are all that can be done without one more
  };
  // To be asked often; answers at most once per need. `busy`: plans are under way, so what is seen now
  // says nothing.
  std::optional<Advice> Look(base::Instant now, const std::vector<protocol::Place>& places,
                             const std::vector<std::string>& names, bool busy);

  // Rows of pulls and pushes a second that it is trusted to serve; 0 = not known yet.
  double CapacityOf(uint16_t node) const;
  // Bytes of memory that partitions may still bring to it; no bound while it has not said.
  uint64_t RoomOf(uint16_t node) const;
  uint64_t BytesOf(protocol::PartitionId partition) const {
    return partitions_[partition.value()].bytes;
  }
  // Part of the time, in the last samples.
  double BusyOf(uint16_t node) const;

 private:
  struct Partition {
    uint64_t touched = 0;
    uint64_t before = 0;
    uint64_t bytes = 0;
    double load = 0;  // a second, smoothed
  };
  // Of the last samples the one in the middle counts: one that is far off changes nothing.
  class Recent {
   public:
    void Add(double value) { values_[count_++ % values_.size()] = value; }
    void Clear() { count_ = 0; }
    bool full() const { return count_ >= values_.size(); }
    double Median() const;
    // All but one are so far from it, on the same side.
    bool AwayFrom(double value, double factor) const;

   private:
    std::array<double, 5> values_{};
    size_t count_ = 0;
  };
  struct Server {
    protocol::Incarnation incarnation;
    protocol::PsStats stats;
    protocol::PsStats before;
    bool sampled = false;  // `before` is of this process
    Recent busy;
    Recent us_per_row;
    Recent processor_us_per_row;
    Recent stretch;     // of its work, as it was kept from running
    double cost = 0;    // us a row: smoothed for long, unless it jumps
    double growth = 0;  // bytes of memory a sample, smoothed
    // What it did when it was found to be slow; 0 = it was not, or has shown otherwise.
    double trusted = 0;
    uint32_t trust_age = 0;  // samples
    uint32_t trust_samples = 0;
    bool tried = false;  // it was given something since
  };
  struct Uses {
    std::map<uint16_t, double> of;
    double even = 0;
    double highest = 0;
    uint16_t busiest = protocol::kNoNode;
    double lowest = 0;
  };

  void Sample(double seconds, const std::vector<protocol::Place>& places, bool busy);
  void SampleServer(uint16_t node, Server& server, double seconds, uint64_t rows);
  static void NoteCost(Server* server);
  std::optional<Advice> LookAtMemory(const std::vector<protocol::Place>& places,
                                     const std::vector<std::string>& names) const;
  bool NeedsMemory(const Server& server) const;
  std::optional<Advice> LookAtLoad(const std::vector<protocol::Place>& places,
                                   const std::vector<std::string>& names);
  bool IsUneven(const Uses& uses);
  bool Known() const;
  Uses UsesOf(const std::vector<protocol::Place>& places,
              const std::vector<PartitionLoad>& loads) const;
  void Distrust(const std::vector<PlannedMove>& moves, const Uses& uses);
  void NoteGiven(const std::vector<PlannedMove>& moves);
  // Rows that lie in caches cost less than others: what those of a server cost, in the usual ones. 1 for those
  // alike, and where one server is kept from running more than another: there it is not the rows that differ.
  double RowWeight(uint16_t node) const;
  double UsualCapacity() const;
  std::vector<ServerLoad> Loads() const;
  // In usual rows, by what they cost where they are now.
  std::vector<PartitionLoad> PartitionLoads(const std::vector<protocol::Place>& places) const;

  LoadWatchOptions options_;
  std::vector<Partition> partitions_;
  std::map<uint16_t, Server> servers_;
  std::optional<base::Instant> sampled_;
  uint32_t resting_ = 0;  // samples
  // Samples in a row.
  uint32_t uneven_ = 0;
  uint32_t underused_ = 0;
};

}  // namespace freshet::master
