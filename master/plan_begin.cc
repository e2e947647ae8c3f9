// SPDX-License-Identifier: Apache-2.0
// PlanRunner: what plans are allowed, and how they begin.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "master/master_node.h"
#include "master/plan_runner.h"

namespace freshet::master {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Place;

namespace {

constexpr size_t kMaxQueued = 32;

// "ps-12" -> 12; names of other forms sort first.
uint64_t NumberOf(const std::string& name) {
  const size_t dash = name.rfind('-');
  uint64_t number = 0;
  if (dash != std::string::npos) {
    std::from_chars(name.data() + dash + 1, name.data() + name.size(), number);
  }
  return number;
}

void SortByNumber(std::vector<std::string>* names) {
  std::stable_sort(names->begin(), names->end(), [](const std::string& a, const std::string& b) {
    return NumberOf(a) < NumberOf(b);
  });
}

bool Has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The last `count`, by number.
std::vector<std::string> Highest(std::vector<std::string> names, size_t count) {
  SortByNumber(&names);
  return {names.end() - static_cast<ptrdiff_t>(std::min(count, names.size())), names.end()};
}

std::vector<std::string> FreeWorkers(const std::vector<std::string>& taken, size_t count,
                                     const std::map<std::string, Node>& nodes) {
  std::vector<std::string> names;
  for (uint32_t i = 0; names.size() < count; ++i) {
    std::string name = fmt::format("worker-{}", i);
    if (!Has(taken, name) && !nodes.contains(name)) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

// Who joins by itself has any name; who is started for a plan is named here.
bool PlanRunner::IsPs(const std::string& name) const {
  const auto node = cluster_.nodes.find(name);
  if (node == cluster_.nodes.end()) return name.starts_with("ps-");
  return node->second.role == protocol::Role::kPs;
}

bool PlanRunner::IsServer(const std::string& name) const {
  return Has(cluster_.state.servers, name);
}

std::vector<std::string> PlanRunner::ServersAfter(const Preview& preview) const {
  std::vector<std::string> servers = cluster_.state.servers;
  for (const std::string& name : preview.joining) {
    if (IsPs(name) && !Has(servers, name)) servers.push_back(name);
  }
  std::erase_if(servers, [&](const std::string& name) { return Has(preview.leaving, name); });
  return servers;
}

// Numbers are not used twice, and not those of servers that came by themselves.
std::vector<std::string> PlanRunner::NewServers(size_t count) const {
  std::vector<std::string> names;
  for (uint32_t number = cluster_.state.next_ps; names.size() < count; ++number) {
    std::string name = fmt::format("ps-{}", number);
    if (!cluster_.nodes.contains(name)) names.push_back(std::move(name));
  }
  return names;
}

Result<PlanRunner::Preview> PlanRunner::Check(const PlanRequest& request) const {
  if (!cluster_.state.placed) {
    return Fail(ErrorCode::kUnavailable, "the cluster is still starting; try again");
  }
  Preview preview;
  Result<> ok;
  switch (request.kind) {
    case PlanKind::kScale: ok = CheckScale(request, &preview); break;
    case PlanKind::kMigrate: ok = CheckMigrate(request, &preview); break;
    case PlanKind::kDrain: ok = CheckDrain(request, &preview); break;
    case PlanKind::kJoin: ok = CheckJoin(request, &preview); break;
    default: break;
  }
  if (!ok) return Fail(ok.error().code, ok.error().message);
  CountMoves(request, &preview);
  return preview;
}

Result<> PlanRunner::CheckScale(const PlanRequest& request, Preview* preview) const {
  const auto& servers = cluster_.state.servers;
  const auto& workers = cluster_.state.workers;
  if (request.ps == 0 && request.workers == 0) {
    return Fail(ErrorCode::kInvalidArgument, "scale needs a number of servers or of workers");
  }
  if (request.ps > limits_.max_ps) {
    return Fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{} servers are more than max_ps allows ({})", request.ps, limits_.max_ps));
  }
  if (request.ps > cluster_.state.view.partitions()) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} servers are more than there are partitions ({})", request.ps,
                            cluster_.state.view.partitions()));
  }
  if (request.workers > limits_.max_workers) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} workers are more than max_workers allows ({})", request.workers,
                            limits_.max_workers));
  }
  const bool starts = request.ps > servers.size() || request.workers > 0;
  if (starts && !cluster_.launcher.manages_processes()) {
    return Fail(
        ErrorCode::kUnavailable,
        "this cluster starts no processes itself: start freshet-ps and freshet-worker where "
        "they shall run, and they join");
  }
  if (request.ps > servers.size()) preview->joining = NewServers(request.ps - servers.size());
  if (request.ps > 0 && request.ps < servers.size()) {
    preview->leaving = Highest(servers, servers.size() - request.ps);
  }
  if (request.workers > workers.size()) {
    const auto names = FreeWorkers(workers, request.workers - workers.size(), cluster_.nodes);
    preview->joining.insert(preview->joining.end(), names.begin(), names.end());
  } else if (request.workers > 0) {
    const auto names = Highest(workers, workers.size() - request.workers);
    preview->leaving.insert(preview->leaving.end(), names.begin(), names.end());
  }
  return {};
}

Result<> PlanRunner::CheckMigrate(const PlanRequest& request, Preview* preview) const {
  if (!IsServer(request.node)) {
    return Fail(ErrorCode::kNotFound,
                fmt::format("'{}' is no server of this cluster; see freshet status", request.node));
  }
  if (!cluster_.launcher.manages_processes()) {
    return Fail(
        ErrorCode::kUnavailable,
        "this cluster starts no processes itself: start a freshet-ps under a new name where "
        "it shall run, then freshet drain " +
            request.node);
  }
  if (cluster_.state.servers.size() + 1 > limits_.max_ps) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("a migration needs one server more for a while, and max_ps is {}",
                            limits_.max_ps));
  }
  if (auto can = cluster_.launcher.CanGive(request.processors); !can) return can;
  const auto old = cluster_.nodes.find(request.node);
  if (request.memory_bytes > 0 && old != cluster_.nodes.end() &&
      old->second.ps.memory_bytes > request.memory_bytes) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} uses {} MiB of memory, which is more than --memory", request.node,
                            old->second.ps.memory_bytes >> 20));
  }
  preview->joining = NewServers(1);
  preview->leaving.push_back(request.node);
  return {};
}

Result<> PlanRunner::CheckDrain(const PlanRequest& request, Preview* preview) const {
  const auto node = cluster_.nodes.find(request.node);
  if (node == cluster_.nodes.end()) {
    return Fail(ErrorCode::kNotFound,
                fmt::format("there is no node '{}'; see freshet status", request.node));
  }
  if (IsServer(request.node) && cluster_.state.servers.size() < 2) {
    return Fail(ErrorCode::kConflict, request.node + " is the only server: add another one first");
  }
  if (node->second.role == protocol::Role::kWorker &&
      !OtherWorkerHeard(request.node, base::Instant())) {
    return Fail(ErrorCode::kConflict, OnlyWorkerText(request.node));
  }
  preview->leaving.push_back(request.node);
  return {};
}

Result<> PlanRunner::CheckJoin(const PlanRequest& request, Preview* preview) const {
  if (!cluster_.nodes.contains(request.node) || Leaves(request.node)) {
    return Fail(ErrorCode::kNotFound, request.node + " has left again");
  }
  if (!IsServer(request.node)) preview->joining.push_back(request.node);
  return {};
}

// Workers come and go without the partitions.
bool PlanRunner::MovesPartitions(const PlanRequest& request) const {
  if (request.kind == PlanKind::kScale) return request.ps > 0;
  return request.kind != PlanKind::kDrain || IsPs(request.node);
}

// Those that are still to join have numbers beyond all others here.
void PlanRunner::CountMoves(const PlanRequest& request, Preview* preview) const {
  const protocol::View& view = cluster_.state.view;
  std::vector<uint16_t> servers;
  auto next = static_cast<uint16_t>(view.nodes.size());
  for (const std::string& name : ServersAfter(*preview)) {
    const auto index = view.FindNode(name);
    servers.push_back(index ? *index : next++);
  }
  if (request.kind == PlanKind::kMigrate) {
    const auto from = view.FindNode(request.node);
    preview->moves = static_cast<size_t>(
        std::count_if(view.places.begin(), view.places.end(),
                      [&](const Place& place) { return from && place.node == *from; }));
  } else if (request.kind == PlanKind::kEvenLoad || request.kind == PlanKind::kRelieve) {
    preview->moves = decided_.size();
  } else if (MovesPartitions(request)) {
    preview->moves = PlanEqualShares(view.places, servers).size();
  }
  preview->nothing_to_do =
      preview->moves == 0 && preview->joining.empty() && preview->leaving.empty();
}

Result<uint64_t> PlanRunner::Add(const PlanRequest& request) {
  if (const auto checked = Check(request); !checked) {
    return Fail(checked.error().code, checked.error().message);
  }
  size_t queued = 0;
  const PlanRecord* last = nullptr;
  for (const PlanRecord& plan : plans()) {
    if (plan.ended()) continue;
    ++queued;
    last = &plan;
  }
  if (last != nullptr && last->request == request) return last->id;
  if (queued >= kMaxQueued) {
    return Fail(ErrorCode::kResourceExhausted,
                fmt::format("{} plans are waiting already", kMaxQueued));
  }
  PlanRecord plan;
  plan.id = ++cluster_.state.last_plan;
  plan.request = request;
  cluster_.state.plans.push_back(plan);
  TrimPlans();
  if (!cluster_.save()) return Fail(ErrorCode::kIo, "the plan could not be made durable");
  cluster_.events.Add("plan_queued", "", fmt::format("plan {} ({})", plan.id, PlanText(request)));
  return plan.id;
}

uint64_t PlanRunner::AddDecided(const PlanRequest& request, std::vector<PlannedMove> moves) {
  const auto id = Add(request);
  if (!id) return 0;
  decided_ = std::move(moves);
  return *id;
}

// What was not asked for is as the old server has it.
void PlanRunner::PromiseResources(const PlanRecord& plan) {
  ServerResources resources;
  if (const auto* old = cluster_.state.ResourcesOf(plan.request.node)) resources = *old;
  resources.name = plan.joining.front();
  if (plan.request.processors > 0) resources.processors = plan.request.processors;
  if (plan.request.memory_bytes > 0) resources.memory_bytes = plan.request.memory_bytes;
  if (resources.processors == 0 && resources.memory_bytes == 0) return;
  cluster_.state.resources.push_back(std::move(resources));
}

bool PlanRunner::Begin(PlanRecord& plan) {
  const auto preview = Check(plan.request);
  if (!preview) {
    End(plan, PlanState::kFailed, preview.error().message);
    return false;
  }
  const bool decided =
      plan.request.kind == PlanKind::kEvenLoad || plan.request.kind == PlanKind::kRelieve;
  if (preview->nothing_to_do && !decided) {
    End(plan, PlanState::kDone, "nothing to do");
    return false;
  }
  plan.state = PlanState::kRunning;
  plan.began_unix_ms = cluster_.runtime.clock.WallNow().unix_ms;
  plan.joining = preview->joining;
  plan.leaving = preview->leaving;
  began_ = cluster_.runtime.clock.Now();
  ClusterState& state = cluster_.state;
  state.servers = ServersAfter(*preview);
  for (const std::string& name : plan.joining) {
    if (IsPs(name)) {
      const auto next = static_cast<uint32_t>(NumberOf(name)) + 1;
      if (plan.request.kind != PlanKind::kJoin) state.next_ps = std::max(state.next_ps, next);
    } else {
      state.workers.push_back(name);
    }
  }
  if (plan.request.kind == PlanKind::kMigrate) PromiseResources(plan);
  std::erase_if(state.workers, [&](const std::string& name) { return Has(plan.leaving, name); });
  if (!cluster_.save()) return false;
  cluster_.events.Add("plan_running", "",
                      fmt::format("plan {} ({}): {} partitions to move", plan.id,
                                  PlanText(plan.request), preview->moves));
  for (const std::string& name : plan.joining) {
    if (!cluster_.nodes.contains(name)) cluster_.launch(name);
  }
  return true;
}

}  // namespace freshet::master
