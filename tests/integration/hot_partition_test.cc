// SPDX-License-Identifier: Apache-2.0
// Two hot partitions on one of two real servers: one of them moves without being told to, while training runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "cli/admin_client.h"
#include "stream/generator.h"
#include "tests/base/temp_dir.h"
#include "tests/integration/local_cluster.h"
#include "worker/client/client.h"

namespace freshet::worker {
namespace {

using cli::Json;
using protocol::Key;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kPartitions = 16;
// At the same server at first, as partitions are dealt out in turns.
constexpr std::array<uint16_t, 2> kHot = {0, 2};
constexpr size_t kKeysOfPush = 12'000;

class HotPartitionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    base::SetLogLevel(base::LogLevel::kOff);
    const std::string data = dir_.path() + "/clicks.tsv";
    ASSERT_TRUE(stream::GenerateLog({.records = 40'000}, data, {}));
    cluster_ = std::make_unique<testing::LocalCluster>(testing::LocalClusterOptions{
        .dir = dir_.path() + "/cluster",
        .data = data,
        .ps = 2,
        .master_args = {"--heartbeat-ms", "20", "--partitions", std::to_string(kPartitions),
                        "--epochs", "1000000", "--checkpoint-interval-ms", "500"}});
    const auto started = cluster_->Start();
    ASSERT_TRUE(started) << started.error().message;
    auto client = Client::Connect({.master = cluster_->master_address(), .deadline = seconds(30)});
    ASSERT_TRUE(client) << client.error().message;
    client_ = std::move(*client);
    protocol::TableSchema schema{.name = "rows", .dim = 16};
    schema.optimizer.kind = protocol::OptimizerKind::kAdagrad;
    const auto table = client_->DeclareTable(schema);
    ASSERT_TRUE(table) << table.error().message;
    table_ = *table;
    for (Key key = 0; key < 400'000; ++key) {
      keys_.at(protocol::PartitionOf(table_.id, key, kPartitions).value()).push_back(key);
    }
  }

  // Of ten keys four are of either hot partition, the others of any.
  void PushOnce() {
    const auto next = client_->NextBatch();
    ASSERT_TRUE(next && next->has_value());
    std::vector<Key> keys(kKeysOfPush);
    for (size_t i = 0; i < keys.size(); ++i) {
      const uint64_t tenth = i % 10;
      const auto& from = tenth < 8 ? keys_[kHot[tenth % 2]] : keys_[random_.Below(kPartitions)];
      keys[i] = from[random_.Below(from.size())];
    }
    const std::vector<float> gradients(keys.size() * table_.dim, 0.01f);
    const auto pushed = client_->Push(**next, {{table_, keys, gradients}});
    ASSERT_TRUE(pushed) << pushed.error().message;
  }
  std::vector<std::string> Events(const std::string& kind) const {
    const auto told = cli::AdminClient(cluster_->dir()).Get("/v1/events");
    std::vector<std::string> texts;
    if (!told) return texts;
    for (const Json& event : told->at("events")) {
      if (event.at("kind") == kind) texts.push_back(event.at("text"));
    }
    return texts;
  }
  bool PushUntilAPlanIsDone() {
    auto asked = Clock::now();
    for (const auto end = asked + seconds(90); Clock::now() < end && !HasFailure();) {
      PushOnce();
      if (Clock::now() - asked < milliseconds(200)) continue;
      asked = Clock::now();
      if (!Events("plan_done").empty()) return true;
    }
    return false;
  }
  // Processor time of the server's loop, which is its first thread.
  double UsedNs(int server) const {
    std::ifstream file("/proc/" + std::to_string(cluster_->ps_pid(server)) + "/schedstat");
    double ns = 0;
    file >> ns;
    return ns;
  }
  // How many times as busy the first server is as the second.
  double Unevenness() {
    const double before[] = {UsedNs(0), UsedNs(1)};
    for (int i = 0; i < 1000; ++i) PushOnce();
    return (UsedNs(0) - before[0]) / (UsedNs(1) - before[1]);
  }

  base::TempDir dir_;
  std::unique_ptr<testing::LocalCluster> cluster_;
  std::unique_ptr<Client> client_;
  TableHandle table_;
  std::array<std::vector<Key>, kPartitions> keys_;
  base::Random random_{5};
};

TEST_F(HotPartitionTest, OneOfTwoMovesByItself) {
  for (int i = 0; i < 200; ++i) PushOnce();  // until there are all rows
  const double before = Unevenness();
  ASSERT_TRUE(PushUntilAPlanIsDone());
  const double after = Unevenness();
  EXPECT_GT(std::max(before, 1 / before), 1.5);
  EXPECT_LT(std::max(after, 1 / after), 1.4);
  int hot = 0;
  for (const std::string& text : Events("partition_moved")) {
    hot += text.starts_with("partition 0 ") || text.starts_with("partition 2 ") ? 1 : 0;
  }
  EXPECT_EQ(hot, 1);
  const auto audit = cli::AdminClient(cluster_->dir()).Post("/v1/verify", seconds(60));
  ASSERT_TRUE(audit) << audit.error().message;
  EXPECT_EQ(audit->at("ok"), true) << audit->dump();
  for (const char* kind : {"plan_done", "partition_moved"}) {
    for (const std::string& text : Events(kind)) GTEST_LOG_(INFO) << kind << ": " << text;
  }
  GTEST_LOG_(INFO) << "times as busy: before " << before << ", after " << after;
}

}  // namespace
}  // namespace freshet::worker
