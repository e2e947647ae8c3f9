// SPDX-License-Identifier: Apache-2.0
// freshet down: drains a long-running cluster and stops it.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/file.h"
#include "base/process_watch.h"
#include "cli/command.h"
#include "cli/supervisor.h"
#include "transport/event_loop.h"

namespace freshet::cli {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{50};

// A node that lost everybody else, to be named to the user.
std::string Leftover(const std::string& dir) {
  std::error_code error;
  const std::string prefix =
      std::filesystem::weakly_canonical(std::filesystem::absolute(dir, error), error).string() +
      "/";
  const auto node = base::FindProcess([&prefix](const std::vector<std::string>& words) {
    const auto flag = std::find(words.begin(), words.end(), "--dir");
    return flag != words.end() && flag + 1 != words.end() && (flag + 1)->starts_with(prefix);
  });
  if (!node) return "";
  return fmt::format("; but process {} ({}) is left of it: freshet up takes it over again",
                     node->pid(), base::CommandLineOf(node->pid()).front());
}

class Stop {
 public:
  Stop(const std::string& dir, milliseconds timeout)
      : dir_(dir), client_(dir), give_up_(loop_.clock().Now() + timeout) {}

  base::Result<> Run() {
    const auto supervisor = SupervisorOf(dir_);
    if (!supervisor && !client_.SomebodyListens()) {
      return base::Fail(ErrorCode::kUnreachable,
                        fmt::format("no cluster runs in {}{}", dir_, Leftover(dir_)));
    }
    // The supervisor has to know that the master's end is meant; if there is no master now, it starts
    // one, which leads the nodes out.
    if (supervisor) static_cast<void>(base::SignalProcess(*supervisor, SIGTERM));
    const base::Result<Json> drained = client_.Post("/v1/stop", Left());
    // A master that is not done yet lets no request wait for longer; one that had to kill somebody ends.
    if (!drained && drained.error().code != ErrorCode::kUnreachable &&
        (drained.error().code != ErrorCode::kTimeout || EndsSoon())) {
      return tl::unexpected(drained.error());
    }
    while (SupervisorOf(dir_) || client_.SomebodyListens()) {
      if (Left() <= milliseconds(0)) {
        return base::Fail(
            ErrorCode::kTimeout,
            fmt::format("the cluster in {} has not ended yet; see {}/logs", dir_, dir_));
      }
      loop_.RunUntil([] { return false; }, kPoll);
    }
    return {};
  }

 private:
  bool EndsSoon() {
    const base::Instant until = loop_.clock().Now() + std::chrono::seconds(1);
    while (client_.SomebodyListens() && loop_.clock().Now() < until) {
      loop_.RunUntil([] { return false; }, kPoll);
    }
    return !client_.SomebodyListens();
  }
  milliseconds Left() const {
    return std::chrono::duration_cast<milliseconds>(give_up_ - loop_.clock().Now());
  }

  const std::string dir_;
  const AdminClient client_;
  transport::EventLoop loop_;
  const base::Instant give_up_;
};

}  // namespace

int RunDown(int argc, const char* const* argv) {
  std::string dir = ClusterOptions().dir;
  milliseconds timeout{120'000};
  base::ConfigFields fields;
  fields.Add("dir", &dir, "directory of the cluster");
  fields.Add("timeout_ms", &timeout, {.min = milliseconds(100)}, "how long to wait for its end");
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet down",
       .description = "Stops a cluster: workers finish what they have in hand, servers make "
                      "everything durable, then all leave."});
  if (end) return *end;
  if (auto stopped = Stop(dir, timeout).Run(); !stopped) return ReportError(stopped.error());
  fmt::print(stderr, "the cluster in {} is stopped\n", dir);
  return 0;
}

}  // namespace freshet::cli
