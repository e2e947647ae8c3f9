// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <unordered_map>

#include "transport/endpoint.h"

namespace freshet::transport {

// Numbers peers for one process; never the same number twice.
class PeerIds {
 public:
  PeerId Take() { return last_ = last_.Next(); }

 private:
  PeerId last_{};
};

// The peers that connected to us, by routing id. Bounded: the one silent for longest is forgotten,
// and gets a new id when it speaks again.
class PeerTable {
 public:
  PeerTable(PeerIds& ids, size_t capacity) : ids_(ids), capacity_(capacity) {}

  // The id of the peer that just spoke.
  PeerId Heard(const std::string& routing_id) {
    if (const auto found = by_routing_id_.find(routing_id); found != by_routing_id_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return found->second->id;
    }
    if (order_.size() >= capacity_) {
      Forget(order_.back().id);
      ++forgotten_;
    }
    order_.push_front({ids_.Take(), routing_id});
    by_routing_id_.emplace(routing_id, order_.begin());
    by_id_.emplace(order_.front().id, order_.begin());
    return order_.front().id;
  }

  // Null when unknown; valid until the next call of Heard or Forget.
  const std::string* RoutingIdOf(PeerId id) const {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : &found->second->routing_id;
  }

  void Forget(PeerId id) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return;
    const auto entry = found->second;
    by_routing_id_.erase(entry->routing_id);
    by_id_.erase(found);
    order_.erase(entry);
  }

  size_t size() const { return order_.size(); }
  uint64_t forgotten() const { return forgotten_; }

 private:
  struct Entry {
    PeerId id;
    std::string routing_id;
  };
  using Order = std::list<Entry>;

  PeerIds& ids_;
  const size_t capacity_;
  uint64_t forgotten_ = 0;
  Order order_;  // the latest speaker first
  std::unordered_map<std::string, Order::iterator> by_routing_id_;
  std::unordered_map<PeerId, Order::iterator> by_id_;
};

}  // namespace freshet::transport
