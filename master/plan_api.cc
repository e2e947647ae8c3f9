// SPDX-License-Identifier: Apache-2.0
#include "master/plan_api.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace freshet::master {

using base::ErrorCode;
using base::Fail;
using base::Result;
using nlohmann::ordered_json;

namespace {

constexpr uint64_t kMost = 1'000'000;
constexpr uint64_t kLeastMemory = uint64_t{16} << 20;
constexpr uint64_t kMostMemory = uint64_t{64} << 30;

// Absent: 0. What is there must be a number that makes sense.
Result<uint32_t> CountAt(const ordered_json& body, const char* key) {
  if (!body.contains(key)) return 0;
  const ordered_json& value = body[key];
  if (!value.is_number_unsigned() || value.get<uint64_t>() == 0 || value.get<uint64_t>() > kMost) {
    return Fail(ErrorCode::kInvalidArgument,
                std::string(key) + ": give a whole number from 1 to " + std::to_string(kMost));
  }
  return value.get<uint32_t>();
}

Result<PlanRequest> ParseRequest(const ordered_json& body) {
  const auto bad = [](const std::string& why) { return Fail(ErrorCode::kInvalidArgument, why); };
  if (!body.is_object() || !body.contains("kind") || !body["kind"].is_string()) {
    return bad("the body must be JSON of the form {\"kind\": \"scale\", \"ps\": 4}");
  }
  PlanRequest request;
  const auto kind = body["kind"].get<std::string>();
  if (kind == "scale") {
    request.kind = PlanKind::kScale;
  } else if (kind == "migrate") {
    request.kind = PlanKind::kMigrate;
  } else if (kind == "drain") {
    request.kind = PlanKind::kDrain;
  } else if (kind == "rebalance") {
    request.kind = PlanKind::kRebalance;
  } else {
    return bad("there is no plan of kind '" + kind + "'");
  }
  const auto ps = CountAt(body, "ps");
  const auto workers = CountAt(body, "workers");
  if (!ps) return Fail(ps.error().code, ps.error().message);
  if (!workers) return Fail(workers.error().code, workers.error().message);
  request.ps = *ps;
  request.workers = *workers;
  if (body.contains("node") && body["node"].is_string()) {
    request.node = body["node"].get<std::string>();
  }
  const auto processors = CountAt(body, "cpu");
  if (!processors) return Fail(processors.error().code, processors.error().message);
  request.processors = *processors;
  if (body.contains("memory_bytes")) {
    const ordered_json& memory = body["memory_bytes"];
    if (!memory.is_number_unsigned() || memory.get<uint64_t>() < kLeastMemory ||
        memory.get<uint64_t>() > kMostMemory) {
      return bad("memory: a server needs 16MiB at least and can use 64GiB at most");
    }
    request.memory_bytes = memory.get<uint64_t>();
  }
  const bool about_node = request.kind == PlanKind::kMigrate || request.kind == PlanKind::kDrain;
  if (about_node && request.node.empty()) return bad(kind + " needs the name of a node");
  return request;
}

ordered_json PlanJson(const MasterNode& node, const PlanRecord& plan) {
  const auto& places = node.view().places;
  const auto moving = std::count_if(places.begin(), places.end(), [](const protocol::Place& place) {
    return place.migration.value() != 0;
  });
  const int64_t now = node.clock().WallNow().unix_ms;
  const int64_t until = plan.ended() ? plan.ended_unix_ms : now;
  const bool began = plan.began_unix_ms > 0;
  return {{"id", plan.id},
          {"plan", PlanText(plan.request)},
          {"kind", PlanKindName(plan.request.kind)},
          {"state", PlanStateName(plan.state)},
          {"moved", plan.moved},
          {"moving", plan.state == PlanState::kRunning ? moving : 0},
          {"failed_moves", plan.failed_moves},
          {"rows", plan.rows},
          {"bytes", plan.bytes},
          {"seconds", began ? static_cast<double>(until - plan.began_unix_ms) / 1e3 : 0.0},
          {"pause_p50_ms", static_cast<double>(plan.pause_p50_us) / 1e3},
          {"pause_p99_ms", static_cast<double>(plan.pause_p99_us) / 1e3},
          {"pause_max_ms", static_cast<double>(plan.pause_max_us) / 1e3},
          {"joining", plan.joining},
          {"leaving", plan.leaving},
          {"text", plan.text}};
}

void ReplyJson(const AdminReply& reply, const ordered_json& json) {
  reply({200, json.dump(-1, ' ', false, ordered_json::error_handler_t::replace)});
}

}  // namespace

ordered_json PlansJson(const MasterNode& node) {
  ordered_json plans = ordered_json::array();
  for (const PlanRecord& plan : node.plans()) plans.push_back(PlanJson(node, plan));
  return plans;
}

void HandlePlanRequest(MasterNode& node, const AdminRequest& request, const AdminReply& reply) {
  const auto body = ordered_json::parse(request.body, nullptr, false);
  const auto plan = ParseRequest(body);
  if (!plan) return reply(ErrorResponse(plan.error()));
  const auto dry_run = body.find("dry_run");
  if (dry_run != body.end() && !dry_run->is_boolean()) {
    return reply(ErrorResponse({ErrorCode::kInvalidArgument, "dry_run: give true or false"}));
  }
  const auto preview = node.CheckPlan(*plan);
  if (!preview) return reply(ErrorResponse(preview.error()));
  ordered_json json = {{"plan", PlanText(*plan)},
                       {"nothing_to_do", preview->nothing_to_do},
                       {"moves", preview->moves},
                       {"joining", preview->joining},
                       {"leaving", preview->leaving}};
  if (dry_run != body.end() && *dry_run) return ReplyJson(reply, json);
  const auto id = node.AddPlan(*plan);
  if (!id) return reply(ErrorResponse(id.error()));
  json["id"] = *id;
  ReplyJson(reply, json);
}

void HandlePlanCancel(MasterNode& node, const AdminRequest& request, const AdminReply& reply) {
  const auto body = ordered_json::parse(request.body, nullptr, false);
  if (!body.is_object() || !body.contains("id") || !body["id"].is_number_unsigned()) {
    return reply(ErrorResponse(
        {ErrorCode::kInvalidArgument, "the body must be JSON of the form {\"id\": 3}"}));
  }
  if (auto ok = node.CancelPlan(body["id"].get<uint64_t>()); !ok) {
    return reply(ErrorResponse(ok.error()));
  }
  ReplyJson(reply, ordered_json::object());
}

}  // namespace freshet::master
