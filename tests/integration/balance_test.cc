// SPDX-License-Identifier: Apache-2.0
// Servers of their own size: those that come by themselves, and those that are given more or less.
#include <gmock/gmock.h>
#include <signal.h>

#include <fstream>

#include "base/file.h"
#include "base/processors.h"
#include "stream/generator.h"
#include "tests/integration/up_cluster_test.h"

namespace freshet::testing {
namespace {

using cli::At;
using cli::Json;
using cli::NumberAt;
using cli::TextAt;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

class BalanceTest : public UpClusterTest {
 protected:
  void SetUp() override { ASSERT_TRUE(stream::GenerateLog({.records = 40'000}, data_, {})); }

  void ExpectExact() {
    const CommandOutput audit = cluster_.Freshet({"verify"});
    EXPECT_EQ(audit.code, 0) << audit.out << audit.err;
  }
  Json AwaitPartitions(const std::string& server, double partitions) {
    return cluster_.AwaitStatus([&](const Json& status) {
      const Json node = NodeOf(status, server);
      return !node.is_null() && TextAt(node, "state") == "running" &&
             NumberAt(node, "partitions") == partitions;
    });
  }
  // Everything of the server that runs under this name.
  void ExpectGiven(const Json& status, const std::string& server, double memory_mib) {
    const Json node = NodeOf(status, server);
    EXPECT_EQ(NumberAt(node, "memory_limit_bytes"), memory_mib * kMiB);
    EXPECT_EQ(NumberAt(node, "cpus"), 1);
    const std::string pid = std::to_string(static_cast<int64_t>(NumberAt(node, "pid")));
    std::ifstream file("/proc/" + pid + "/status");
    std::string allowed;
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("Cpus_allowed_list:")) allowed = line.substr(line.find('\t') + 1);
    }
    ASSERT_FALSE(allowed.empty());
    EXPECT_EQ(allowed.find_first_of(",-"), std::string::npos) << allowed;
  }
};

TEST_F(BalanceTest, AServerThatIsStartedByHandGetsItsShareAndMayReplaceAnotherOne) {
  const std::string& dir = cluster_.dir();
  const auto master = cluster_.Start(
      "freshet-master", {"--launcher", "none", "--dir", dir, "--data", data_, "--schema", "freshet",
                         "--model", "lr", "--epochs", "100000", "--partitions", "16",
                         "--heartbeat-ms", "20", "--checkpoint-interval-ms", "100"});
  ASSERT_TRUE(master);
  std::string address;
  ASSERT_TRUE(cluster_.Await([&] {
    address = base::ReadFile(dir + "/master/address", 100).value_or("");
    return !address.empty();
  }));
  const auto start = [&](const std::string& name) {
    return cluster_.Start("freshet-ps",
                          {"--name", name, "--master", address, "--dir", dir + "/" + name});
  };
  const auto first = start("ps-0");
  const auto worker = cluster_.Start("freshet-worker", {"--master", address});
  ASSERT_TRUE(first && worker);
  ASSERT_FALSE(cluster_.AwaitRecords(1000).is_null());

  const auto second = start("by-hand");
  ASSERT_TRUE(second);
  ASSERT_FALSE(AwaitPartitions("by-hand", 8).is_null());
  ExpectExact();

  const CommandOutput migrate = cluster_.Freshet({"migrate", "ps-0", "--memory", "1GiB"});
  EXPECT_EQ(migrate.code, 1);
  EXPECT_THAT(migrate.err, HasSubstr("this cluster starts no processes itself"));
  const CommandOutput drain = cluster_.Freshet({"drain", "ps-0", "--wait"});
  EXPECT_EQ(drain.code, 0) << drain.err;
  EXPECT_EQ(cluster_.AwaitExit(*first, seconds(10)), 0);
  const Json status = AwaitPartitions("by-hand", 16);
  ASSERT_FALSE(status.is_null());
  ASSERT_FALSE(cluster_.AwaitRecords(RecordsOf(status) + 10'000).is_null());
  ExpectExact();
  EXPECT_EQ(cluster_.Freshet({"down"}).code, 0);
}

TEST_F(BalanceTest, AServerKeepsTheMemoryAndProcessorsItWasGiven) {
  const CommandOutput up = cluster_.Up({{"data", data_},
                                        {"schema", "freshet"},
                                        {"model", "lr"},
                                        {"ps", "1"},
                                        {"epochs", "1000000"},
                                        {"partitions", "16"},
                                        {"heartbeat_ms", "20"},
                                        {"ps_memory_limit", "32MiB"},
                                        {"checkpoint_interval_ms", "100"}});
  ASSERT_EQ(up.code, 0) << up.err;
  ASSERT_FALSE(cluster_.AwaitRecords(1000).is_null());
  const std::string too_many = std::to_string(base::AllowedProcessors().size() + 1);
  const CommandOutput refused = cluster_.Freshet({"migrate", "ps-0", "--cpu", too_many});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("processors for the cluster"));
  EXPECT_EQ(cluster_.Freshet({"migrate", "ps-0", "--memory", "1MiB"}).code, 2);

  const CommandOutput migrate =
      cluster_.Freshet({"migrate", "ps-0", "--cpu", "1", "--memory", "48MiB", "--wait"});
  EXPECT_EQ(migrate.code, 0) << migrate.err;
  const Json moved = AwaitPartitions("ps-1", 16);
  ASSERT_FALSE(moved.is_null());
  EXPECT_EQ(TextAt(At(moved, "plans").back(), "plan"), "migrate ps-0 --cpu 1 --memory 48MiB");
  ExpectGiven(moved, "ps-1", 48);

  cluster_.Signal("master", SIGKILL);
  cluster_.Signal("ps-1", SIGKILL);
  const Json back = cluster_.AwaitStatus([](const Json& status) {
    const Json node = NodeOf(status, "ps-1");
    return NumberAt(node, "restarts") == 1 && TextAt(node, "state") == "running" &&
           NumberAt(node, "memory_limit_bytes") > 0;
  });
  ASSERT_FALSE(back.is_null());
  ExpectGiven(back, "ps-1", 48);

  // What is not said is as it was.
  EXPECT_EQ(cluster_.Freshet({"migrate", "ps-1", "--memory", "64MiB", "--wait"}).code, 0);
  const Json again = AwaitPartitions("ps-2", 16);
  ASSERT_FALSE(again.is_null());
  ExpectGiven(again, "ps-2", 64);
  ASSERT_FALSE(cluster_.AwaitRecords(RecordsOf(again) + 10'000).is_null());
  ExpectExact();
  EXPECT_EQ(cluster_.Freshet({"down"}).code, 0);
}

}  // namespace
}  // namespace freshet::testing
