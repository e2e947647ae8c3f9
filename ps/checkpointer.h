// SPDX-License-Identifier: Apache-2.0
// Checkpointer: makes partitions durable, each cut on its own in one short turn of the PS loop and
// written by the executor, a few images a transaction. What an interval writes is spread over a part of it,
// or workers would wait for all of it at once. Belongs to the PS loop; borrows the slots and the store. A
// failed write changes no claim: a full disk is tried again, any other failure is reported once through
// `on_failure`, since after a failed sync only a restart tells what is on the disk.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/runtime.h"
#include "checkpoint/image_store.h"
#include "ps/slot.h"

namespace freshet::ps {

struct CheckpointerOptions {
  base::Duration interval = std::chrono::seconds(10);
  // How long an interval's writes take at least, unless somebody waits for them. 0 = as fast as they go.
  base::Duration spread{0};
  // One transaction holds at most about this much; also the bound of the memory for cut images.
  uint64_t group_bytes = 32u << 20;
  // While the next partition waits for its turn, about this much is enough for one: whoever shares the disk,
  // as migrations with their short syncs do, waits behind it.
  uint64_t small_group_bytes = 4u << 20;
  uint32_t max_differences = 16;  // then the partition is written whole again
};

class Checkpointer {
 public:
  Checkpointer(Slots& slots, checkpoint::ImageStore& store, base::Runtime runtime,
               CheckpointerOptions options);
  ~Checkpointer();

  // Called with a message for people when durable writes are over for this process.
  std::function<void(const std::string&)> on_failure;
  // Called after images became durable.
  std::function<void()> on_saved;

  void Start();
  // What changed is to be durable soon: a slot began to serve and its claim needs an image of its own
  // tenure, or memory is full.
  void Soon();
  // Calls `done` when everything applied before this call is durable.
  void Flush(std::function<void()> done);

  // The partition has left; its image of a tenure lower than `below` is of no use to anyone (rule G13).
  // It goes with the next interval: nobody waits for it, and it would keep others waiting for the disk.
  void RemoveLater(protocol::PartitionId partition, protocol::Tenure below);

  // Starts no further write until Resume; calls `idle` once none is under way.
  void Pause(std::function<void()> idle);
  void Resume();

  // Flushes that have not ended.
  size_t waiting() const { return waiters_.size(); }
  uint64_t images_saved() const { return images_saved_; }
  uint64_t bytes_saved() const { return bytes_saved_; }

 private:
  struct Cut {
    protocol::PartitionId partition;
    protocol::Tenure tenure;
    uint32_t cut = 0;
    uint64_t bytes = 0;
  };
  struct Group {
    std::vector<protocol::Image> images;
    std::vector<Cut> cuts;
    uint64_t bytes = 0;
    base::Result<std::vector<char>> saved;
  };
  struct Target {
    protocol::PartitionId partition;
    protocol::Tenure tenure;
    uint64_t version = 0;
  };
  struct Waiter {
    std::vector<Target> targets;
    std::function<void()> done;
  };

  void OnInterval();
  void RemoveOld();
  void Begin();
  // There is more to write when the pause is over.
  void Interrupt();
  void CutNext();
  // How long the next partition has to wait for its turn.
  base::Duration WaitForTurn() const;
  // Ends the wait for a turn, if there is one.
  void Hurry();
  void CutOne(protocol::PartitionId partition, Slot& slot);
  void WriteGroup();
  void OnWritten(const std::shared_ptr<Group>& group);
  void GoOn(const std::shared_ptr<Group>& group);
  void Claim(const Cut& cut, const protocol::Image& image);
  void OnSkipped(const Cut& cut);
  void ServeWaiters();
  bool Reached(const Target& target) const;

  Slots& slots_;
  checkpoint::ImageStore& store_;
  base::Runtime runtime_;
  CheckpointerOptions options_;
  std::deque<protocol::PartitionId> queue_;
  size_t next_ = 0;  // behind the partition that was cut last
  std::shared_ptr<Group> group_;
  std::vector<Waiter> waiters_;
  std::vector<std::pair<protocol::PartitionId, protocol::Tenure>> to_remove_;
  base::Instant began_{};
  size_t planned_ = 0;           // partitions, from then on
  bool running_ = false;         // cutting or writing, or waiting for the next turn
  bool waits_for_turn_ = false;  // of these the last
  bool soon_ = false;            // wanted: images of what began to serve
  bool hurry_ = false;           // these are what is being written
  bool failed_ = false;
  bool paused_ = false;
  bool interrupted_ = false;
  std::function<void()> on_idle_;
  base::TimerId interval_timer_;
  base::TimerId turn_timer_;
  uint64_t images_saved_ = 0;
  uint64_t bytes_saved_ = 0;
};

}  // namespace freshet::ps
