// SPDX-License-Identifier: Apache-2.0
// PlanRunner: nodes that leave.
#include <fmt/format.h>

#include <algorithm>

#include "master/master_node.h"
#include "master/plan_runner.h"

namespace freshet::master {

namespace {

// A server that joined by itself is told to leave with the answers to its heartbeats; it has done so
// when it is silent.
constexpr std::chrono::seconds kSilentWhenGone{2};
constexpr size_t kMaxLeft = 256;

}  // namespace

// Whoever is on its way up is asked when it is there.
void PlanRunner::AskLeaving() {
  for (auto& [name, asked_pid] : leaving_) {
    const auto node = cluster_.nodes.find(name);
    if (node == cluster_.nodes.end() || !node->second.launched) continue;
    const bool up = node->second.state == "running" || node->second.state == "lost";
    if (!up || asked_pid == node->second.pid) continue;
    asked_pid = node->second.pid;
    cluster_.launcher.Stop(name, StopMode::kDrain);
  }
}

// That will stay: one that a cancelled plan has told to leave goes all the same.
bool PlanRunner::OtherWorkerHeard(const std::string& name, base::Instant since) const {
  return std::any_of(cluster_.nodes.begin(), cluster_.nodes.end(), [&](const auto& entry) {
    const Node& node = entry.second;
    return node.role == protocol::Role::kWorker && entry.first != name && node.state == "running" &&
           node.last_heard >= since && !WillLeave(entry.first) && !Leaves(entry.first);
  });
}

std::string PlanRunner::OnlyWorkerText(const std::string& name) {
  return name + " is the only worker that runs: add another one first";
}

void PlanRunner::OnNodeBegins(const Node& node) {
  if (!node.launched && !WillLeave(node.name)) leaving_.erase(node.name);
}

void PlanRunner::LetGo(const std::string& name) {
  if (leaving_.emplace(name, 0).second) {
    cluster_.events.Add("node_leaves", name, "no plan needs it any more");
  }
}

// True when all of them are gone.
bool PlanRunner::EndLeaving(PlanRecord& plan) {
  const base::Instant now = cluster_.runtime.clock.Now();
  bool all_gone = true;
  std::vector<std::string> silent;
  for (const std::string& name : plan.leaving) {
    const auto node = cluster_.nodes.find(name);
    if (node == cluster_.nodes.end()) continue;
    const bool quiet = !node->second.launched && now - node->second.last_heard > kSilentWhenGone;
    all_gone = all_gone && quiet;
    const auto index = cluster_.state.view.FindNode(name);
    if (index && Owns(*index)) {
      all_gone = false;
      continue;
    }
    if (!leaving_.contains(name)) {
      // Those that seemed to run when the plan began may have been dead already.
      const bool last =
          plan.request.kind == PlanKind::kDrain && !IsPs(name) && !OtherWorkerHeard(name, began_);
      if (last && now - began_ < limits_.join_timeout) {
        all_gone = false;
        continue;
      }
      if (last) {
        Undo(plan);
        End(plan, PlanState::kFailed, OnlyWorkerText(name));
        return false;
      }
      leaving_.emplace(name, 0);
      cluster_.events.Add("node_leaves", name, PlanText(plan.request));
    }
    if (quiet) silent.push_back(name);
  }
  for (const std::string& name : silent) OnNodeGone(name);
  return all_gone;
}

// Its place in the view stays, empty: whoever joins next takes it.
void PlanRunner::OnNodeGone(const std::string& name) {
  leaving_.erase(name);
  if (const auto node = cluster_.nodes.find(name); node != cluster_.nodes.end()) {
    left_.push_back(node->second.incarnation);
    if (left_.size() > kMaxLeft) left_.pop_front();
    cluster_.forget(node->second);
    cluster_.nodes.erase(node);
  }
  std::erase_if(cluster_.state.nodes, [&](const KnownNode& node) { return node.name == name; });
  std::erase_if(cluster_.state.resources,
                [&](const ServerResources& resources) { return resources.name == name; });
  if (const auto index = cluster_.state.view.FindNode(name)) {
    cluster_.state.view.nodes[*index] = {name, {}, {}};
    cluster_.state.view.number = cluster_.state.view.number.Next();
  }
  if (cluster_.save()) cluster_.publish_view();
  cluster_.events.Add("node_left", name, "");
}

bool PlanRunner::HasLeft(protocol::Incarnation incarnation) const {
  return incarnation.value() != 0 &&
         std::find(left_.begin(), left_.end(), incarnation) != left_.end();
}

}  // namespace freshet::master
