// SPDX-License-Identifier: Apache-2.0
// What a worker does itself for a pull and a push of 4096 keys of dimension 16 from one server: group the
// keys by partition, build the requests, put the rows of the reply in place. Many batches take turns, as
// in a worker, so that the caches hold none of them.
#include <benchmark/benchmark.h>

#include <numeric>
#include <vector>

#include "base/random.h"
#include "protocol/codec.h"
#include "transport/malloc_tuning.h"
#include "worker/client/routed_call.h"

namespace freshet::worker {
namespace {

using protocol::Buffer;
using protocol::Key;

constexpr uint32_t kBatches = 64;
constexpr uint32_t kKeys = 4096;
constexpr uint32_t kDim = 16;
constexpr uint32_t kPartitions = 256;

struct Batch {
  std::vector<Key> keys;
  std::vector<float> rows;
  KeyRouting routing;
  protocol::Packet reply;
};

class Batches {
 public:
  Batches() : batches_(kBatches), cover_(kPartitions) {
    transport::TuneMallocForFrames();
    std::iota(cover_.begin(), cover_.end(), uint16_t{0});
    base::Random random(1);
    protocol::PullReply body;
    body.statuses.assign(kPartitions, static_cast<uint8_t>(protocol::PartitionStatus::kOk));
    for (Batch& batch : batches_) {
      batch.keys.resize(kKeys);
      for (Key& key : batch.keys) key = random.Next();
      batch.rows.resize(kKeys * kDim);
      batch.routing.Build(protocol::TableId(1), batch.keys, kPartitions);
      batch.reply = protocol::EncodePacket({}, protocol::RequestId(1), body,
                                           {Buffer::Allocate(kKeys * kDim * sizeof(float))});
    }
  }
  Batch& Next() { return batches_[++turn_ % kBatches]; }
  const std::vector<uint16_t>& cover() const { return cover_; }

 private:
  std::vector<Batch> batches_;
  std::vector<uint16_t> cover_;
  size_t turn_ = 0;
};

void Build(benchmark::State& state) {
  Batches batches;
  for (auto _ : state) {
    Batch& batch = batches.Next();
    batch.routing.Build(protocol::TableId(1), batch.keys, kPartitions);
    benchmark::DoNotOptimize(batch.routing.keys().data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * kKeys);
}

void PushRequest(benchmark::State& state) {
  Batches batches;
  protocol::BufferPool pool;
  for (auto _ : state) {
    const Batch& batch = batches.Next();
    auto call = RoutedCall::Push(protocol::LogId(0), {0, 512},
                                 {{&batch.routing, kDim, nullptr, batch.rows.data()}}, kPartitions);
    auto request = call.Prepare(batches.cover(), pool);
    benchmark::DoNotOptimize(request.arrays.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * kKeys);
}

void PullRequestAndReply(benchmark::State& state) {
  Batches batches;
  protocol::BufferPool pool;
  for (auto _ : state) {
    Batch& batch = batches.Next();
    auto call = RoutedCall::Pull({{&batch.routing, kDim, batch.rows.data(), nullptr}}, kPartitions);
    auto request = call.Prepare(call.Waiting(), pool);
    benchmark::DoNotOptimize(request.arrays.data());
    call.OnReply(request.cover, batch.reply);
    benchmark::DoNotOptimize(batch.rows.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * kKeys);
}

BENCHMARK(Build);
BENCHMARK(PushRequest);
BENCHMARK(PullRequestAndReply);

}  // namespace
}  // namespace freshet::worker

BENCHMARK_MAIN();
