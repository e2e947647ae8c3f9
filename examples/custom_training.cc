// SPDX-License-Identifier: Apache-2.0
// A training program of one's own on a freshet cluster: logistic regression, written by hand. The cluster
// deals out the log and keeps the weights; how they are learnt is decided here. In three shells:
//
//   freshet-master --dir demo --launcher none --ps 1 --listen tcp://127.0.0.1:7000
//                  --data clicks.tsv --schema freshet
//   freshet-ps --name ps-0 --dir demo/ps-0 --master tcp://127.0.0.1:7000
//   custom_training tcp://127.0.0.1:7000
//
// Start as many of the last as you like, kill any of them, kill the server and start it again: every
// record still counts exactly once (`freshet verify --dir demo`).
#include <cmath>
#include <cstdio>
#include <vector>

#include "protocol/validation.h"
#include "worker/client/client.h"

namespace {

using freshet::base::Error;
using freshet::base::Result;
using freshet::protocol::Key;
using freshet::protocol::LogPurpose;
using freshet::protocol::OptimizerKind;
using freshet::protocol::TableKind;
using freshet::protocol::TableSchema;
using freshet::worker::Client;
using freshet::worker::PushResult;
using freshet::worker::TableHandle;

struct Model {
  TableHandle weights;  // one float per key
  TableHandle bias;     // one float
};

// Says what went wrong; the exit code is that of all freshet programs.
int Report(const Error& error) {
  std::fprintf(stderr, "custom_training: %s\n", error.message.c_str());
  return freshet::base::ExitCodeFor(error.code);
}

Result<Model> Declare(Client& client) {
  TableSchema weights{.name = "my_weights", .kind = TableKind::kSparse, .dim = 1};
  weights.optimizer = {.kind = OptimizerKind::kAdagrad, .learning_rate = 0.05f};
  TableSchema bias{.name = "my_bias", .kind = TableKind::kDense, .dim = 1, .dense_rows = 1};
  bias.optimizer = weights.optimizer;
  const auto tables = client.DeclareTables({weights, bias});
  if (!tables) return tl::unexpected(tables.error());
  return Model{(*tables)[0], (*tables)[1]};
}

// One gradient step; fills `logits` with what the model said before it learnt.
Result<PushResult> Step(Client& client, const Model& model, const Client::Batch& batch,
                        std::vector<float>& logits) {
  const auto& records = batch.records;
  const std::vector<Key>& keys = records.sparse;  // [records.rows][records.sparse_count]
  const std::vector<Key> bias_key = {0};
  std::vector<float> weights(keys.size());
  std::vector<float> bias(1);
  if (auto ok = client.Pull({{model.weights, keys, weights}, {model.bias, bias_key, bias}}); !ok) {
    return tl::unexpected(ok.error());
  }
  logits.assign(records.rows, bias[0]);
  std::vector<float> gradients(keys.size());
  std::vector<float> bias_gradient(1);
  for (size_t i = 0; i < keys.size(); ++i) logits[i / records.sparse_count] += weights[i];
  for (size_t r = 0; r < records.rows; ++r) {
    const float p = 1.0f / (1.0f + std::exp(-logits[r]));
    const float gradient = (p - records.labels[r]) / static_cast<float>(records.rows);
    bias_gradient[0] += gradient;
    for (size_t c = 0; c < records.sparse_count; ++c) {
      gradients[r * records.sparse_count + c] = gradient;
    }
  }
  if (auto ok = client.ReportPredictions(batch, logits); !ok) return tl::unexpected(ok.error());
  // Of a job with --eval-data: predictions are all that is wanted.
  if (batch.purpose == LogPurpose::kEvaluate) return PushResult::kAlreadyApplied;
  return client.Push(batch,
                     {{model.weights, keys, gradients}, {model.bias, bias_key, bias_gradient}});
}

int Train(const char* master) {
  auto connected = Client::Connect({.master = master});
  if (!connected) return Report(connected.error());
  Client& client = **connected;
  const auto model = Declare(client);
  if (!model) return Report(model.error());
  freshet::protocol::ValidationHistogram validation;
  std::vector<float> logits;
  for (;;) {
    const auto next = client.NextBatch();
    if (!next) return Report(next.error());
    if (!next->has_value()) break;
    const Client::Batch& batch = **next;
    const auto pushed = Step(client, *model, batch, logits);
    if (!pushed) return Report(pushed.error());
    // A span that another worker was faster with, or that is dealt out anew, is not counted here.
    if (*pushed != PushResult::kApplied) continue;
    for (size_t r = 0; r < logits.size(); ++r) validation.Add(logits[r], batch.records.labels[r]);
  }
  std::printf("%s: %llu records, progressive AUC %.4f, log loss %.4f\n", client.name().c_str(),
              static_cast<unsigned long long>(validation.records()), validation.Auc(),
              validation.LogLoss());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: custom_training tcp://HOST:PORT\n");
    return 2;
  }
  return Train(argv[1]);
}
