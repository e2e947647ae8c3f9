// SPDX-License-Identifier: Apache-2.0
// AdminApi: the JSON that the admin socket speaks, over the master's brain. On the master's loop.
#pragma once

#include <functional>
#include <string>

#include "master/admin_server.h"
#include "master/master_node.h"

namespace freshet::master {

class AdminApi {
 public:
  // `on_stopped` is called after POST /v1/stop, when all nodes are gone.
  AdminApi(MasterNode& node, std::string cluster_dir, std::function<void()> on_stopped)
      : node_(node), cluster_dir_(std::move(cluster_dir)), on_stopped_(std::move(on_stopped)) {}

  // GET /v1/status, /v1/summary, /v1/events?since=N, /v1/backup (the last one);
  // POST /v1/verify, /v1/checkpoint, /v1/stop, /v1/backup {"to": "/dir"} (begins one),
  // /v1/plans, /v1/plans/cancel (plan_api.h).
  void Handle(const AdminRequest& request, AdminReply reply);

 private:
  void Summary(const AdminReply& reply) const;
  void Events(const AdminRequest& request, const AdminReply& reply);
  void Verify(AdminReply reply);
  void Checkpoint(AdminReply reply);
  void StartBackup(const AdminRequest& request, const AdminReply& reply);

  MasterNode& node_;
  std::string cluster_dir_;
  std::function<void()> on_stopped_;
};

}  // namespace freshet::master
