// SPDX-License-Identifier: Apache-2.0
// PlanRunner: from a plan that is running to its end. How plans are checked and begun is in
// plan_begin.cc.
#include "master/plan_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/mutant.h"
#include "base/stop_point.h"
#include "master/master_node.h"

namespace freshet::master {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::MigrationId;
using protocol::PartitionId;
using protocol::Place;

namespace {

// A server without partitions that is not heard for so long is not waited for.
constexpr std::chrono::seconds kForgottenAfter{20};
constexpr size_t kMaxPlans = 64;

uint64_t Quantile(std::vector<uint64_t> values, double q) {
  if (values.empty()) return 0;
  const auto at = std::min(values.size() - 1, static_cast<size_t>(q * values.size()));
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(at), values.end());
  return values[at];
}

std::string PauseText(const protocol::MoveReport& report) {
  const auto ms = [](uint64_t us) { return static_cast<double>(us) / 1e3; };
  const uint64_t durable = std::max(report.durable_us, report.copied_us);
  return fmt::format(
      "partition {} after a pause of {:.1f} ms: {:.1f} to copy the last difference, {:.1f} to make "
      "it durable, {:.1f} to commit; {:.2f} ms of the source's loop at most",
      report.partition.value(), ms(report.pause_us), ms(report.copied_us),
      ms(durable - report.copied_us), ms(report.pause_us - std::min(report.pause_us, durable)),
      ms(report.longest_turn_us));
}

// Rule G11: this very migration, by whom it goes to.
bool Stands(const Place& place, uint16_t target, const protocol::MoveReport& report) {
  const bool unchecked = MUTANT(kLatePreparedUnchecked);
  const bool same = place.migration == report.migration || MUTANT(kLatePrepared) || unchecked;
  const bool same_tenure = place.tenure == report.tenure || unchecked;
  return same && same_tenure && place.target == target && report.migration.value() != 0;
}

}  // namespace

PlanRecord* PlanRunner::Running() {
  for (PlanRecord& plan : cluster_.state.plans) {
    if (plan.state == PlanState::kRunning) return &plan;
  }
  return nullptr;
}

PlanRecord* PlanRunner::Find(uint64_t id) {
  for (PlanRecord& plan : cluster_.state.plans) {
    if (plan.id == id) return &plan;
  }
  return nullptr;
}

bool PlanRunner::busy() const {
  return std::any_of(plans().begin(), plans().end(),
                     [](const PlanRecord& plan) { return !plan.ended(); });
}

bool PlanRunner::WillLeave(const std::string& name) const {
  return std::any_of(plans().begin(), plans().end(), [&](const PlanRecord& plan) {
    return !plan.ended() &&
           std::find(plan.leaving.begin(), plan.leaving.end(), name) != plan.leaving.end();
  });
}

size_t PlanRunner::under_way() const {
  const auto& places = cluster_.state.view.places;
  return static_cast<size_t>(std::count_if(places.begin(), places.end(), [](const Place& place) {
    return place.migration.value() != 0;
  }));
}

void PlanRunner::Advance() {
  if (!cluster_.state.placed) return;
  AskLeaving();
  PlanRecord* plan = Running();
  if (plan == nullptr) {
    const auto queued =
        std::find_if(cluster_.state.plans.begin(), cluster_.state.plans.end(),
                     [](const PlanRecord& p) { return p.state == PlanState::kQueued; });
    if (queued == cluster_.state.plans.end()) return;
    plan = &*queued;
    if (!Begin(*plan)) return;
  }
  if (began_ == base::Instant()) began_ = cluster_.runtime.clock.Now();  // of a master before us
  if (!Joined(*plan)) return;
  if (MovesPartitions(plan->request) && PresentServers().empty()) {
    Undo(*plan);
    return End(*plan, PlanState::kFailed, "there is no server left to move partitions to");
  }
  const std::vector<PlannedMove> moves = MovesOf(*plan);
  StartMoves(moves);
  if (GivenUpWaiting(*plan, moves)) return;
  if (!moves.empty() || under_way() > 0 || !EndLeaving(*plan)) return;
  End(*plan, PlanState::kDone,
      fmt::format("{} partitions moved, pauses p50 {:.1f} ms, p99 {:.1f} ms, max {:.1f} ms",
                  plan->moved, static_cast<double>(plan->pause_p50_us) / 1e3,
                  static_cast<double>(plan->pause_p99_us) / 1e3,
                  static_cast<double>(plan->pause_max_us) / 1e3));
}

bool PlanRunner::Usable(uint16_t node) const {
  const protocol::View& view = cluster_.state.view;
  if (node >= view.nodes.size() || view.nodes[node].incarnation.value() == 0) return false;
  const auto it = cluster_.nodes.find(view.nodes[node].name);
  return it != cluster_.nodes.end() && it->second.state == "running" && it->second.connected &&
         !Leaves(it->first);
}

bool PlanRunner::Joined(PlanRecord& plan) {
  std::string missing;
  for (const std::string& name : plan.joining) {
    if (!IsPs(name)) continue;
    const auto index = cluster_.state.view.FindNode(name);
    if (!index || !Usable(*index)) missing = name;
  }
  if (missing.empty()) return true;
  // Once it was there it may come and go like any other.
  if (plan.moved > 0) return true;
  if (cluster_.runtime.clock.Now() - began_ < limits_.join_timeout) return false;
  Undo(plan);
  End(plan, PlanState::kFailed, missing + " did not join in time: see its log");
  return false;
}

std::vector<uint16_t> PlanRunner::Indices(const std::vector<std::string>& names) const {
  std::vector<uint16_t> indices;
  for (const std::string& name : names) {
    if (const auto index = cluster_.state.view.FindNode(name)) indices.push_back(*index);
  }
  return indices;
}

bool PlanRunner::Owns(uint16_t node) const {
  const auto& places = cluster_.state.view.places;
  return std::any_of(places.begin(), places.end(),
                     [node](const Place& place) { return place.node == node; });
}

std::vector<std::string> PlanRunner::PresentServers() const {
  const base::Instant now = cluster_.runtime.clock.Now();
  std::vector<std::string> present;
  for (const std::string& name : cluster_.state.servers) {
    const auto index = cluster_.state.view.FindNode(name);
    const auto node = cluster_.nodes.find(name);
    const bool there = node != cluster_.nodes.end() &&
                       ((node->second.state != "lost" && node->second.state != "stopped") ||
                        now - node->second.last_heard < kForgottenAfter);
    if (there || (index && Owns(*index))) present.push_back(name);
  }
  return present;
}

// What is on its way counts as where it goes.
std::vector<PlannedMove> PlanRunner::MovesOf(const PlanRecord& plan) const {
  if (plan.request.kind == PlanKind::kEvenLoad || plan.request.kind == PlanKind::kRelieve) {
    const auto present = Indices(PresentServers());
    std::vector<PlannedMove> moves;
    for (const PlannedMove& move : decided_) {
      const Place& place = cluster_.state.view.places[move.partition.value()];
      const bool there = std::find(present.begin(), present.end(), move.to) != present.end();
      if (there && place.node == move.from && place.migration.value() == 0) moves.push_back(move);
    }
    return moves;
  }
  std::vector<Place> places = cluster_.state.view.places;
  for (Place& place : places) {
    if (place.migration.value() != 0) place.node = place.target;
  }
  if (!MovesPartitions(plan.request)) return {};
  const bool replaces = plan.request.kind == PlanKind::kMigrate;
  std::vector<PlannedMove> moves;
  if (!replaces) {
    moves = PlanEqualShares(places, Indices(PresentServers()));
    SkipWithoutRoom(&moves);
    return moves;
  }
  const auto from = cluster_.state.view.FindNode(plan.request.node);
  const auto to = Indices(plan.joining);
  if (!from || to.empty()) return moves;
  for (size_t p = 0; p < places.size(); ++p) {
    if (places[p].node != *from) continue;
    moves.push_back({PartitionId(static_cast<uint16_t>(p)), *from, to.front()});
  }
  return moves;
}

// A server gets no more than it has memory for, except of those who leave.
void PlanRunner::SkipWithoutRoom(std::vector<PlannedMove>* moves) const {
  const LoadWatch& load = cluster_.load();
  const std::vector<uint16_t> stay = Indices(cluster_.state.servers);
  const auto& places = cluster_.state.view.places;
  std::map<uint16_t, uint64_t> arriving;
  for (size_t p = 0; p < places.size(); ++p) {
    if (places[p].migration.value() == 0) continue;
    arriving[places[p].target] += load.BytesOf(PartitionId(static_cast<uint16_t>(p)));
  }
  std::erase_if(*moves, [&](const PlannedMove& move) {
    if (std::find(stay.begin(), stay.end(), move.from) == stay.end()) return false;
    const uint64_t then = arriving[move.to] + load.BytesOf(move.partition);
    if (then > load.RoomOf(move.to)) return true;
    arriving[move.to] = then;
    return false;
  });
}

void PlanRunner::StartMoves(const std::vector<PlannedMove>& moves) {
  if (!AddIntents(moves)) return;
  cluster_.state.view.number = cluster_.state.view.number.Next();
  if (!cluster_.save()) return;
  base::StopPoint("master_intends");
  cluster_.publish_view();
}

// Says whom a plan waits for of which nothing can be moved; not for ever: others wait behind it.
bool PlanRunner::GivenUpWaiting(PlanRecord& plan, const std::vector<PlannedMove>& moves) {
  if (moves.empty() || under_way() > 0) {
    waits_since_.reset();
    plan.text.clear();
    return false;
  }
  const base::Instant now = cluster_.runtime.clock.Now();
  const PlannedMove& first = moves.front();
  const uint16_t absent = Usable(first.from) ? first.to : first.from;
  const std::string& name = cluster_.state.view.nodes[absent].name;
  plan.text = "waits for " + name;
  if (!waits_since_) waits_since_ = now;
  if (now - *waits_since_ < limits_.wait_timeout) return false;
  Undo(plan);
  End(plan, PlanState::kFailed, name + " was not there for too long: see its log");
  return true;
}

bool PlanRunner::GiveUpJoining(const std::string& name, const std::string& why) {
  PlanRecord* plan = Running();
  const auto index = cluster_.state.view.FindNode(name);
  if (plan == nullptr || (index && Owns(*index)) ||
      std::find(plan->joining.begin(), plan->joining.end(), name) == plan->joining.end()) {
    return false;
  }
  Undo(*plan);
  End(*plan, PlanState::kFailed, why);
  OnNodeGone(name);
  return true;
}

void PlanRunner::EndAll(const std::string& why) {
  for (PlanRecord& plan : cluster_.state.plans) {
    if (plan.ended()) continue;
    if (plan.state == PlanState::kRunning) Undo(plan);
    plan.state = PlanState::kFailed;
    plan.text = why;
    plan.ended_unix_ms = cluster_.runtime.clock.WallNow().unix_ms;
  }
  cluster_.save();
}

bool PlanRunner::AddIntents(const std::vector<PlannedMove>& moves) {
  protocol::View& view = cluster_.state.view;
  std::map<uint16_t, uint32_t> leaving;
  std::map<uint16_t, uint32_t> arriving;
  for (const Place& place : view.places) {
    if (place.migration.value() == 0) continue;
    ++leaving[place.node];
    ++arriving[place.target];
  }
  bool any = false;
  for (const PlannedMove& move : moves) {
    Place& place = view.places[move.partition.value()];
    if (place.migration.value() != 0 || place.node != move.from || move.from == move.to ||
        !Usable(move.from) || !Usable(move.to)) {
      continue;
    }
    if (leaving[move.from] >= limits_.moves_per_server ||
        arriving[move.to] >= limits_.moves_per_server) {
      continue;
    }
    ++leaving[move.from];
    ++arriving[move.to];
    cluster_.state.last_migration = cluster_.state.last_migration.Next();
    place.migration = cluster_.state.last_migration;
    place.target = move.to;
    any = true;
  }
  return any;
}

Result<> PlanRunner::OnReport(const std::string& from, const protocol::MoveReport& report) {
  protocol::View& view = cluster_.state.view;
  const auto sender = view.FindNode(from);
  const size_t p = report.partition.value();
  if (!sender || p >= view.places.size()) {
    return Fail(ErrorCode::kInvalidArgument, "a report of a partition that there is not");
  }
  const Place& place = view.places[p];
  PlanRecord* plan = Running();
  if (report.state == protocol::MoveState::kServing) {
    if (plan != nullptr) NotePause(*plan, report.pause_us);
    cluster_.events.Add("partition_serving", from, PauseText(report));
    return {};
  }
  // Its own answer was lost.
  if (place.node == *sender && place.tenure == report.tenure.Next()) return {};
  if (!Stands(place, *sender, report)) {
    return Fail(ErrorCode::kConflict, "that migration is over");
  }
  if (report.state == protocol::MoveState::kPrepared) {
    base::StopPoint("master_hears");
    if (MUTANT(kOldPreparedReport)) prepared_before_.emplace(p, report.applied);
    CommitSoon(*sender, report);
    return {};
  }
  cluster_.events.Add("move_failed", from, fmt::format("partition {}: {}", p, report.message));
  ClearIntents([&](const Place& other) { return other.migration == report.migration; });
  if (plan == nullptr) return {};
  if (++plan->failed_moves > limits_.max_failed_moves) {
    Undo(*plan);
    End(*plan, PlanState::kFailed, fmt::format("{}: {}", from, report.message));
  }
  return {};
}

// Soon: several that come together are committed in one durable write.
void PlanRunner::CommitSoon(uint16_t target, const protocol::MoveReport& report) {
  prepared_.push_back({target, report});
  if (prepared_.size() > 1) return;
  commit_timer_ = cluster_.runtime.timers.After(base::Duration(0), [this] { CommitPrepared(); });
}

void PlanRunner::CommitPrepared() {
  protocol::View& view = cluster_.state.view;
  std::vector<std::pair<std::string, std::string>> moved;  // to whom, and what for people
  for (const auto& [target, report] : std::exchange(prepared_, {})) {
    const Place& place = view.places[report.partition.value()];
    if (!Stands(place, target, report)) continue;
    const std::string from = view.nodes[place.node].name;
    if (!Commit(target, report)) continue;
    moved.emplace_back(view.nodes[target].name,
                       fmt::format("partition {} from {}: {} rows, {} bytes",
                                   report.partition.value(), from, report.rows, report.bytes));
  }
  if (moved.empty()) return;
  view.number = view.number.Next();
  // What is to move next stands in the same durable write.
  if (const PlanRecord* plan = Running()) AddIntents(MovesOf(*plan));
  if (!cluster_.save()) return;
  base::StopPoint("master_committed");
  cluster_.publish_view();
  for (const auto& [to, text] : moved) cluster_.events.Add("partition_moved", to, text);
  Advance();
}

// Rules G6, G11, G12 and G21.
bool PlanRunner::Commit(uint16_t target, const protocol::MoveReport& report) {
  const PartitionId id = report.partition;
  ProgressBook& progress = cluster_.progress();
  for (const protocol::LogWatermark& claim : progress.DurableOf(id)) {
    const bool has = report.applied.Of(claim.log).Watermark() >= claim.watermark;
    if (has || MUTANT(kLatePreparedUnchecked)) continue;
    cluster_.events.Add("move_failed", "",
                        fmt::format("partition {}: less than durable", id.value()));
    ClearIntents([&](const Place& place) { return place.migration == report.migration; });
    return false;
  }
  Place& place = cluster_.state.view.places[id.value()];
  place = {target, place.tenure.Next(), MigrationId(), protocol::kNoNode};
  progress.Forget(id);
  if (MUTANT(kOldPreparedReport)) {
    progress.Report(id, prepared_before_.at(id.value()), {});
  } else {
    progress.Report(id, report.applied, {});
  }
  if (PlanRecord* plan = Running()) {
    ++plan->moved;
    plan->rows += report.rows;
    plan->bytes += report.bytes;
  }
  return true;
}

void PlanRunner::NotePause(PlanRecord& plan, uint64_t pause_us) {
  pauses_us_.push_back(pause_us);
  plan.pause_p50_us = Quantile(pauses_us_, 0.5);
  plan.pause_p99_us = Quantile(pauses_us_, 0.99);
  plan.pause_max_us = std::max(plan.pause_max_us, pause_us);
}

bool PlanRunner::ClearIntents(const std::function<bool(const Place&)>& which) {
  protocol::View& view = cluster_.state.view;
  bool any = false;
  for (Place& place : view.places) {
    if (place.migration.value() == 0 || !which(place)) continue;
    place.migration = MigrationId();
    place.target = protocol::kNoNode;
    any = true;
  }
  if (!any) return true;
  view.number = view.number.Next();
  if (!cluster_.save()) return false;
  cluster_.publish_view();
  return true;
}

void PlanRunner::OnServerLost(const std::string& name) {
  const auto index = cluster_.state.view.FindNode(name);
  if (!index) return;
  ClearIntents([&](const Place& place) { return place.target == *index || place.node == *index; });
}

// Where things stand becomes what shall be: whoever owns partitions stays, who came for the plan and has
// none leaves again.
void PlanRunner::Undo(PlanRecord& plan) {
  ClearIntents([](const Place&) { return true; });
  auto& servers = cluster_.state.servers;
  for (const std::string& name : plan.leaving) {
    const auto node = cluster_.nodes.find(name);
    if (node == cluster_.nodes.end() || leaving_.contains(name)) continue;
    if (IsPs(name) && !IsServer(name)) servers.push_back(name);
    if (!IsPs(name) && node->second.launched) cluster_.state.workers.push_back(name);
  }
  for (const std::string& name : plan.joining) {
    const auto index = cluster_.state.view.FindNode(name);
    if (!IsPs(name) || (index && Owns(*index))) continue;
    std::erase(servers, name);
    const auto node = cluster_.nodes.find(name);
    if (node == cluster_.nodes.end() || !node->second.launched) continue;
    leaving_.emplace(name, 0);
  }
}

void PlanRunner::End(PlanRecord& plan, PlanState state, const std::string& text) {
  plan.state = state;
  plan.text = text;
  plan.ended_unix_ms = cluster_.runtime.clock.WallNow().unix_ms;
  waits_since_.reset();
  decided_.clear();
  pauses_us_.clear();
  cluster_.events.Add("plan_" + PlanStateName(state), "",
                      fmt::format("plan {} ({}): {}", plan.id, PlanText(plan.request), text));
  TrimPlans();
  cluster_.save();
}

void PlanRunner::TrimPlans() {
  auto& plans = cluster_.state.plans;
  while (plans.size() > kMaxPlans && plans.front().ended()) plans.erase(plans.begin());
}

Result<> PlanRunner::Cancel(uint64_t id) {
  PlanRecord* plan = Find(id);
  if (plan == nullptr) return Fail(ErrorCode::kNotFound, fmt::format("there is no plan {}", id));
  if (plan->ended()) {
    return Fail(ErrorCode::kConflict,
                fmt::format("plan {} has ended: {}", id, PlanStateName(plan->state)));
  }
  if (plan->state == PlanState::kRunning) Undo(*plan);
  End(*plan, PlanState::kCancelled,
      fmt::format("{} partitions had moved and stay where they are", plan->moved));
  return {};
}

}  // namespace freshet::master
