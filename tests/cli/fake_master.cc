// SPDX-License-Identifier: Apache-2.0
// Stands in for freshet-master in the tests of the command: canned answers, and a job that goes on by a
// step with every status asked for, so that no test depends on time. FAKE_MASTER says how it behaves:
//   complete, bad_audit, fail, endless, die (at the third status), refuse (exit 3 at the start),
//   stubborn (endless, and ignores every wish to leave)
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "master/admin_server.h"
#include "transport/event_loop.h"
#include "transport/signal_watcher.h"

namespace freshet::cli {
namespace {

using Json = nlohmann::ordered_json;

class FakeMaster {
 public:
  FakeMaster(std::string mode, std::string dir) : mode_(std::move(mode)), dir_(std::move(dir)) {}

  int Run() {
    fmt::print("fake master in {}\n", mode_);
    std::fflush(stdout);
    if (mode_ == "refuse") return 3;
    transport::SignalWatcher signals(loop_, {SIGTERM}, [this](int) { Leave(); });
    auto server = master::AdminServer::Start(
        {.socket_path = dir_ + "/admin.sock"},
        [this](master::AdminRequest request, master::AdminReply reply) {
          static_cast<void>(loop_.Post([this, request = std::move(request),
                                        reply = std::move(reply)] { reply(Answer(request)); }));
        });
    if (!server) {
      fmt::print("{}\n", server.error().message);
      return base::ExitCodeFor(server.error().code);
    }
    loop_.Run();
    return exit_code_;
  }

 private:
  void Leave() {
    if (mode_ == "stubborn") return;
    // The answer to the wish must leave the process first.
    loop_.After(std::chrono::milliseconds(20), [this] { loop_.Stop(); });
  }

  master::AdminResponse Answer(const master::AdminRequest& request) {
    std::ofstream(dir_ + "/requests.txt", std::ios::app)
        << request.method << " " << request.path << "\n";
    const std::string call = request.method + " " + request.path;
    if (call == "GET /v1/status") return {200, Status().dump()};
    if (call == "GET /v1/events")
      return {200, Events(std::stoul(request.query.at("since"))).dump()};
    if (call == "GET /v1/summary") return Summary();
    if (call == "POST /v1/verify") return {200, Verify().dump()};
    if (call == "POST /v1/checkpoint") return {200, R"({"seconds":0.125})"};
    if (call == "POST /v1/stop") {
      Leave();
      return {200, "{}"};
    }
    return master::ErrorResponse({base::ErrorCode::kNotFound, "no such request: " + call});
  }

  Json Status() {
    ++statuses_;
    if (mode_ == "die" && statuses_ == 3) ::_exit(9);
    const bool endless = mode_ == "endless" || mode_ == "stubborn";
    const int done = endless ? 1 : std::min(statuses_ - 1, 4);
    std::string phase = done == 4 ? "completed" : "training";
    if (mode_ == "fail" && done == 2) phase = "failed";
    failed_ = phase == "failed";
    completed_ = phase == "completed";
    Json nodes = Json::array();
    for (const char* name : {"ps-0", "worker-0"}) {
      const bool ps = name[0] == 'p';
      Json node = {{"name", name},       {"role", ps ? "ps" : "worker"},
                   {"state", "running"}, {"pid", ps ? 71 : 72},
                   {"incarnation", 1},   {"restarts", ps ? 0 : 2},
                   {"age_s", 3725.5},    {"address", "tcp://127.0.0.1:1"}};
      if (ps) {
        node["partitions"] = 256;
        node["rows"] = 12345;
        node["memory_bytes"] = 3 << 20;
      }
      nodes.push_back(node);
    }
    Json job = {{"name", "fake"},
                {"phase", phase},
                {"records_done", done * 50000},
                {"records_total", 200000},
                {"records_per_sec", 50000.4},
                {"steps_per_sec", 97.66},
                {"lag_records", 0},
                {"auc", done == 0 ? Json() : Json(0.71)},
                {"window_auc", done == 0 ? Json() : Json(0.7412)},
                {"logloss", done == 0 ? Json() : Json(0.5123)},
                {"dead_lettered", 0}};
    if (failed_) {
      job["error"] = "/data/x.csv line 7: not a number";
      job["error_code"] = "invalid argument";
    }
    return {{"job", job},
            {"view", 1},
            {"nodes", nodes},
            {"logs", Json::array()},
            {"plans", Json::array()}};
  }

  static Json Events(uint64_t since) {
    Json all = Json::array();
    if (since < 1) {
      all.push_back({{"seq", 1},
                     {"unix_ms", 1'700'000'000'123},
                     {"kind", "node_exited"},
                     {"node", "worker-0"},
                     {"text", "pid 72: signal 9"}});
    }
    if (since < 2) {
      all.push_back({{"seq", 2},
                     {"unix_ms", 1'700'000'001'000},
                     {"kind", "checkpoint"},
                     {"node", ""},
                     {"text", "checkpoint saved in 0.1 s, 2 servers"}});
    }
    return {{"events", all}};
  }

  master::AdminResponse Summary() const {
    if (!completed_ && !failed_) {
      return master::ErrorResponse({base::ErrorCode::kConflict, "the job has not ended"});
    }
    const bool ok = completed_ && mode_ != "bad_audit";
    const Json summary = {
        {"records", 200000},
        {"dead_lettered", 0},
        {"duplicates", 5},
        {"seconds", 4.5},
        {"records_per_sec", 44444.4},
        {"auc", 0.7412},
        {"logloss", 0.5123},
        {"eval_auc", nullptr},
        {"audit", {{"expected", 200000}, {"actual", ok ? 200000 : 199999}, {"ok", ok}}},
        {"restarts", 2}};
    return {200, summary.dump()};
  }

  Json Verify() const {
    const bool ok = mode_ != "bad_audit";
    return {{"records_done", 50000},
            {"dead_lettered", 0},
            {"audit_count", ok ? 50000 : 50001},
            {"audit_expected", 50000},
            {"ok", ok}};
  }

  const std::string mode_;
  const std::string dir_;
  transport::EventLoop loop_;
  int statuses_ = 0;
  bool completed_ = false;
  bool failed_ = false;
  int exit_code_ = 0;
};

}  // namespace
}  // namespace freshet::cli

int main(int argc, char** argv) {
  std::string dir;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--dir") dir = argv[i + 1];
  }
  const char* mode = ::getenv("FAKE_MASTER");
  return freshet::cli::FakeMaster(mode != nullptr ? mode : "complete", dir).Run();
}
