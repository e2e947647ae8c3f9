// SPDX-License-Identifier: Apache-2.0
// What the audit (I1) adds to a push: everything that worker and server do for one without the wire
// between them, for the batch of the cheapest model (lr: weights of dimension 1), with the audit rows and
// without them.
#include <benchmark/benchmark.h>

#include <optional>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "protocol/audit.h"
#include "protocol/codec.h"
#include "ps/data_service.h"
#include "transport/malloc_tuning.h"
#include "worker/client/audit_rows.h"

namespace freshet {
namespace {

using protocol::Key;
using protocol::LogId;
using protocol::Span;
using protocol::TableId;

constexpr uint32_t kPartitions = 256;
constexpr uint32_t kBatches = 64;
constexpr uint64_t kRecords = 512;
constexpr TableId kWeights{1};

class Server {
 public:
  Server() : service_(slots_, tables_) {
    transport::TuneMallocForFrames();
    protocol::Table weights;
    weights.id = kWeights;
    weights.schema.name = "weights";
    weights.schema.dim = 1;
    CHECK(tables_.Add({protocol::kAuditTable, protocol::AuditTableSchema()}).has_value());
    CHECK(tables_.Add(weights).has_value());
    slots_.resize(kPartitions);
    for (uint16_t p = 0; p < kPartitions; ++p) {
      slots_[p].state = ps::SlotState::kServing;
      slots_[p].partition =
          std::make_unique<ps::Partition>(protocol::PartitionId(p), tables_, arena_);
    }
  }

  protocol::Packet Answer(const protocol::Packet& packet) {
    const auto request = protocol::DecodeBody<protocol::PushRequest>(packet);
    CHECK(request.has_value());
    const auto reply = service_.OnPush(*request, packet);
    CHECK(reply.has_value());
    return protocol::EncodePacket({}, protocol::RequestId(1), *reply);
  }

 private:
  ps::RowArena arena_;
  ps::TableSet tables_;
  ps::Slots slots_;
  ps::DataService service_;
};

enum class Audit { kOff, kOn };

void Push(benchmark::State& state, Audit audit) {
  const auto keys_of_a_batch = static_cast<size_t>(state.range(0));
  Server server;
  protocol::BufferPool pool;
  base::Random random(1);
  std::vector<std::vector<Key>> batches(kBatches);
  for (auto& batch : batches) {
    batch.resize(keys_of_a_batch);
    for (Key& key : batch) key = random.Below(1'000'000);
  }
  const std::vector<float> gradients(keys_of_a_batch, 0.5f);
  worker::KeyRouting routing;
  uint64_t offset = 0;
  for (auto _ : state) {
    const Span span{offset, offset + kRecords};
    offset = span.end;
    routing.Build(kWeights, batches[offset / kRecords % kBatches], kPartitions);
    std::vector<worker::RoutedRows> rows = {{&routing, 1, nullptr, gradients.data()}};
    std::optional<worker::AuditRows> audit_rows;
    if (audit == Audit::kOn) {
      audit_rows.emplace(LogId(0), span, std::vector<protocol::Offset>(), kPartitions);
      rows.push_back(audit_rows->Routed());
    }
    auto call = worker::RoutedCall::Push(LogId(0), span, std::move(rows), kPartitions);
    auto request = call.Prepare(call.Waiting(), pool);
    const auto packet = protocol::EncodePacket({}, protocol::RequestId(1), call.PushBody(request),
                                               std::move(request.arrays));
    call.OnReply(request.cover, server.Answer(packet));
    CHECK(call.push_result() == worker::PushResult::kApplied);
  }
}

BENCHMARK_CAPTURE(Push, without_audit, Audit::kOff)->Arg(1024)->Arg(8192);
BENCHMARK_CAPTURE(Push, with_audit, Audit::kOn)->Arg(1024)->Arg(8192);

}  // namespace
}  // namespace freshet

BENCHMARK_MAIN();
