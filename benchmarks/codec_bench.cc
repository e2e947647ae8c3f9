// SPDX-License-Identifier: Apache-2.0
// Packets from messages and back: what a push of 4096 rows, a lease with its view and a heartbeat cost. The
// rival puts the keys and the gradients of the push into the msgpack body instead of frames of their own.
#include <benchmark/benchmark.h>

#include <msgpack.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "base/random.h"
#include "protocol/codec.h"
#include "protocol/messages.h"
#include "transport/malloc_tuning.h"

namespace freshet::protocol {
namespace {

constexpr uint32_t kRows = 4096;
constexpr uint32_t kDim = 16;
constexpr uint16_t kPartitions = 256;
constexpr uint16_t kServers = 4;

std::vector<uint16_t> Cover() {
  std::vector<uint16_t> cover(kPartitions / kServers);
  std::iota(cover.begin(), cover.end(), uint16_t{0});
  return cover;
}

struct PushData {
  PushRequest request{LogId(1), {1'000'000, 1'000'512}, Cover(), {{TableId(1), kRows}}};
  std::vector<uint32_t> counts = std::vector<uint32_t>(kPartitions / kServers, kRows / 64);
  std::vector<uint64_t> keys;
  std::vector<float> gradients = std::vector<float>(kRows * kDim, 0.125f);

  PushData() {
    base::Random random(1);
    for (uint32_t i = 0; i < kRows; ++i) keys.push_back(random.Next());
  }
  size_t bytes() const { return counts.size() * 4 + keys.size() * 8 + gradients.size() * 4; }
};

template <class T>
Buffer CopyOf(const std::vector<T>& values) {
  return Buffer::Copy(std::as_bytes(std::span(values)));
}

void Report(benchmark::State& state, size_t bytes) {
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

void PushEncode(benchmark::State& state) {
  const PushData data;
  for (auto _ : state) {
    auto packet = EncodePacket({ClusterId(1), Incarnation(1)}, RequestId(1), data.request,
                               {CopyOf(data.counts), CopyOf(data.keys), CopyOf(data.gradients)});
    benchmark::DoNotOptimize(packet.frames.data());
  }
  Report(state, data.bytes());
}

void PushDecode(benchmark::State& state) {
  const PushData data;
  const auto packet =
      EncodePacket({ClusterId(1), Incarnation(1)}, RequestId(1), data.request,
                   {CopyOf(data.counts), CopyOf(data.keys), CopyOf(data.gradients)});
  for (auto _ : state) {
    auto envelope = DecodeEnvelope(packet);
    auto body = DecodeBody<PushRequest>(packet);
    if (!envelope || !body) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(body);
    benchmark::DoNotOptimize(packet.frames[4].data());
  }
  Report(state, data.bytes());
}

void PushEncodeAllMsgpack(benchmark::State& state) {
  const PushData data;
  for (auto _ : state) {
    msgpack::sbuffer bytes;
    msgpack::pack(bytes, std::tie(data.request.cover, data.counts, data.keys, data.gradients));
    benchmark::DoNotOptimize(bytes.data());
  }
  Report(state, data.bytes());
}

void PushDecodeAllMsgpack(benchmark::State& state) {
  const PushData data;
  msgpack::sbuffer bytes;
  msgpack::pack(bytes, std::tie(data.request.cover, data.counts, data.keys, data.gradients));
  for (auto _ : state) {
    const auto handle = msgpack::unpack(bytes.data(), bytes.size());
    std::tuple<std::vector<uint16_t>, std::vector<uint32_t>, std::vector<uint64_t>,
               std::vector<float>>
        values;
    handle.get().convert(values);
    benchmark::DoNotOptimize(values);
  }
  Report(state, data.bytes());
}

View ViewOfACluster() {
  View view;
  view.number = ViewNumber(17);
  for (int i = 0; i < kServers; ++i) {
    view.nodes.push_back({"ps-" + std::to_string(i), Incarnation(100 + static_cast<uint64_t>(i)),
                          "tcp://10.0.0." + std::to_string(i) + ":7000"});
  }
  for (uint16_t p = 0; p < kPartitions; ++p) {
    view.places.push_back({static_cast<uint16_t>(p % kServers), Tenure(3), {}, kNoNode});
  }
  return view;
}

PsHeartbeat HeartbeatOfAServer() {
  PsHeartbeat heartbeat;
  heartbeat.view = ViewNumber(17);
  for (int set = 0; set < 3; ++set) {
    AppliedSets applied;
    for (uint16_t log = 0; log < 4; ++log) {
      applied.Mutable(LogId(log)) = SpanSet({{0, 1'000'000}, {1'000'512, 1'100'000}});
    }
    heartbeat.applied.push_back(applied);
  }
  heartbeat.durable.push_back({{LogId(0), 900'000}, {LogId(1), 900'000}});
  for (uint16_t p = 0; p < kPartitions / kServers; ++p) {
    heartbeat.partitions.push_back({PartitionId(p), Tenure(3), 0, 0, 1 << 20, 1'000'000});
  }
  return heartbeat;
}

template <class Message>
void Encode(benchmark::State& state, const Message& message) {
  size_t bytes = 0;
  for (auto _ : state) {
    auto packet = EncodePacket({ClusterId(1), Incarnation(1)}, RequestId(1), message);
    bytes = packet.frames[1].size();
    benchmark::DoNotOptimize(packet.frames.data());
  }
  Report(state, bytes);
}

template <class Message>
void Decode(benchmark::State& state, const Message& message) {
  const auto packet = EncodePacket({ClusterId(1), Incarnation(1)}, RequestId(1), message);
  for (auto _ : state) {
    auto body = DecodeAs<Message>(packet);
    if (!body) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(body);
  }
  Report(state, packet.frames[1].size());
}

LeaseReply LeaseOfAWorker() {
  LeaseReply reply;
  reply.answer = LeaseAnswer::kLease;
  reply.lease = {LeaseId(9), LogId(1), {1'000'000, 1'100'000}, {1'050'000}};
  reply.view = ViewOfACluster();
  return reply;
}

BENCHMARK(PushEncode);
BENCHMARK(PushEncodeAllMsgpack);
BENCHMARK(PushDecode);
BENCHMARK(PushDecodeAllMsgpack);
BENCHMARK_CAPTURE(Encode, LeaseWithView256, LeaseOfAWorker());
BENCHMARK_CAPTURE(Decode, LeaseWithView256, LeaseOfAWorker());
BENCHMARK_CAPTURE(Encode, Heartbeat64Partitions, HeartbeatOfAServer());
BENCHMARK_CAPTURE(Decode, Heartbeat64Partitions, HeartbeatOfAServer());

}  // namespace
}  // namespace freshet::protocol

int main(int argc, char** argv) {
  freshet::transport::TuneMallocForFrames();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
