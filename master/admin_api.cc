// SPDX-License-Identifier: Apache-2.0
#include "master/admin_api.h"

#include <charconv>
#include <utility>

#include <nlohmann/json.hpp>

#include "master/file_backup_writer.h"
#include "master/metrics_page.h"
#include "master/plan_api.h"

namespace freshet::master {

using base::ErrorCode;
using nlohmann::ordered_json;
using protocol::LogPurpose;
using protocol::Role;

namespace {

double SecondsBetween(base::Instant from, base::Instant to) {
  return static_cast<double>((to - from).count()) / 1e6;
}

// A figure of predictions: null while there are none.
ordered_json Measure(const ValidationBook& book, double value) {
  return book.records() > 0 ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json JobJson(const MasterNode& node) {
  const auto& validation = node.training_validation();
  const uint64_t done = node.RecordsDone();
  const uint64_t total = node.RecordsTotal();
  ordered_json job = {{"name", node.options().job.name},
                      {"phase", PhaseName(node.phase())},
                      {"records_done", done},
                      {"records_per_sec", node.records_per_sec()},
                      {"lag_records", total - std::min(done, total)},
                      {"waiting", node.WaitsForRecords()},
                      {"auc", Measure(validation, validation.Auc())},
                      {"logloss", Measure(validation, validation.LogLoss())},
                      {"records_total", total},
                      {"seconds", node.Seconds()},
                      {"window_auc", Measure(validation, validation.WindowAuc())},
                      {"window_logloss", Measure(validation, validation.WindowLogLoss())},
                      {"steps", node.Steps()},
                      {"steps_per_sec", node.steps_per_sec()},
                      {"replayed_records", node.ReplayedRecords()},
                      {"conflicts", node.Conflicts()}};
  if (node.final_audit()) job["dead_lettered"] = node.final_audit()->dead_lettered;
  if (!node.error().empty()) {
    job["error"] = node.error();
    job["error_code"] = base::ErrorCodeName(node.error_code());
  }
  return job;
}

ordered_json NodeJson(const MasterNode& master, const Node& node) {
  const bool ps = node.role == Role::kPs;
  const auto& view = master.view();
  uint64_t partitions = 0;
  if (const auto index = view.FindNode(node.name)) {
    for (const auto& place : view.places) partitions += place.node == *index ? 1 : 0;
  }
  const ServerResources* resources = master.state().ResourcesOf(node.name);
  return {{"name", node.name},
          {"role", ps ? "ps" : "worker"},
          {"state", node.state},
          {"pid", node.pid},
          {"incarnation", node.incarnation.value()},
          {"restarts", node.restarts},
          {"age_s", SecondsBetween(node.started, master.clock().Now())},
          {"address", node.address},
          {"partitions", partitions},
          {"rows", node.ps.rows},
          {"memory_bytes", ps ? node.ps.memory_bytes : node.worker.memory_bytes},
          {"memory_limit_bytes", node.ps.memory_limit_bytes},
          {"cpus", resources == nullptr ? 0 : resources->processors},
          {"refused_pushes", node.ps.out_of_memory},
          {"rows_per_sec", node.rows_per_sec},
          {"records_per_sec", node.records_per_sec}};
}

ordered_json StatusJson(const MasterNode& node) {
  ordered_json nodes = ordered_json::array();
  for (const auto& [name, entry] : node.nodes()) nodes.push_back(NodeJson(node, entry));
  ordered_json logs = ordered_json::array();
  for (const auto& [id, log] : node.logs()) {
    const bool trains = log.spec.purpose == LogPurpose::kTrain;
    const auto& done = trains ? node.progress().Done(id) : node.evaluation().Counted(id);
    logs.push_back({{"name", log.spec.name},
                    {"follow", log.spec.follow},
                    {"end", log.end},
                    {"done", done.Count()},
                    {"durable", trains ? node.progress().DurableFloor(id) : 0}});
  }
  return {{"job", JobJson(node)},
          {"view", node.view().number.value()},
          {"wanted", {{"ps", node.WantedServers()}, {"workers", node.WantedWorkers()}}},
          {"nodes", std::move(nodes)},
          {"logs", std::move(logs)},
          {"plans", PlansJson(node)}};
}

void ReplyJson(const AdminReply& reply, const ordered_json& json) {
  // Text from logs or peers may hold bytes that are no UTF-8.
  reply({200, json.dump(-1, ' ', false, ordered_json::error_handler_t::replace)});
}

ordered_json BackupJson(const BackupStatus& backup) {
  constexpr const char* kPhases[] = {"none", "running", "ended", "failed"};
  ordered_json json = {{"state", kPhases[static_cast<size_t>(backup.phase)]},
                       {"dir", backup.dir},
                       {"partitions", backup.partitions},
                       {"copied", backup.copied},
                       {"bytes", backup.bytes},
                       {"seconds", backup.seconds}};
  if (backup.phase == BackupPhase::kFailed) {
    json["error"] = {{"code", base::ErrorCodeName(backup.error.code)},
                     {"message", backup.error.message}};
  }
  return json;
}

ordered_json AuditJson(const AuditResult& audit) {
  return {{"expected", audit.expected}, {"actual", audit.actual}, {"ok", audit.ok}};
}

}  // namespace

void AdminApi::Handle(const AdminRequest& request, AdminReply reply) {
  const bool get = request.method == "GET";
  const bool post = request.method == "POST";
  if (get && request.path == "/v1/status") return ReplyJson(reply, StatusJson(node_));
  if (get && request.path == "/v1/metrics") {
    return reply({200, MetricsPage(node_), "text/plain; version=0.0.4"});
  }
  if (get && request.path == "/v1/summary") return Summary(reply);
  if (get && request.path == "/v1/events") return Events(request, reply);
  if (post && request.path == "/v1/verify") return Verify(std::move(reply));
  if (post && request.path == "/v1/checkpoint") return Checkpoint(std::move(reply));
  if (post && request.path == "/v1/plans") return HandlePlanRequest(node_, request, reply);
  if (post && request.path == "/v1/plans/cancel") return HandlePlanCancel(node_, request, reply);
  if (post && request.path == "/v1/backup") return StartBackup(request, reply);
  if (get && request.path == "/v1/backup") {
    return ReplyJson(reply, BackupJson(node_.backup_status()));
  }
  if (post && request.path == "/v1/stop") {
    node_.Stop([reply, stopped = on_stopped_](const base::Result<>& outcome) {
      if (outcome) {
        ReplyJson(reply, ordered_json::object());
      } else {
        reply(ErrorResponse(outcome.error()));
      }
      stopped();
    });
    return;
  }
  reply(
      ErrorResponse({ErrorCode::kNotFound, "there is no " + request.method + " " + request.path}));
}

void AdminApi::Summary(const AdminReply& reply) const {
  if (node_.phase() == Phase::kFailed) {
    return reply(ErrorResponse({node_.error_code(), node_.error()}));
  }
  if (node_.phase() != Phase::kCompleted) {
    return reply(ErrorResponse(
        {ErrorCode::kConflict, "the job is " + PhaseName(node_.phase()) + ", not completed"}));
  }
  const AuditResult& audit = *node_.final_audit();
  const auto& validation = node_.training_validation();
  const uint64_t records = node_.RecordsDone();
  const double seconds = node_.Seconds();
  ordered_json json = {
      {"records", records},
      {"applied", records - audit.dead_lettered},
      {"dead_lettered", audit.dead_lettered},
      {"duplicates", audit.actual > audit.expected ? audit.actual - audit.expected : 0},
      {"seconds", seconds},
      {"records_per_sec", seconds > 0 ? static_cast<double>(records) / seconds : 0},
      {"auc", validation.Auc()},
      {"logloss", validation.LogLoss()},
      {"validated_records", validation.records()}};
  json["eval_auc"] = nullptr;
  if (node_.evaluation().records() > 0) {
    json["eval_auc"] = node_.evaluation().Auc();
    json["eval_logloss"] = node_.evaluation().LogLoss();
    json["eval_records"] = node_.evaluation().records();
  }
  json["audit"] = AuditJson(audit);
  json["restarts"] = node_.TotalRestarts();
  json["steps"] = node_.Steps();
  json["replayed_records"] = node_.ReplayedRecords();
  json["conflicts"] = node_.Conflicts();
  ReplyJson(reply, json);
}

void AdminApi::Events(const AdminRequest& request, const AdminReply& reply) {
  uint64_t since = 0;
  if (const auto it = request.query.find("since"); it != request.query.end()) {
    const std::string& text = it->second;
    const auto end = text.data() + text.size();
    if (std::from_chars(text.data(), end, since).ptr != end || text.empty()) {
      return reply(ErrorResponse({ErrorCode::kInvalidArgument, "since= takes a whole number"}));
    }
  }
  ordered_json events = ordered_json::array();
  for (const Event& event : node_.events().Since(since, 1000)) {
    events.push_back({{"seq", event.sequence},
                      {"unix_ms", event.unix_ms},
                      {"kind", event.kind},
                      {"node", event.node},
                      {"text", event.text}});
  }
  ReplyJson(reply, {{"events", std::move(events)}});
}

void AdminApi::Verify(AdminReply reply) {
  node_.Audit([this, reply = std::move(reply)](base::Result<AuditResult> audit) {
    if (!audit) return reply(ErrorResponse(audit.error()));
    ReplyJson(reply, {{"records_done", node_.RecordsDone()},
                      {"dead_lettered", audit->dead_lettered},
                      {"audit_count", audit->actual},
                      {"audit_expected", audit->expected},
                      {"ok", audit->ok},
                      {"problems", audit->problems}});
  });
}

void AdminApi::StartBackup(const AdminRequest& request, const AdminReply& reply) {
  const auto body = ordered_json::parse(request.body, nullptr, false);
  const bool named = body.is_object() && body.contains("to") && body["to"].is_string();
  if (!named) {
    return reply(ErrorResponse({ErrorCode::kInvalidArgument,
                                "the body must be JSON of the form {\"to\": \"/a/directory\"}"}));
  }
  const auto started = node_.StartBackup(
      std::make_shared<FileBackupWriter>(BackupPlace{body["to"].get<std::string>(), cluster_dir_}));
  if (!started) return reply(ErrorResponse(started.error()));
  ReplyJson(reply, BackupJson(node_.backup_status()));
}

void AdminApi::Checkpoint(AdminReply reply) {
  const base::Instant began = node_.clock().Now();
  node_.Checkpoint([this, began, reply = std::move(reply)](base::Result<> outcome) {
    if (!outcome) return reply(ErrorResponse(outcome.error()));
    ReplyJson(reply, {{"seconds", SecondsBetween(began, node_.clock().Now())}});
  });
}

}  // namespace freshet::master
