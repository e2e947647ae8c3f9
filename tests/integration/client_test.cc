// SPDX-License-Identifier: Apache-2.0
// The public API against real processes: a master, a server, and this test as the workers.
#include "worker/client/client.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "cli/admin_client.h"
#include "protocol/validation.h"
#include "stream/generator.h"
#include "tests/base/temp_dir.h"
#include "tests/integration/local_cluster.h"

namespace freshet::worker {
namespace {

using base::ErrorCode;
using protocol::Key;
using protocol::OptimizerKind;
using protocol::TableSchema;
using std::chrono::milliseconds;

constexpr uint64_t kRecords = 40'000;

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override { base::SetLogLevel(base::LogLevel::kOff); }

  // Of the log that StartCluster makes.
  std::string data() const { return dir_.path() + "/clicks.tsv"; }

  void StartCluster(const std::vector<std::string>& ps_args = {},
                    const std::vector<std::string>& more_master_args = {}) {
    ASSERT_TRUE(stream::GenerateLog({.records = kRecords}, data(), {}));
    std::vector<std::string> master_args = {"--heartbeat-ms", "20", "--batch-size", "250",
                                            "--partitions",   "16"};
    master_args.insert(master_args.end(), more_master_args.begin(), more_master_args.end());
    cluster_ = std::make_unique<testing::LocalCluster>(
        testing::LocalClusterOptions{.dir = dir_.path() + "/cluster",
                                     .data = data(),
                                     .master_args = master_args,
                                     .ps_args = ps_args});
    const auto started = cluster_->Start();
    ASSERT_TRUE(started) << started.error().message;
  }

  std::unique_ptr<Client> Join() {
    auto client = Client::Connect(
        {.master = cluster_->master_address(), .deadline = std::chrono::seconds(30)});
    EXPECT_TRUE(client) << client.error().message;
    return client ? std::move(*client) : nullptr;
  }

  // The audit of invariant I1, and that it is about the whole log.
  void ExpectExact() {
    const auto audit = cli::AdminClient(cluster_->dir()).Post("/v1/verify");
    ASSERT_TRUE(audit) << audit.error().message;
    EXPECT_EQ(audit->at("ok"), true) << audit->dump();
    EXPECT_EQ(audit->at("records_done"), kRecords);
    EXPECT_EQ(audit->at("audit_count"), kRecords);
  }

  base::TempDir dir_;
  std::unique_ptr<testing::LocalCluster> cluster_;
};

TableSchema Weights() {
  TableSchema schema{.name = "weights", .dim = 1};
  schema.optimizer = {.kind = OptimizerKind::kAdagrad, .learning_rate = 0.05f};
  return schema;
}

// Logistic regression over the sparse features to the job's end; `after` runs after each batch.
struct Trained {
  uint64_t applied = 0;  // records whose push this client saw applied
  uint64_t batches = 0;
  protocol::ValidationHistogram validation;
  protocol::ValidationHistogram evaluation;
};
Trained Train(Client& client, const std::function<void(const Trained&)>& after = {}) {
  Trained trained;
  const auto weights = client.DeclareTable(Weights());
  EXPECT_TRUE(weights) << weights.error().message;
  for (;;) {
    const auto next = client.NextBatch();
    EXPECT_TRUE(next) << next.error().message;
    if (!next || !next->has_value()) return trained;
    const Client::Batch& batch = **next;
    const auto& keys = batch.records.sparse;
    const size_t columns = batch.records.sparse_count;
    const auto rows = client.Pull(*weights, keys);
    EXPECT_TRUE(rows) << rows.error().message;
    if (!rows) return trained;
    std::vector<float> logits(batch.records.rows);
    std::vector<float> gradients(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) logits[i / columns] += (*rows)[i];
    for (size_t i = 0; i < keys.size(); ++i) {
      const float p = 1.0f / (1.0f + std::exp(-logits[i / columns]));
      gradients[i] = (p - batch.records.labels[i / columns]) / static_cast<float>(logits.size());
    }
    EXPECT_TRUE(client.ReportPredictions(batch, logits));
    if (batch.purpose == protocol::LogPurpose::kEvaluate) {
      for (size_t r = 0; r < logits.size(); ++r) {
        trained.evaluation.Add(logits[r], batch.records.labels[r]);
      }
      continue;
    }
    const auto pushed = client.Push(batch, {{*weights, keys, gradients}});
    EXPECT_TRUE(pushed) << pushed.error().message;
    if (!pushed) return trained;
    ++trained.batches;
    if (*pushed == PushResult::kApplied) {
      trained.applied += batch.span.size();
      for (size_t r = 0; r < logits.size(); ++r) {
        trained.validation.Add(logits[r], batch.records.labels[r]);
      }
    }
    if (after) after(trained);
  }
}

TEST_F(ClientTest, TrainsALogToItsEndAndEveryRecordCountsOnce) {
  StartCluster();
  auto client = Join();
  ASSERT_NE(client, nullptr);
  EXPECT_EQ(client->name(), "worker-0");
  EXPECT_EQ(client->job().batch_size, 250u);
  const Trained trained = Train(*client);
  EXPECT_EQ(trained.applied, kRecords);
  EXPECT_GT(trained.validation.Auc(), 0.65);
  // Complete stays complete.
  const auto again = client->NextBatch();
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->has_value());
  client.reset();
  ExpectExact();
  // The predictions have reached the master, all of them.
  const auto status = cli::AdminClient(cluster_->dir()).Get("/v1/status");
  ASSERT_TRUE(status);
  EXPECT_NEAR(status->at("job").at("auc").get<double>(), trained.validation.Auc(), 1e-3);
}

TEST_F(ClientTest, AJobWithEvaluationDataIsPredictedAfterItsTraining) {
  const std::string held_out = data() + ".held-out";
  ASSERT_TRUE(stream::GenerateLog({.records = 5000, .first_record = kRecords}, held_out, {}));
  StartCluster({}, {"--eval-data", held_out});
  auto client = Join();
  ASSERT_NE(client, nullptr);
  const Trained trained = Train(*client);
  EXPECT_EQ(trained.applied, kRecords);
  EXPECT_EQ(trained.evaluation.records(), 5000u);
  EXPECT_GT(trained.evaluation.Auc(), 0.65);
  ExpectExact();
  const auto summary = cli::AdminClient(cluster_->dir()).Get("/v1/summary");
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_NEAR(summary->at("eval_auc").get<double>(), trained.evaluation.Auc(), 1e-3);
}

TEST_F(ClientTest, AServerKilledInTheMiddleLosesAndDoublesNothing) {
  StartCluster({"--checkpoint-interval-ms", "50"});
  auto client = Join();
  ASSERT_NE(client, nullptr);
  int kills = 0;
  const Trained trained = Train(*client, [&](const Trained& so_far) {
    if (so_far.batches != 60 && so_far.batches != 120) return;
    ++kills;
    cluster_->KillPs(0);
    ASSERT_TRUE(cluster_->StartPs(0));
  });
  EXPECT_EQ(kills, 2);
  // What the server had not made durable was dealt out and learnt again.
  EXPECT_GE(trained.applied, kRecords);
  ExpectExact();
}

TEST_F(ClientTest, ClientsOfOneProcessShareALog) {
  StartCluster();
  std::vector<Trained> trained(3);
  std::vector<std::thread> threads;
  for (Trained& mine : trained) {
    threads.emplace_back([this, &mine] {
      if (auto client = Join()) mine = Train(*client);
    });
  }
  for (std::thread& thread : threads) thread.join();
  uint64_t applied = 0;
  for (const Trained& mine : trained) applied += mine.applied;
  EXPECT_EQ(applied, kRecords);
  ExpectExact();
}

TEST_F(ClientTest, ABatchIsInHandUntilItIsPushedOrGivenBack) {
  StartCluster();
  auto client = Join();
  ASSERT_NE(client, nullptr);
  const auto table = client->DeclareTable(Weights());
  ASSERT_TRUE(table);
  auto first = client->NextBatch();
  ASSERT_TRUE(first && first->has_value());
  EXPECT_EQ((*first)->span, (protocol::Span{0, 250}));
  EXPECT_EQ((*first)->records.rows, 250u);
  EXPECT_EQ(client->NextBatch().error().code, ErrorCode::kConflict);
  const std::vector<Key> keys = {1, 2};
  const std::vector<float> one_float = {1};
  EXPECT_EQ(client->Push(**first, {{*table, keys, one_float}}).error().code,
            ErrorCode::kInvalidArgument);
  const std::vector<float> bad_floats = {1, std::nanf("")};
  EXPECT_EQ(client->Push(**first, {{*table, keys, bad_floats}}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(client->ReportPredictions(**first, one_float).error().code,
            ErrorCode::kInvalidArgument);
  ASSERT_TRUE(client->GiveBack(**first));
  EXPECT_EQ(client->Push(**first, {}).error().code, ErrorCode::kConflict);
  // It comes again, and pushes of no rows make the whole log done.
  uint64_t applied = 0;
  bool came_again = false;
  for (;;) {
    const auto next = client->NextBatch();
    ASSERT_TRUE(next) << next.error().message;
    if (!next->has_value()) break;
    came_again = came_again || (*next)->span == (*first)->span;
    ASSERT_EQ(client->Push(**next, {}), PushResult::kApplied);
    EXPECT_EQ(client->Push(**next, {}).error().code, ErrorCode::kConflict);
    applied += (*next)->span.size();
  }
  EXPECT_TRUE(came_again);
  EXPECT_EQ(applied, kRecords);
  ExpectExact();
}

TEST_F(ClientTest, KeysThatRepeatArePulledAloneAndLearnTheSumOfTheirGradients) {
  StartCluster();
  auto client = Join();
  ASSERT_NE(client, nullptr);
  TableSchema small{.name = "small", .dim = 2};
  small.optimizer = {.kind = OptimizerKind::kSgd, .learning_rate = 1.0f};
  TableSchema other{.name = "other", .dim = 1};
  other.optimizer = small.optimizer;
  const auto tables = client->DeclareTables({small, other});
  ASSERT_TRUE(tables);
  const auto batch = client->NextBatch();
  ASSERT_TRUE(batch && batch->has_value());
  const std::vector<Key> keys = {7, 9, 7};
  const std::vector<float> gradients = {1, 2, 10, 20, 100, 200};
  const std::vector<float> other_gradients = {-1, -2, -4};
  ASSERT_EQ(client->Push(**batch,
                         {{(*tables)[0], keys, gradients}, {(*tables)[1], keys, other_gradients}}),
            PushResult::kApplied);
  std::vector<float> rows(6);
  std::vector<float> other_rows(3);
  ASSERT_TRUE(client->Pull({{(*tables)[0], keys, rows}, {(*tables)[1], keys, other_rows}}));
  EXPECT_EQ(rows, (std::vector<float>{-101, -202, -10, -20, -101, -202}));
  EXPECT_EQ(other_rows, (std::vector<float>{5, 2, 5}));
  // The same declaration again is the same table; another one under its name is refused.
  EXPECT_EQ(client->DeclareTable(small)->id, (*tables)[0].id);
  small.dim = 3;
  EXPECT_EQ(client->DeclareTable(small).error().code, ErrorCode::kConflict);
  small.name = "No Such Name";
  EXPECT_EQ(client->DeclareTable(small).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(client->Pull(TableHandle{}, keys).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(ClientTest, AMasterThatIsNotThereIsSaidToBeUnreachable) {
  const auto silent =
      Client::Connect({.master = "tcp://127.0.0.1:1", .connect_deadline = milliseconds(100)});
  EXPECT_EQ(silent.error().code, ErrorCode::kUnreachable);
  const auto nonsense = Client::Connect({.master = "somewhere"});
  EXPECT_EQ(nonsense.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace freshet::worker
