// SPDX-License-Identifier: Apache-2.0
// The phases of a migration, each with its source, its target and the master killed in it, on real
// processes: a stop point holds one of them at the moment that is meant. Prints a row for each.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "stream/generator.h"
#include "tests/integration/up_cluster_test.h"

namespace freshet::testing {
namespace {

namespace fs = std::filesystem;
using cli::At;
using cli::Json;
using cli::NumberAt;
using cli::TextAt;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kPoints[] = {"master_intends", "source_copies", "target_copies",
                                   "target_stored",  "source_frozen", "target_has_all",
                                   "target_durable", "master_hears",  "master_committed",
                                   "source_drops",   "target_serves"};
enum class Victim { kSource, kTarget, kMaster };
constexpr Victim kVictims[] = {Victim::kSource, Victim::kTarget, Victim::kMaster};

bool IsStopped(base::ProcessId pid) {
  const auto stat = base::ReadFile(fmt::format("/proc/{}/stat", pid), 4096);
  if (!stat) return false;
  const size_t name_end = stat->rfind(')');
  return name_end != std::string::npos && stat->substr(name_end, 4).find(" T") != std::string::npos;
}

int NumberOf(const std::string& name) { return std::stoi(name.substr(3)); }

class MoveMatrixTest : public UpClusterTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(stream::GenerateLog({.records = 40'000}, data_, {}));
    ASSERT_EQ(::setenv("STOP_POINT_FILE", stop_file_.c_str(), 1), 0);
    const CommandOutput up = cluster_.Up(
        {{"data", data_},
         {"schema", "freshet"},
         {"model", "lr"},
         {"ps", "2"},
         {"workers", "2"},
         {"epochs", "1000000"},
         {"batch_size", "128"},
         // More than move at once, so that the source is still there when the first have moved.
         {"partitions", "32"},
         {"heartbeat_ms", "20"},
         {"node_timeout_ms", "600"},
         {"auto_balance", "false"},
         {"checkpoint_interval_ms", "100"}});
    ASSERT_EQ(up.code, 0) << up.err;
    ASSERT_FALSE(cluster_.AwaitRecords(40'000).is_null());
  }
  void TearDown() override {
    ::unsetenv("STOP_POINT_FILE");
    UpClusterTest::TearDown();
  }

  std::vector<std::string> Servers() {
    std::vector<std::string> names;
    for (const auto& [name, pid] : cluster_.Processes()) {
      if (name.starts_with("ps-")) names.push_back(name);
    }
    std::sort(names.begin(), names.end(),
              [](const std::string& a, const std::string& b) { return NumberOf(a) < NumberOf(b); });
    return names;
  }
  std::optional<std::pair<std::string, base::ProcessId>> Stopped() {
    for (const auto& [name, pid] : cluster_.Processes()) {
      if (IsStopped(pid)) return std::pair(name, pid);
    }
    return std::nullopt;
  }
  bool AuditIsExact() {
    return cluster_.Await([this] { return cluster_.Freshet({"verify"}).code == 0; }, seconds(10));
  }

  void RunCell(const std::string& point, Victim victim) {
    const std::string source = Servers().front();
    ASSERT_TRUE(base::WriteFileAtomic(stop_file_, point));
    const CommandOutput plan = cluster_.Freshet({"migrate", source});
    ASSERT_EQ(plan.code, 0) << plan.err;
    std::optional<std::pair<std::string, base::ProcessId>> stopped;
    ASSERT_TRUE(cluster_.Await([&] { return (stopped = Stopped()).has_value(); }))
        << "nobody came to " << point;
    const std::string target = Servers().back();
    const std::string name = victim == Victim::kSource   ? source
                             : victim == Victim::kTarget ? target
                                                         : "master";
    const auto began = std::chrono::steady_clock::now();
    cluster_.Signal(name, SIGKILL);
    if (stopped->first != name) cluster_.Signal(stopped->first, SIGCONT);
    const Json ended = cluster_.AwaitStatus([](const Json& status) {
      const Json& plans = At(status, "plans");
      return !plans.empty() && TextAt(plans.back(), "state") == "done";
    });
    ASSERT_FALSE(ended.is_null()) << "the plan has no end";
    const auto took =
        std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - began);
    const uint64_t records = RecordsOf(ended);
    ASSERT_FALSE(cluster_.AwaitRecords(records + 20'000).is_null()) << "nothing is learnt any more";
    ASSERT_TRUE(AuditIsExact());
    const auto servers = Servers();
    EXPECT_EQ(servers.size(), 2u);
    EXPECT_EQ(std::count(servers.begin(), servers.end(), source), 0);
    fmt::print("| {} | {} | exact, plan done after {} ms |\n", point,
               name == "master"            ? "master"
               : victim == Victim::kSource ? "source"
                                           : "target",
               took.count());
    std::fflush(stdout);
  }

  std::string stop_file_ = dir_.path() + "/stop";
};

TEST_F(MoveMatrixTest, WhoeverDiesInWhateverPhaseThePartitionIsWholeAtOneServer) {
  for (const char* point : kPoints) {
    for (const Victim victim : kVictims) {
      SCOPED_TRACE(fmt::format("{} victim {}", point, static_cast<int>(victim)));
      RunCell(point, victim);
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace freshet::testing
