// SPDX-License-Identifier: Apache-2.0
#include "master/metrics_page.h"

#include <map>

#include "base/metrics.h"

namespace freshet::master {
namespace {

using base::MetricLabels;
using base::Metrics;

void AddJob(const MasterNode& node, Metrics& metrics) {
  const auto gauge = [&](const char* name, const char* help, double value) {
    metrics.AddGauge(name, help).Set(value);
  };
  gauge("freshet_job_records_done", "Records that every partition has applied.",
        static_cast<double>(node.RecordsDone()));
  gauge("freshet_job_records", "Records that the logs hold.",
        static_cast<double>(node.RecordsTotal()));
  gauge("freshet_job_records_per_second", "Records learnt in the last second.",
        node.records_per_sec());
  const auto& validation = node.training_validation();
  if (validation.records() > 0) {
    gauge("freshet_job_window_auc", "AUC of the latest predictions, made before learning.",
          validation.WindowAuc());
    gauge("freshet_job_window_logloss", "Log loss of the latest predictions.",
          validation.WindowLogLoss());
  }
  gauge("freshet_view_number", "Of the map of partitions to servers.",
        static_cast<double>(node.view().number.value()));
  metrics.AddCounter("freshet_job_steps_total", "Gradient steps.").Add(node.Steps());
  metrics.AddCounter("freshet_job_conflicts_total", "Steps refused for a partial overlap.")
      .Add(node.Conflicts());
  metrics.AddCounter("freshet_job_replayed_records_total", "Records learnt again after a crash.")
      .Add(node.ReplayedRecords());
}

void AddLogs(const MasterNode& node, Metrics& metrics) {
  for (const auto& [id, log] : node.logs()) {
    if (log.spec.purpose != protocol::LogPurpose::kTrain) continue;
    const MetricLabels labels{{"log", log.spec.name}};
    metrics.AddGauge("freshet_log_end_records", "How far the log goes.", labels)
        .Set(static_cast<double>(log.end));
    metrics.AddGauge("freshet_log_done_records", "Of them applied everywhere.", labels)
        .Set(static_cast<double>(node.progress().Done(id).Count()));
    metrics.AddGauge("freshet_log_durable_records", "No restart falls back behind it.", labels)
        .Set(static_cast<double>(node.progress().DurableFloor(id)));
  }
}

void AddServer(const Node& node, const MetricLabels& labels, Metrics& metrics) {
  const protocol::PsStats& ps = node.ps;
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    metrics.AddGauge(name, help, labels).Set(static_cast<double>(value));
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    metrics.AddCounter(name, help, labels).Add(value);
  };
  gauge("freshet_ps_rows", "Rows in memory.", ps.rows);
  gauge("freshet_ps_memory_bytes", "Memory of the rows.", ps.memory_bytes);
  gauge("freshet_ps_memory_limit_bytes", "What it may use.", ps.memory_limit_bytes);
  gauge("freshet_ps_partitions_loading", "Partitions not yet served after a start.", ps.loading);
  counter("freshet_ps_rows_pulled_total", "Since the process started.", ps.rows_pulled);
  counter("freshet_ps_rows_pushed_total", "Since the process started.", ps.rows_pushed);
  counter("freshet_ps_busy_us_total", "Spent on pulls and pushes.", ps.busy_us);
  counter("freshet_ps_refused_for_memory_total", "Pushes that found no room.", ps.out_of_memory);
  counter("freshet_ps_images_saved_total", "Images of partitions made durable.", ps.images_saved);
  counter("freshet_ps_image_bytes_total", "Bytes of them.", ps.image_bytes);
}

void AddNodes(const MasterNode& master, Metrics& metrics) {
  for (const auto& [name, node] : master.nodes()) {
    const bool ps = node.role == protocol::Role::kPs;
    const MetricLabels labels{{"node", name}};
    metrics
        .AddGauge("freshet_node_up", "1 while it is heard.",
                  {{"node", name}, {"role", ps ? "ps" : "worker"}})
        .Set(node.state == "running" ? 1 : 0);
    metrics.AddCounter("freshet_node_restarts_total", "By the launcher.", labels)
        .Add(node.restarts);
    if (ps) {
      AddServer(node, labels, metrics);
    } else {
      metrics.AddCounter("freshet_worker_records_total", "Since the process started.", labels)
          .Add(node.worker.records);
    }
  }
}

void AddPlans(const MasterNode& node, Metrics& metrics) {
  std::map<std::string, double> states;
  for (const PlanState state : {PlanState::kQueued, PlanState::kRunning, PlanState::kDone,
                                PlanState::kFailed, PlanState::kCancelled}) {
    states[PlanStateName(state)] = 0;
  }
  for (const PlanRecord& plan : node.plans()) ++states[PlanStateName(plan.state)];
  for (const auto& [state, count] : states) {
    metrics.AddGauge("freshet_plans", "Plans that are remembered.", {{"state", state}}).Set(count);
  }
}

}  // namespace

std::string MetricsPage(const MasterNode& node) {
  Metrics metrics(MetricLabels{{"job", node.options().job.name}});
  AddJob(node, metrics);
  AddLogs(node, metrics);
  AddNodes(node, metrics);
  AddPlans(node, metrics);
  return metrics.Export();
}

}  // namespace freshet::master
