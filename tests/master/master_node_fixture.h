// SPDX-License-Identifier: Apache-2.0
// A master's brain in a test's hands: the test is its servers, its workers and its log.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "master/master_node.h"
#include "tests/base/fake_runtime.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::master {
using base::ErrorCode;
using protocol::Incarnation;
using protocol::LeaseAnswer;
using protocol::LogId;
using protocol::PartitionId;
using protocol::RequestId;
using protocol::Role;
using protocol::Span;
using protocol::Tenure;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::FakeEndpoint;
using transport::PeerId;

inline constexpr uint16_t kPartitions = 4;
inline constexpr uint64_t kRecords = 100;
inline constexpr LogId kLog{0};
inline constexpr PeerId kPs{50};
inline constexpr PeerId kWorker{60};
inline constexpr PeerId kOther{70};

class MemoryStateStore final : public StateStore {
 public:
  std::optional<protocol::Buffer> state;
  int saves = 0;
  bool fails = false;
  base::Result<std::optional<protocol::Buffer>> Load() override { return state; }
  base::Result<> Save(const protocol::Buffer& bytes) override {
    if (fails) return base::Fail(ErrorCode::kIo, "as the test says");
    ++saves;
    state = bytes;
    return {};
  }
};

class FakeProbe final : public LogProbe {
 public:
  base::Result<protocol::Offset> end = kRecords;
  int asked = 0;
  base::Result<protocol::Offset> SyncedEnd(const protocol::LogSpec&) override {
    ++asked;
    return end;
  }
};

class MasterNodeTest : public ::testing::Test {
 protected:
  explicit MasterNodeTest(MasterOptions options = Options()) : options_(std::move(options)) {
    StartMaster();
  }
  static MasterOptions Options() {
    MasterOptions options;
    options.partitions = kPartitions;
    options.job.batch_size = 10;
    options.job.logs = {{kLog, "train", "clicks.tsv", "criteo", 1, protocol::LogPurpose::kTrain}};
    return options;
  }
  // Also in place of one that was killed.
  void StartMaster() {
    BeginMaster();
    runtime_.Settle();
  }
  // It has not looked at its logs yet.
  void BeginMaster() {
    node_ = std::make_unique<MasterNode>(
        options_, runtime_.runtime(), endpoint_, store_, launcher_, probe_,
        [this](int code, const std::string&) { exit_code_ = code; });
    node_->Start();
  }

  template <class Message>
  void Send(PeerId from, Incarnation sender, const Message& message) {
    node_->OnPacket(from,
                    protocol::EncodePacket({cluster_, sender}, RequestId(++request_), message));
  }
  template <class Message>
  FakeEndpoint::Sent AnswerTo(PeerId peer) {
    for (auto& sent : endpoint_.Take<Message>()) {
      if (sent.to == peer && sent.envelope.request == RequestId(request_)) return sent;
    }
    ADD_FAILURE() << "no answer of this type";
    return {};
  }
  ErrorCode ErrorTo(PeerId peer) {
    return AnswerTo<protocol::ErrorReply>(peer).Body<protocol::ErrorReply>().code;
  }
  Incarnation Register(PeerId peer, Role role, const std::string& name, uint64_t process) {
    Send(peer, Incarnation(), protocol::RegisterRequest{role, name, "tcp://x:1", process, 1});
    const auto reply = AnswerTo<protocol::RegisterReply>(peer).Body<protocol::RegisterReply>();
    cluster_ = reply.cluster;
    return reply.incarnation;
  }
  // The server says of all its partitions that they have `applied`, of which `durable` is stored.
  void Report(Span applied, protocol::Offset durable, Tenure tenure) {
    protocol::PsHeartbeat heartbeat;
    heartbeat.applied.resize(1);
    heartbeat.applied[0].Mutable(kLog).Add(applied);
    heartbeat.durable = {{{kLog, durable}}};
    for (uint16_t p = 0; p < kPartitions; ++p) {
      heartbeat.partitions.push_back({PartitionId(p), tenure, 0, 0});
    }
    Send(kPs, ps_, heartbeat);
  }
  Tenure CurrentTenure() const { return node_->view().places[0].tenure; }
  void StartTraining() {
    ps_ = Register(kPs, Role::kPs, "ps-0", 1);
    worker_ = Register(kWorker, Role::kWorker, "", 2);
    Report({}, 0, CurrentTenure());
    ASSERT_EQ(node_->phase(), Phase::kTraining);
    endpoint_.sent.clear();
  }
  protocol::LeaseReply AskForLease(uint64_t sequence) {
    Send(kWorker, worker_,
         protocol::LeaseRequest{sequence, protocol::LeaseId(), protocol::LeaseEnd::kNone, true});
    return AnswerTo<protocol::LeaseReply>(kWorker).Body<protocol::LeaseReply>();
  }
  // Answers the checkpoint at the job's end.
  void AnswerCheckpoint() {
    for (const auto& ask : endpoint_.Take<protocol::CheckpointRequest>()) {
      node_->OnPacket(kPs, protocol::EncodePacket({cluster_, ps_}, ask.envelope.request,
                                                  protocol::CheckpointReply()));
    }
  }

  // Answers the audit at the job's end as if nothing had been learnt.
  void AnswerAudit() {
    for (const auto& ask : endpoint_.Take<protocol::AuditRequest>()) {
      protocol::AuditReply reply;
      for (uint16_t p = 0; p < kPartitions; ++p) {
        reply.partitions.push_back({PartitionId(p), CurrentTenure(), {}, {}, {}});
      }
      node_->OnPacket(kPs, protocol::EncodePacket({cluster_, ps_}, ask.envelope.request, reply));
    }
  }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  MemoryStateStore store_;
  NoLauncher launcher_;
  FakeProbe probe_;
  MasterOptions options_;
  std::unique_ptr<MasterNode> node_;
  std::optional<int> exit_code_;
  protocol::ClusterId cluster_;
  Incarnation ps_;
  Incarnation worker_;
  uint64_t request_ = 0;
};

}  // namespace freshet::master
