// SPDX-License-Identifier: Apache-2.0
#include "ps/ps_node.h"

#include <gtest/gtest.h>

#include "protocol/audit.h"
#include "tests/base/fake_runtime.h"
#include "tests/ps/memory_image_store.h"
#include "tests/ps/store_fixture.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::ps {
namespace {

using base::ErrorCode;
using protocol::Incarnation;
using protocol::LogId;
using protocol::PartitionId;
using protocol::PartitionStatus;
using protocol::RequestId;
using protocol::Span;
using protocol::Tenure;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::FakeEndpoint;
using transport::PeerId;

constexpr uint16_t kPartitions = 4;
constexpr PeerId kMaster{1};  // the first connection
constexpr PeerId kWorker{100};
constexpr LogId kLog{0};
const protocol::Sender kFromMaster{protocol::ClusterId(7), Incarnation()};
const protocol::Sender kFromWorker{protocol::ClusterId(7), Incarnation(55)};

protocol::View MakeView(uint64_t number, uint64_t tenure) {
  protocol::View view;
  view.number = protocol::ViewNumber(number);
  view.nodes = {{"ps-0", Incarnation(3), "tcp://a:1"}, {"ps-1", Incarnation(4), "tcp://b:1"}};
  view.places.resize(kPartitions);
  for (auto& place : view.places) {
    place.node = 0;
    place.tenure = Tenure(tenure);
  }
  view.tables.push_back({protocol::kAuditTable, protocol::AuditTableSchema()});
  return view;
}

class PsNodeTest : public ::testing::Test {
 protected:
  explicit PsNodeTest(uint64_t memory_bytes = 1 << 28) {
    PsOptions options;
    options.name = "ps-0";
    options.address = "tcp://a:1";
    options.master = "tcp://master:1";
    options.memory_limit_bytes = memory_bytes;
    node_ = std::make_unique<PsNode>(options, runtime_.runtime(), endpoint_, store_,
                                     [this](int code, const std::string& why) {
                                       exit_code_ = code;
                                       exit_why_ = why;
                                     });
  }

  void Register(const protocol::View& view) {
    node_->Start();
    const auto request = endpoint_.TakeOne<protocol::RegisterRequest>();
    protocol::RegisterReply reply;
    reply.cluster = kFromMaster.cluster;
    reply.incarnation = Incarnation(3);
    reply.name = "ps-0";
    reply.view = view;
    reply.heartbeat_ms = 100;
    Answer(request, reply);
  }
  template <class Message>
  void Answer(const FakeEndpoint::Sent& request, const Message& message) {
    node_->OnPacket(request.to,
                    protocol::EncodePacket(kFromMaster, request.envelope.request, message));
  }
  void Publish(const protocol::View& view) {
    node_->OnPacket(kMaster,
                    protocol::EncodePacket(kFromMaster, RequestId(), protocol::ViewReply{view}));
  }
  // As if all had been served from the beginning.
  void Serve() {
    Register(MakeView(2, 1));
    runtime_.Settle();
    endpoint_.sent.clear();
  }
  void Send(uint64_t request, const auto& message, const protocol::Sender& from = kFromWorker) {
    node_->OnPacket(kWorker, protocol::EncodePacket(from, RequestId(request), message));
  }
  std::vector<PartitionStatus> Push(Span span, std::vector<uint16_t> cover) {
    Send(++request_, protocol::PushRequest{kLog, span, std::move(cover), {}});
    std::vector<PartitionStatus> statuses;
    for (const uint8_t code :
         endpoint_.TakeOne<protocol::PushReply>().Body<protocol::PushReply>().statuses) {
      statuses.push_back(static_cast<PartitionStatus>(code));
    }
    return statuses;
  }
  // To the partition of the row, which it returns.
  uint16_t PushAudit(Span span, const protocol::AuditRow& row) {
    const uint16_t p = protocol::PartitionOf(protocol::kAuditTable, row.key, kPartitions).value();
    const protocol::PushRequest push{kLog, span, {p}, {{protocol::kAuditTable, 1}}};
    const uint32_t count = 1;
    const auto bytes = [](const auto& value) {
      return protocol::Buffer::Copy(std::as_bytes(std::span(&value, 1)));
    };
    node_->OnPacket(kWorker,
                    protocol::EncodePacket(kFromWorker, RequestId(++request_), push,
                                           {bytes(count), bytes(row.key), bytes(row.counters)}));
    return p;
  }
  protocol::PsHeartbeat NextHeartbeat() {
    endpoint_.sent.clear();
    runtime_.Advance(milliseconds(100));
    return endpoint_.TakeOne<protocol::PsHeartbeat>().Body<protocol::PsHeartbeat>();
  }
  // An image of a partition as a former process left it.
  protocol::Image MakeImage(uint16_t p, protocol::Stamp stamp, protocol::Stamp base, Span applied) {
    protocol::Image image;
    image.header.partition = PartitionId(p);
    image.header.stamp = stamp;
    image.header.base = base;
    image.header.applied.Mutable(kLog).Add(applied);
    return image;
  }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  MemoryImageStore store_;
  std::unique_ptr<PsNode> node_;
  std::optional<int> exit_code_;
  std::string exit_why_;
  uint64_t request_ = 0;
};

TEST_F(PsNodeTest, ReportsAPartitionOnlyOnceItIsLoaded) {
  Register(MakeView(2, 1));
  const auto first = endpoint_.TakeOne<protocol::PsHeartbeat>().Body<protocol::PsHeartbeat>();
  EXPECT_TRUE(first.partitions.empty());
  EXPECT_EQ(first.stats.loading, kPartitions);
  EXPECT_EQ(Push({0, 4}, {0, 1}), std::vector<PartitionStatus>(2, PartitionStatus::kRetry));
  runtime_.Settle();
  const auto heartbeat = NextHeartbeat();
  ASSERT_EQ(heartbeat.partitions.size(), kPartitions);
  EXPECT_EQ(heartbeat.partitions[1].tenure, Tenure(1));
  EXPECT_EQ(heartbeat.applied.size(), 1u);  // all share one
}

TEST_F(PsNodeTest, WhatSomebodyWaitsForIsLoadedFirst) {
  Register(MakeView(2, 1));
  Push({0, 4}, {3});
  runtime_.Settle();
  ASSERT_EQ(store_.loads.size(), kPartitions);
  EXPECT_EQ(store_.loads[1], PartitionId(3));  // the first was being read already
}

TEST_F(PsNodeTest, ServesTheNewestImageAndGoesOnCountingItsVersion) {
  store_.chains[PartitionId(1)] = {MakeImage(1, {Tenure(1), 5}, {}, {0, 50}),
                                   MakeImage(1, {Tenure(1), 9}, {Tenure(1), 5}, {0, 90})};
  Register(MakeView(2, 4));
  runtime_.Settle();
  const auto& slot = node_->slots()[1];
  EXPECT_EQ(slot.partition->applied().Of(kLog), (protocol::SpanSet{{0, 90}}));
  EXPECT_EQ(slot.partition->version(), 9u);
  EXPECT_EQ(Push({50, 100}, {1}), std::vector<PartitionStatus>{PartitionStatus::kSpanConflict});
  EXPECT_EQ(Push({90, 100}, {1}), std::vector<PartitionStatus>{PartitionStatus::kOk});
}

TEST_F(PsNodeTest, AnOldImageIsClaimedOnlyWhenItIsStampedWithThisTenure) {
  store_.chains[PartitionId(1)] = {MakeImage(1, {Tenure(1), 5}, {}, {0, 50})};
  Register(MakeView(2, 4));
  runtime_.Settle();
  const auto before = NextHeartbeat();  // the image of this tenure is cut in this time
  EXPECT_TRUE(before.durable[before.partitions[1].durable_index].empty());
  runtime_.Settle();
  const auto after = NextHeartbeat();
  EXPECT_EQ(after.durable[after.partitions[1].durable_index],
            (std::vector<protocol::LogWatermark>{{kLog, 50}}));
  EXPECT_EQ(store_.chains[PartitionId(1)].back().header.stamp, (protocol::Stamp{Tenure(4), 5}));
}

TEST_F(PsNodeTest, ADamagedDifferenceIsGivenUpWithWhatItHeld) {
  store_.chains[PartitionId(2)] = {MakeImage(2, {Tenure(1), 5}, {}, {0, 50}),
                                   MakeImage(2, {Tenure(1), 9}, {Tenure(1), 5}, {0, 90})};
  store_.damaged_from[PartitionId(2)] = 1;
  Register(MakeView(2, 4));
  runtime_.Settle();
  EXPECT_FALSE(exit_code_);
  EXPECT_EQ(node_->slots()[2].partition->applied().Of(kLog), (protocol::SpanSet{{0, 50}}));
  EXPECT_EQ(Push({50, 100}, {2}), std::vector<PartitionStatus>{PartitionStatus::kOk});
}

TEST_F(PsNodeTest, ADamagedBaseIsLearntAgainFromNothing) {
  store_.chains[PartitionId(2)] = {MakeImage(2, {Tenure(1), 5}, {}, {0, 50})};
  store_.damaged_from[PartitionId(2)] = 0;
  Register(MakeView(2, 4));
  runtime_.Settle();
  EXPECT_FALSE(exit_code_);
  EXPECT_TRUE(node_->slots()[2].partition->applied().logs().empty());
  runtime_.Advance(milliseconds(100));
  runtime_.Settle();
  EXPECT_TRUE(store_.chains[PartitionId(2)].back().header.whole());
}

TEST_F(PsNodeTest, AnImageThatDoesNotFitItsTablesEndsTheServerWithItsName) {
  auto image = MakeImage(0, {Tenure(1), 5}, {}, {0, 50});
  image.header.rows = 3;  // and no blocks
  store_.chains[PartitionId(0)] = {image};
  Register(MakeView(2, 4));
  runtime_.Settle();
  EXPECT_EQ(exit_code_, 1);
  EXPECT_NE(exit_why_.find("partition 0"), std::string::npos) << exit_why_;
}

TEST_F(PsNodeTest, ANewTenureIsLoadedAnewFromTheStore) {
  Serve();
  ASSERT_EQ(Push({0, 10}, {0}), std::vector<PartitionStatus>{PartitionStatus::kOk});
  store_.chains[PartitionId(0)] = {MakeImage(0, {Tenure(2), 70}, {}, {0, 70})};
  auto view = MakeView(3, 1);
  view.places[0].tenure = Tenure(3);
  store_.loads.clear();
  Publish(view);
  EXPECT_EQ(Push({0, 10}, {0}), std::vector<PartitionStatus>{PartitionStatus::kRetry});
  runtime_.Settle();
  EXPECT_EQ(store_.loads, std::vector<PartitionId>{PartitionId(0)});  // and no other one
  EXPECT_EQ(Push({0, 10}, {0}), std::vector<PartitionStatus>{PartitionStatus::kAlreadyApplied});
}

TEST_F(PsNodeTest, AnOlderViewChangesNothing) {
  Serve();
  auto view = MakeView(2, 9);  // the number it has
  Publish(view);
  view.number = protocol::ViewNumber(1);
  Publish(view);
  EXPECT_EQ(node_->slots()[0].tenure, Tenure(1));
  EXPECT_EQ(Push({0, 10}, {0}), std::vector<PartitionStatus>{PartitionStatus::kOk});
}

TEST_F(PsNodeTest, APartitionThatMovedAwayIsRefusedAndItsOldImageRemoved) {
  Serve();
  auto view = MakeView(3, 1);
  view.places[2].node = 1;
  view.places[2].tenure = Tenure(2);
  Publish(view);
  EXPECT_EQ(Push({0, 10}, {1, 2}),
            (std::vector<PartitionStatus>{PartitionStatus::kOk, PartitionStatus::kNotOwner}));
  runtime_.Settle();
  EXPECT_TRUE(store_.removed.empty());  // with the next interval
  runtime_.Advance(CheckpointerOptions().interval);
  runtime_.Settle();
  EXPECT_EQ(store_.removed, std::vector<PartitionId>{PartitionId(2)});
  EXPECT_EQ(NextHeartbeat().partitions.size(), kPartitions - 1u);
}

TEST_F(PsNodeTest, EndsWhenAnotherProcessHasItsPlace) {
  Serve();
  auto view = MakeView(3, 2);
  view.nodes[0].incarnation = Incarnation(9);
  Publish(view);
  EXPECT_EQ(exit_code_, base::ExitCodeFor(ErrorCode::kConflict));
  const auto sent = endpoint_.sent.size();
  Send(1, protocol::PushRequest{kLog, {0, 1}, {0}, {}});
  EXPECT_EQ(endpoint_.sent.size(), sent);
}

TEST_F(PsNodeTest, AViewThatCannotBeIsNotTaken) {
  Serve();
  auto view = MakeView(3, 2);
  view.places[0].node = 2;
  Publish(view);
  auto without_audit = MakeView(4, 2);
  without_audit.tables[0].schema.dim = 2;
  Publish(without_audit);
  auto without_partitions = MakeView(5, 2);
  without_partitions.places.clear();
  Publish(without_partitions);
  EXPECT_EQ(node_->view().number, protocol::ViewNumber(2));
  EXPECT_FALSE(exit_code_);
}

TEST_F(PsNodeTest, TheAnswerToAHeartbeatCountsAlsoAfterLaterOnesWereSent) {
  Serve();
  runtime_.Advance(milliseconds(100));
  const auto first = endpoint_.TakeOne<protocol::PsHeartbeat>();
  runtime_.Advance(milliseconds(500));
  EXPECT_EQ(endpoint_.Take<protocol::PsHeartbeat>().size(), 5u);
  Answer(first, protocol::HeartbeatReply{MakeView(6, 1)});
  EXPECT_EQ(node_->view().number, protocol::ViewNumber(6));
}

TEST_F(PsNodeTest, AMasterThatKnowsItNoMoreEndsIt) {
  Serve();
  runtime_.Advance(milliseconds(100));
  Answer(endpoint_.TakeOne<protocol::PsHeartbeat>(),
         protocol::ErrorReply{ErrorCode::kConflict, "another process has taken this node's name"});
  EXPECT_EQ(exit_code_, base::ExitCodeFor(ErrorCode::kConflict));
}

TEST_F(PsNodeTest, ACheckpointIsAnsweredWhenEverythingBeforeItIsDurable) {
  Serve();
  ASSERT_EQ(Push({0, 10}, {0, 1, 2, 3}), std::vector<PartitionStatus>(4, PartitionStatus::kOk));
  Send(40, protocol::CheckpointRequest());
  Send(40, protocol::CheckpointRequest());  // repeated: the same one
  EXPECT_TRUE(endpoint_.Take<protocol::CheckpointReply>().empty());
  runtime_.Settle();
  // The report that it is durable comes before the answer.
  size_t heartbeat = 0;
  size_t reply = 0;
  for (size_t i = 0; i < endpoint_.sent.size(); ++i) {
    const auto type = endpoint_.sent[i].envelope.type;
    if (type == protocol::MessageType::kPsHeartbeat && heartbeat == 0) heartbeat = i + 1;
    if (type == protocol::MessageType::kCheckpointReply) reply = i + 1;
  }
  EXPECT_GT(heartbeat, 0u);
  EXPECT_LT(heartbeat, reply);
  EXPECT_EQ(endpoint_.TakeOne<protocol::CheckpointReply>().envelope.request, RequestId(40));
  for (uint16_t p = 0; p < kPartitions; ++p) {
    EXPECT_EQ(store_.chains[PartitionId(p)].back().header.applied.Of(kLog).Watermark(), 10u);
  }
}

TEST_F(PsNodeTest, CheckpointsThatWaitForAFullDiskAreBounded) {
  Serve();
  Push({0, 10}, {0});
  for (uint64_t i = 0; i < 100; ++i) Send(1000 + i, protocol::CheckpointRequest());
  const auto refused = endpoint_.Take<protocol::ErrorReply>();
  ASSERT_EQ(refused.size(), 36u);
  EXPECT_EQ(refused[0].Body<protocol::ErrorReply>().code, ErrorCode::kResourceExhausted);
  runtime_.Settle();
  EXPECT_EQ(endpoint_.Take<protocol::CheckpointReply>().size(), 64u);
  Send(2000, protocol::CheckpointRequest());
  EXPECT_EQ(endpoint_.Take<protocol::CheckpointReply>().size(), 1u);
}

TEST_F(PsNodeTest, ADrainRefusesPushesAndEndsWhenAllIsDurable) {
  Serve();
  Push({0, 10}, {0, 1});
  bool done = false;
  node_->Drain([&] { done = true; });
  EXPECT_FALSE(done);
  Send(7, protocol::PushRequest{kLog, {10, 20}, {0}, {}});
  EXPECT_EQ(endpoint_.TakeOne<protocol::ErrorReply>().Body<protocol::ErrorReply>().code,
            ErrorCode::kUnavailable);
  runtime_.Settle();
  EXPECT_TRUE(done);
  EXPECT_EQ(store_.chains[PartitionId(0)].back().header.applied.Of(kLog).Watermark(), 10u);
}

TEST_F(PsNodeTest, ADrainOnADiskThatStaysFullEndsAllTheSame) {
  Serve();
  Push({0, 10}, {0, 1});
  int done = 0;
  node_->Drain([&] { ++done; });
  for (int second = 0; second < 60; ++second) {
    store_.next_write_fails = ErrorCode::kResourceExhausted;
    runtime_.Settle();
    runtime_.Advance(seconds(1));
    EXPECT_EQ(done, second < 19 ? 0 : 1) << second;
  }
}

TEST_F(PsNodeTest, ItLeavesOnceWhenTheClusterIsStopped) {
  Serve();
  runtime_.Advance(milliseconds(100));
  Answer(endpoint_.TakeOne<protocol::PsHeartbeat>(),
         protocol::ErrorReply{ErrorCode::kUnavailable, "the cluster is being stopped"});
  runtime_.Settle();
  ASSERT_EQ(exit_code_, 0);
  EXPECT_EQ(exit_why_, "the cluster was stopped");
  endpoint_.sent.clear();
  Send(9, protocol::PushRequest{kLog, {10, 20}, {0}, {}});
  EXPECT_TRUE(endpoint_.sent.empty()) << "whoever has left answers nobody";
}

TEST_F(PsNodeTest, AnAuditIsTheAppliedSetsAndRowsOfOneMoment) {
  Serve();
  const auto row = protocol::AuditRowsOf(kLog, {0, 3}, {1}).front();
  const uint16_t p = PushAudit({0, 3}, row);
  Send(2, protocol::AuditRequest());
  const auto audit = endpoint_.TakeOne<protocol::AuditReply>().Body<protocol::AuditReply>();
  ASSERT_EQ(audit.partitions.size(), kPartitions);
  EXPECT_EQ(audit.partitions[p].applied.Of(kLog), (protocol::SpanSet{{0, 3}}));
  EXPECT_EQ(audit.partitions[p].keys, std::vector<uint64_t>{row.key});
  EXPECT_EQ(audit.partitions[p].counters, (std::vector<uint64_t>{3, 3, 1, 0}));
}

class FullPsNodeTest : public PsNodeTest {
 protected:
  FullPsNodeTest() : PsNodeTest(8 << 10) {}

  // The next row of which the push is refused.
  void PushUntilRefused() {
    endpoint_.sent.clear();
    for (bool refused = false; !refused; offset_ += protocol::kAuditRun) {
      const Span span{offset_, offset_ + 1};
      PushAudit(span, protocol::AuditRowsOf(kLog, span, {}).front());
      const auto reply = endpoint_.TakeOne<protocol::PushReply>().Body<protocol::PushReply>();
      refused = reply.statuses.front() == static_cast<uint8_t>(PartitionStatus::kOutOfMemory);
      ASSERT_LT(offset_, 1'000'000u) << "it is never full";
    }
  }

  uint64_t offset_ = 0;
};

TEST_F(FullPsNodeTest, WhatWasLearntBecomesDurableWhenMemoryIsFull) {
  Serve();
  runtime_.Advance(seconds(1));
  runtime_.Settle();
  store_.writes.clear();
  PushUntilRefused();
  const auto has_row = [&](const Slot& slot) {
    return slot.serving() && slot.partition->rows() > 0;
  };
  const auto learnt = std::count_if(node_->slots().begin(), node_->slots().end(), has_row);
  ASSERT_GT(learnt, 0);
  runtime_.Advance(milliseconds(300));
  runtime_.Settle();
  ASSERT_EQ(store_.writes.size(), 1u);
  EXPECT_EQ(store_.writes.front().size(), static_cast<size_t>(learnt));
  // As long as it stays full that was it: whoever waits tries again and again.
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(Push({2'000'000u + 10 * i, 2'000'000u + 10 * i + 1}, {0}).front(),
              PartitionStatus::kOk);
    PushUntilRefused();
    runtime_.Advance(seconds(1));
    runtime_.Settle();
  }
  EXPECT_EQ(store_.writes.size(), 1u);
}

TEST_F(PsNodeTest, PacketsOfOthersAndGarbageChangeNothing) {
  Serve();
  Send(1, protocol::PushRequest{kLog, {0, 10}, {0}, {}}, {protocol::ClusterId(8), Incarnation(1)});
  EXPECT_EQ(endpoint_.TakeOne<protocol::ErrorReply>().Body<protocol::ErrorReply>().code,
            ErrorCode::kConflict);
  // An error is not answered: two that do not know each other would go on for ever.
  Send(2, protocol::ErrorReply{ErrorCode::kConflict, "who are you"},
       {protocol::ClusterId(8), Incarnation(1)});
  EXPECT_TRUE(endpoint_.Take<protocol::ErrorReply>().empty());
  node_->OnPacket(kWorker, {});
  node_->OnPacket(kWorker, {{protocol::Buffer::Copy(std::string_view("garbage"))}});
  auto packet = protocol::EncodePacket(kFromWorker, RequestId(2),
                                       protocol::PushRequest{kLog, {0, 10}, {0}, {}});
  packet.frames.resize(1);
  node_->OnPacket(kWorker, packet);
  // A view from anyone but the master.
  node_->OnPacket(kWorker, protocol::EncodePacket(kFromWorker, RequestId(),
                                                  protocol::ViewReply{MakeView(9, 9)}));
  EXPECT_EQ(node_->view().number, protocol::ViewNumber(2));
  EXPECT_TRUE(node_->slots()[0].partition->applied().logs().empty());
  EXPECT_FALSE(exit_code_);
}

}  // namespace
}  // namespace freshet::ps
