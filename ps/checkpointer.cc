// SPDX-License-Identifier: Apache-2.0
#include "ps/checkpointer.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/mutant.h"

namespace freshet::ps {

using protocol::Image;
using protocol::PartitionId;
using std::chrono::milliseconds;

Checkpointer::Checkpointer(Slots& slots, checkpoint::ImageStore& store, base::Runtime runtime,
                           CheckpointerOptions options)
    : slots_(slots), store_(store), runtime_(runtime), options_(options) {}

Checkpointer::~Checkpointer() {
  runtime_.timers.Cancel(interval_timer_);
  runtime_.timers.Cancel(turn_timer_);
}

void Checkpointer::Start() {
  interval_timer_ = runtime_.timers.After(options_.interval, [this] { OnInterval(); });
}

void Checkpointer::OnInterval() {
  Begin();
  if (!paused_ && !failed_) RemoveOld();
  Start();
}

void Checkpointer::RemoveLater(PartitionId partition, protocol::Tenure below) {
  if (MUTANT(kDropAnyImage)) below = protocol::Tenure(UINT64_MAX);
  to_remove_.emplace_back(partition, below);
}

void Checkpointer::RemoveOld() {
  if (to_remove_.empty()) return;
  runtime_.executor.Run(
      [store = &store_, all = std::exchange(to_remove_, {})] {
        for (const auto& [partition, below] : all) {
          if (auto removed = store->Remove(partition, below); !removed) {
            FRESHET_LOG_WARN("image of partition {} not removed: {}", partition.value(),
                             removed.error().message);
          }
        }
      },
      [] {});
}

void Checkpointer::Soon() {
  soon_ = true;
  runtime_.timers.Cancel(interval_timer_);
  const auto delay = std::min<base::Duration>(options_.interval, milliseconds(50));
  interval_timer_ = runtime_.timers.After(delay, [this] { OnInterval(); });
  Hurry();
}

void Checkpointer::Hurry() {
  if (!std::exchange(waits_for_turn_, false)) return;
  runtime_.timers.Cancel(turn_timer_);
  CutNext();
}

void Checkpointer::Flush(std::function<void()> done) {
  Waiter waiter;
  for (size_t p = 0; p < slots_.size(); ++p) {
    const Slot& slot = slots_[p];
    if (!slot.serving()) continue;
    waiter.targets.push_back(
        {PartitionId(static_cast<uint16_t>(p)), slot.tenure, slot.partition->version()});
  }
  waiter.done = std::move(done);
  waiters_.push_back(std::move(waiter));
  // What is being written now may have been cut before this call; Begin comes again behind it.
  Hurry();
  if (!running_) {
    Begin();
    if (!running_) ServeWaiters();
  }
}

void Checkpointer::Pause(std::function<void()> idle) {
  paused_ = true;
  if (waits_for_turn_ && group_->images.empty()) {
    runtime_.timers.Cancel(turn_timer_);
    waits_for_turn_ = running_ = false;
    Interrupt();
  }
  if (!running_) return idle();
  on_idle_ = std::move(idle);
  Hurry();
}

void Checkpointer::Interrupt() {
  interrupted_ = true;
  soon_ = soon_ || hurry_;
}

void Checkpointer::Resume() {
  paused_ = false;
  on_idle_ = nullptr;
  if (std::exchange(interrupted_, false)) Begin();
}

void Checkpointer::Begin() {
  if (running_ || failed_) return;
  if (paused_) return Interrupt();
  queue_.clear();
  // On from where the last one was interrupted, or the last partitions would wait for ever while others move.
  for (size_t i = 0; i < slots_.size(); ++i) {
    const size_t p = (next_ + i) % slots_.size();
    if (slots_[p].NeedsImage()) queue_.push_back(PartitionId(static_cast<uint16_t>(p)));
  }
  // Who waits for a partition that has left waits for nothing any more.
  if (queue_.empty()) return ServeWaiters();
  running_ = true;
  hurry_ = std::exchange(soon_, false);
  began_ = runtime_.clock.Now();
  planned_ = queue_.size();
  group_ = std::make_shared<Group>();
  CutNext();
}

base::Duration Checkpointer::WaitForTurn() const {
  if (hurry_ || soon_ || !waiters_.empty()) return base::Duration(0);
  const auto done = static_cast<int64_t>(planned_ - queue_.size());
  const base::Instant due = began_ + options_.spread * done / static_cast<int64_t>(planned_);
  return std::max(base::Duration(0), due - runtime_.clock.Now());
}

// One partition a turn, so that requests are served in between.
void Checkpointer::CutNext() {
  const base::Duration wait = queue_.empty() ? base::Duration(0) : WaitForTurn();
  const uint64_t small = std::min(options_.small_group_bytes, options_.group_bytes);
  const uint64_t enough = wait.count() > 0 ? small : options_.group_bytes;
  if (queue_.empty() || paused_ || group_->bytes >= enough) {
    WriteGroup();
    return;
  }
  if (wait.count() > 0) {
    waits_for_turn_ = true;
    turn_timer_ = runtime_.timers.After(wait, [this] {
      waits_for_turn_ = false;
      CutNext();
    });
    return;
  }
  const PartitionId partition = queue_.front();
  queue_.pop_front();
  Slot& slot = slots_[partition.value()];
  if (slot.NeedsImage()) CutOne(partition, slot);
  turn_timer_ = runtime_.timers.After(base::Duration(0), [this] { CutNext(); });
}

void Checkpointer::CutOne(PartitionId partition, Slot& slot) {
  const bool chain = slot.saved.tenure.value() != 0 &&
                     slot.differences < options_.max_differences &&
                     slot.difference_bytes <= slot.saved_bytes / 2;
  const Cut cut{partition, slot.tenure, slot.partition->current_cut(), 0};
  Image image = chain ? slot.partition->CutDifference(slot.tenure, slot.saved, slot.saved_cut)
                      : slot.partition->CutWhole(slot.tenure);
  group_->cuts.push_back(cut);
  group_->cuts.back().bytes = image.Bytes();
  group_->bytes += image.Bytes();
  group_->images.push_back(std::move(image));
  next_ = partition.value() + size_t{1};
  if (MUTANT(kVolatileFloor)) Claim(group_->cuts.back(), group_->images.back());
}

void Checkpointer::WriteGroup() {
  auto group = std::exchange(group_, nullptr);
  runtime_.executor.Run([group, store = &store_] { group->saved = store->SaveAll(group->images); },
                        [this, group] { OnWritten(group); });
}

void Checkpointer::OnWritten(const std::shared_ptr<Group>& group) {
  running_ = false;
  GoOn(group);
  if (!running_ && on_idle_) std::exchange(on_idle_, nullptr)();
}

void Checkpointer::GoOn(const std::shared_ptr<Group>& group) {
  if (!group->saved) {
    const base::Error& error = group->saved.error();
    if (error.code == base::ErrorCode::kResourceExhausted) {
      FRESHET_LOG_ERROR("checkpoint failed, the last good images stay: {}", error.message);
      queue_.clear();
      return;  // the next interval tries again
    }
    failed_ = true;
    if (on_failure) on_failure(error.message);
    return;
  }
  for (size_t i = 0; i < group->cuts.size(); ++i) {
    if ((*group->saved)[i] != 0) {
      Claim(group->cuts[i], group->images[i]);
    } else {
      OnSkipped(group->cuts[i]);
    }
  }
  if (on_saved) on_saved();
  if (!queue_.empty() && paused_) return Interrupt();
  if (!queue_.empty()) {
    running_ = true;
    group_ = std::make_shared<Group>();
    CutNext();
    return;
  }
  ServeWaiters();
  // One that was skipped may be skipped again: not at once.
  const bool skipped = std::count(group->saved->begin(), group->saved->end(), 0) > 0;
  if (skipped && !waiters_.empty()) return Soon();
  if (soon_ || !waiters_.empty()) Begin();
}

void Checkpointer::Claim(const Cut& cut, const Image& image) {
  ++images_saved_;
  bytes_saved_ += cut.bytes;
  Slot& slot = slots_[cut.partition.value()];
  if (!slot.serving() || slot.tenure != cut.tenure) return;
  slot.saved = image.header.stamp;
  slot.saved_cut = cut.cut;
  if (image.header.whole()) {
    slot.saved_bytes = cut.bytes;
    slot.difference_bytes = 0;
    slot.differences = 0;
  } else {
    slot.difference_bytes += cut.bytes;
    ++slot.differences;
  }
  slot.durable.clear();
  for (const auto& entry : image.header.applied.logs()) {
    slot.durable.push_back({entry.log, entry.set.Watermark()});
  }
}

// The store has a higher stamp, so another instance has taken over since (rule G3); or it does not have
// what the difference was cut against, and then a whole image makes it good.
void Checkpointer::OnSkipped(const Cut& cut) {
  Slot& slot = slots_[cut.partition.value()];
  if (!slot.serving() || slot.tenure != cut.tenure) return;
  FRESHET_LOG_WARN(
      "the image of partition {} did not fit onto what is stored; the next one is whole",
      cut.partition.value());
  slot.differences = options_.max_differences;
}

bool Checkpointer::Reached(const Target& target) const {
  const Slot& slot = slots_[target.partition.value()];
  // A partition that left since then is somebody else's to make durable.
  if (!slot.serving() || slot.tenure != target.tenure) return true;
  return slot.saved.tenure == target.tenure && slot.saved.version >= target.version;
}

void Checkpointer::ServeWaiters() {
  std::vector<Waiter> waiting = std::exchange(waiters_, {});
  for (Waiter& waiter : waiting) {
    const bool reached = std::all_of(waiter.targets.begin(), waiter.targets.end(),
                                     [this](const Target& t) { return Reached(t); });
    if (reached) {
      waiter.done();
    } else {
      waiters_.push_back(std::move(waiter));
    }
  }
}

}  // namespace freshet::ps
