// SPDX-License-Identifier: Apache-2.0
// RecoveryWatch: follows a PS that died until its cluster has caught up, and says how long each part
// took and how much was learnt again. For people only; decides nothing. On the master's loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/runtime.h"

namespace freshet::master {

class RecoveryWatch {
 public:
  // `records_done`: what the cluster had done before.
  void OnDeath(const std::string& ps, base::Instant now, uint64_t records_done) {
    // One that dies again before it caught up still has to catch up with the first time.
    auto& watch = watches_[ps];
    if (!watch.first_died) watch = {now, now, records_done, std::nullopt, 0};
    if (watch.served) watch.last_died = now;
    watch.served.reset();
  }
  bool Watching(const std::string& ps) const { return watches_.contains(ps); }
  bool empty() const { return watches_.empty(); }
  // It will not come back.
  void Forget(const std::string& ps) { watches_.erase(ps); }

  // All partitions of the PS are served again; milliseconds since it died last. Told once.
  std::optional<int64_t> OnServing(const std::string& ps, base::Instant now) {
    const auto it = watches_.find(ps);
    if (it == watches_.end() || it->second.served) return std::nullopt;
    it->second.served = now;
    return MillisecondsSince(it->second.last_died, now);
  }

  struct CaughtUp {
    std::string ps;
    uint64_t replayed_records = 0;
    int64_t milliseconds = 0;
  };
  // What is done now, all partitions reporting. Returns those that are where they were.
  std::vector<CaughtUp> OnProgress(base::Instant now, uint64_t records_done) {
    std::vector<CaughtUp> out;
    for (auto it = watches_.begin(); it != watches_.end();) {
      Watch& watch = it->second;
      if (!watch.served) {
        ++it;
        continue;
      }
      if (watch.records_before > records_done) {
        watch.replayed = std::max(watch.replayed, watch.records_before - records_done);
        ++it;
        continue;
      }
      out.push_back({it->first, watch.replayed, MillisecondsSince(*watch.first_died, now)});
      it = watches_.erase(it);
    }
    return out;
  }

 private:
  struct Watch {
    std::optional<base::Instant> first_died;
    base::Instant last_died;
    uint64_t records_before = 0;
    std::optional<base::Instant> served;
    uint64_t replayed = 0;
  };
  static int64_t MillisecondsSince(base::Instant from, base::Instant to) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(to - from).count();
  }

  std::map<std::string, Watch> watches_;
};

}  // namespace freshet::master
