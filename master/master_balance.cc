// SPDX-License-Identifier: Apache-2.0
// MasterNode: what it does by itself about servers that are slow or short of memory, and what it says when
// nothing can be done.
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "master/master_node.h"

namespace freshet::master {

namespace {

// Between two events that say the same.
constexpr std::chrono::minutes kSayAgain{1};

}  // namespace

void MasterNode::Balance() {
  std::vector<std::string> names;
  for (uint16_t n = 0; n < state_.view.nodes.size(); ++n) {
    names.push_back(state_.view.nodes[n].name);
    if (state_.view.nodes[n].incarnation.value() == 0) load_->Forget(n);
  }
  // Who still loads has less in memory than it will.
  const bool busy =
      !state_.placed || plans_.busy() || !recoveries_.empty() || !progress_->AllReported();
  const auto advice = load_->Look(runtime_.clock.Now(), state_.view.places, names, busy);
  if (!advice) return;
  if (advice->needs_server && AddServerForMemory(advice->why)) return;
  if (advice->moves.empty()) return;
  events_.Add("balancing", advice->request.node, advice->why);
  plans_.AddDecided(advice->request, advice->moves);
}

bool MasterNode::AddServerForMemory(const std::string& why) {
  const auto more = static_cast<uint32_t>(state_.servers.size() + 1);
  const auto added = AddPlan({PlanKind::kScale, more, 0, ""});
  if (added) {
    events_.Add("balancing", "", why + ", and nobody has room: one server more");
    return true;
  }
  const base::Instant now = runtime_.clock.Now();
  if (memory_noted_ && now - *memory_noted_ < kSayAgain) return false;
  memory_noted_ = now;
  events_.Add("memory_low", "", why + ", and nobody has room: " + added.error().message);
  FRESHET_LOG_WARN("{}, and nobody has room: {}", why, added.error().message);
  return false;
}

// Whoever pushes waits and tries again; nothing is lost, and nothing new is learnt.
void MasterNode::NoteRefused(Node& node) {
  const bool more = node.ps.out_of_memory > node.noted_refused;
  node.noted_refused = node.ps.out_of_memory;
  const base::Instant now = runtime_.clock.Now();
  if (!more || (node.refusal_said && now - *node.refusal_said < kSayAgain)) return;
  node.refusal_said = now;
  const std::string text = fmt::format(
      "its memory is full ({} MiB): pushes that need new rows wait until partitions leave it",
      node.ps.memory_limit_bytes >> 20);
  events_.Add("memory_full", node.name, text);
  FRESHET_LOG_WARN("{}: {}", node.name, text);
}

}  // namespace freshet::master
