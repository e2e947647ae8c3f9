// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "base/process.h"
#include "base/result.h"
#include "cli/admin_client.h"
#include "cli/json.h"
#include "cli/train_directory.h"
#include "cli/train_options.h"
#include "cli/train_progress.h"
#include "transport/event_loop.h"
#include "transport/signal_watcher.h"

namespace freshet::cli {

// One run of a local cluster from its start to the master's exit: starts freshet-master, follows it,
// stops it. One thread, the main one. Whatever happens, the master has ended when Run returns; its
// nodes end with it.
class TrainSession {
 public:
  TrainSession(const TrainOptions& options, const TrainDirectory& directory,
               TrainProgress& progress);

  struct Outcome {
    Json summary;  // null: the run did not come to its end
    int exit_code = 0;
  };
  Outcome Run();

 private:
  // Why waiting ended early.
  enum class Woken { kTimeUp, kMasterExited, kSignalled };

  base::Result<> StartMaster();
  base::Result<> AwaitSocket();
  base::Result<> FollowToEnd();
  base::Result<Json> FetchSummary();
  base::Result<> HandleWaking(Woken woken);
  void FollowEvents();
  Woken Wait(std::chrono::milliseconds time);
  bool AskToStop() const;
  void StopMaster();
  bool AwaitMasterExit(std::chrono::milliseconds time);
  void OnSignal(int signal);
  base::Error MasterDied() const;
  base::Error WithLogTail(base::Error error) const;

  const TrainOptions& options_;
  const TrainDirectory& directory_;
  TrainProgress& progress_;
  AdminClient client_;
  transport::EventLoop loop_;
  transport::SignalWatcher signals_;
  base::ProcessId master_pid_ = 0;
  std::optional<base::ExitedProcess> master_exit_;
  int stop_signal_ = 0;    // the first that asked us to end
  int signals_seen_ = 0;   // of these
  bool answered_ = false;  // the master, at least once
  uint64_t last_event_ = 0;
};

}  // namespace freshet::cli
