// SPDX-License-Identifier: Apache-2.0
#include "master/backup_run.h"

#include <gtest/gtest.h>

#include "master/master_node.h"
#include "protocol/audit.h"
#include "tests/base/fake_runtime.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::master {
namespace {

using base::ErrorCode;
using protocol::BackupFile;
using protocol::BackupReply;
using protocol::BackupRequest;
using protocol::BackupState;
using protocol::Incarnation;
using protocol::PartitionId;
using protocol::Tenure;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using transport::FakeEndpoint;
using transport::PeerId;
using Sent = FakeEndpoint::Sent;

// Keeps what it is told.
class FakeWriter final : public BackupWriter {
 public:
  base::Result<> prepared;
  base::Result<> finish;
  std::vector<BackupManifest> finished;

  const std::string& dir() const override { return dir_; }
  std::string image_dir() const override { return dir_ + "/images"; }
  base::Result<> Prepare() override { return prepared; }
  base::Result<> Finish(BackupManifest manifest, const protocol::Buffer&) override {
    if (finish) finished.push_back(std::move(manifest));
    return finish;
  }

 private:
  std::string dir_ = "/backup";
};

class BackupRunTest : public ::testing::Test {
 protected:
  BackupRunTest()
      : rpc_(endpoint_, runtime_.runtime(), 100),
        events_(runtime_.runtime().clock),
        run_({runtime_.runtime(), rpc_, sender_, state_, nodes_, events_}) {
    state_.cluster = sender_.cluster;
    state_.placed = true;
    state_.view.tables.push_back({protocol::kAuditTable, protocol::AuditTableSchema()});
    Join("ps-0", Incarnation(3));
    Join("ps-1", Incarnation(4));
    for (const uint16_t owner : {0, 0, 1, 1}) {
      state_.view.places.push_back({owner, Tenure(5), {}, protocol::kNoNode});
    }
  }

  // A process of that name has registered.
  void Join(const std::string& name, Incarnation incarnation) {
    Node& node = nodes_[name];
    node.name = name;
    node.incarnation = incarnation;
    node.peer = PeerId(incarnation.value());
    node.connected = true;
    const auto index = state_.view.FindNode(name);
    if (!index) state_.view.nodes.push_back({name, {}, {}});
    state_.view.nodes[index.value_or(state_.view.nodes.size() - 1)].incarnation = incarnation;
  }
  void Start() {
    ASSERT_TRUE(run_.Start(writer_));
    runtime_.Settle();
  }
  // What was asked of the process since, oldest first; of others it is forgotten.
  std::vector<Sent> AskedOf(Incarnation incarnation) {
    std::vector<Sent> out;
    for (Sent& sent : endpoint_.Take<BackupRequest>()) {
      if (sent.to == PeerId(incarnation.value())) out.push_back(std::move(sent));
    }
    return out;
  }
  void Answer(const Sent& sent, BackupReply reply) {
    reply.round = sent.Body<BackupRequest>().round;
    auto packet = protocol::EncodePacket(sender_, sent.envelope.request, reply);
    const auto envelope = protocol::DecodeEnvelope(packet);
    rpc_.OnReply(sent.to, *envelope, packet);
  }
  void AnswerError(const Sent& sent, ErrorCode code) {
    auto packet = protocol::EncodePacket(sender_, sent.envelope.request,
                                         protocol::ErrorReply{code, "as the test says"});
    const auto envelope = protocol::DecodeEnvelope(packet);
    rpc_.OnReply(sent.to, *envelope, packet);
  }
  // All that it was asked for, but what it no longer has.
  BackupReply Ended(const Sent& sent, std::vector<uint16_t> without = {}) {
    BackupReply reply;
    reply.state = BackupState::kEnded;
    for (const uint16_t p : sent.Body<BackupRequest>().cover) {
      ++reply.done;
      if (std::count(without.begin(), without.end(), p) > 0) continue;
      reply.files.push_back({PartitionId(p), "p", Tenure(5), sent.to.value(), 10, 1, {}});
    }
    return reply;
  }
  void Poll() {
    runtime_.Advance(milliseconds(100));
    runtime_.Settle();
  }
  BackupPhase phase() const { return run_.Status().phase; }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  transport::RpcClient rpc_;
  protocol::Sender sender_{protocol::ClusterId(7), Incarnation()};
  ClusterState state_;
  std::map<std::string, Node> nodes_;
  EventLog events_;
  BackupRun run_;
  std::shared_ptr<FakeWriter> writer_ = std::make_shared<FakeWriter>();
};

TEST_F(BackupRunTest, AsksEachOwnerForItsOwnAndFinishesWhenAllIsThere) {
  EXPECT_EQ(phase(), BackupPhase::kNone);
  Start();
  const auto asked = endpoint_.Take<BackupRequest>();
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_EQ(asked[0].Body<BackupRequest>().dir, "/backup/images");
  EXPECT_EQ(asked[0].Body<BackupRequest>().cover, (std::vector<uint16_t>{0, 1}));
  EXPECT_EQ(asked[1].Body<BackupRequest>().cover, (std::vector<uint16_t>{2, 3}));
  Answer(asked[0], Ended(asked[0]));
  Poll();
  EXPECT_EQ(phase(), BackupPhase::kRunning);
  EXPECT_EQ(run_.Status().copied, 2u);
  EXPECT_EQ(run_.Status().bytes, 20u);
  EXPECT_EQ(run_.Start(writer_).error().code, ErrorCode::kConflict);
  Answer(asked[1], Ended(asked[1]));
  Poll();
  EXPECT_EQ(phase(), BackupPhase::kEnded);
  ASSERT_EQ(writer_->finished.size(), 1u);
  const BackupManifest& manifest = writer_->finished[0];
  EXPECT_EQ(manifest.cluster, sender_.cluster);
  ASSERT_EQ(manifest.files.size(), 4u);
  for (uint16_t p = 0; p < 4; ++p) EXPECT_EQ(manifest.files[p].partition, PartitionId(p));
  EXPECT_TRUE(AskedOf(Incarnation(3)).empty());
}

TEST_F(BackupRunTest, AsksAgainUntilTheRoundHasEnded) {
  Start();
  auto asked = AskedOf(Incarnation(3));
  const uint64_t round = asked[0].Body<BackupRequest>().round;
  BackupReply running;
  running.done = 1;
  running.bytes = 5;
  Answer(asked[0], running);
  EXPECT_EQ(run_.Status().copied, 1u);
  EXPECT_EQ(run_.Status().bytes, 5u);
  Poll();
  asked = AskedOf(Incarnation(3));
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].Body<BackupRequest>().round, round);
  // Lost answers, a process that stops or is not yet up: asked again.
  for (const ErrorCode code : {ErrorCode::kUnavailable, ErrorCode::kConflict}) {
    AnswerError(asked[0], code);
    Poll();
    asked = AskedOf(Incarnation(3));
    ASSERT_EQ(asked.size(), 1u);
  }
  runtime_.Advance(seconds(4));
  EXPECT_EQ(AskedOf(Incarnation(3)).back().Body<BackupRequest>().round, round);
}

TEST_F(BackupRunTest, AServerThatWasRestartedIsAskedForAllOfItsOwnAgain) {
  Start();
  const auto before = endpoint_.Take<BackupRequest>();
  BackupReply running;
  running.done = 1;
  Answer(before[1], running);
  Join("ps-1", Incarnation(9));
  Poll();
  const auto asked = AskedOf(Incarnation(9));
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].Body<BackupRequest>().cover, (std::vector<uint16_t>{2, 3}));
  EXPECT_NE(asked[0].Body<BackupRequest>().round, before[1].Body<BackupRequest>().round);
  EXPECT_EQ(run_.Status().copied, 0u);
  Answer(before[0], Ended(before[0]));
  Answer(asked[0], Ended(asked[0]));
  Poll();
  ASSERT_EQ(writer_->finished.size(), 1u);
  EXPECT_EQ(writer_->finished[0].files[2].version, 9u);
}

TEST_F(BackupRunTest, WhatMovedIsAskedOfItsNewOwnerWhenThatHasEndedItsRound) {
  Start();
  const auto asked = endpoint_.Take<BackupRequest>();
  Answer(asked[0], Ended(asked[0], {1}));  // it has left for ps-1
  state_.view.places[1].node = 1;
  Poll();
  EXPECT_TRUE(endpoint_.Take<BackupRequest>().empty());
  Answer(asked[1], Ended(asked[1]));
  Poll();
  EXPECT_EQ(phase(), BackupPhase::kRunning);
  const auto more = AskedOf(Incarnation(4));
  ASSERT_EQ(more.size(), 1u);
  EXPECT_EQ(more[0].Body<BackupRequest>().cover, (std::vector<uint16_t>{1}));
  Answer(more[0], Ended(more[0]));
  Poll();
  EXPECT_EQ(phase(), BackupPhase::kEnded);
}

TEST_F(BackupRunTest, AServerThatCannotWriteEndsItWithPathAndRemedy) {
  Start();
  const auto asked = endpoint_.Take<BackupRequest>();
  BackupReply failed;
  failed.state = BackupState::kFailed;
  failed.code = ErrorCode::kNotFound;
  failed.message = "cannot create /backup/images/x: No such file or directory";
  Answer(asked[1], failed);
  EXPECT_EQ(phase(), BackupPhase::kFailed);
  const base::Error error = run_.Status().error;
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_NE(error.message.find("ps-1: cannot create /backup/images/x"), std::string::npos);
  EXPECT_NE(error.message.find("share"), std::string::npos);
  Answer(asked[0], Ended(asked[0]));  // late
  Poll();
  EXPECT_TRUE(writer_->finished.empty());
  EXPECT_TRUE(run_.Start(writer_));  // another one may be tried
}

TEST_F(BackupRunTest, WithoutProgressItEndsAndSaysWhoIsMissing) {
  Start();
  const auto asked = endpoint_.Take<BackupRequest>();
  Answer(asked[0], Ended(asked[0]));
  for (int minute = 0; minute < 9; ++minute) runtime_.Advance(minutes(1));
  EXPECT_EQ(phase(), BackupPhase::kRunning);
  for (int minute = 0; minute < 2; ++minute) runtime_.Advance(minutes(1));
  EXPECT_EQ(phase(), BackupPhase::kFailed);
  EXPECT_EQ(run_.Status().error.code, ErrorCode::kTimeout);
  EXPECT_NE(run_.Status().error.message.find("2 partitions of ps-1"), std::string::npos)
      << run_.Status().error.message;
}

TEST_F(BackupRunTest, AnUnusableDirectoryAndAnUnplacedClusterAreRefused) {
  writer_->prepared = base::Fail(ErrorCode::kConflict, "not empty");
  Start();
  EXPECT_EQ(phase(), BackupPhase::kFailed);
  EXPECT_EQ(run_.Status().error.code, ErrorCode::kConflict);
  EXPECT_TRUE(endpoint_.sent.empty());
  state_.placed = false;
  EXPECT_EQ(run_.Start(writer_).error().code, ErrorCode::kUnavailable);
}

TEST_F(BackupRunTest, AManifestThatCannotBeWrittenFailsIt) {
  writer_->finish = base::Fail(ErrorCode::kIo, "disk");
  Start();
  for (const Sent& sent : endpoint_.Take<BackupRequest>()) Answer(sent, Ended(sent));
  Poll();
  EXPECT_EQ(phase(), BackupPhase::kFailed);
  EXPECT_EQ(run_.Status().error.message, "disk");
}

}  // namespace
}  // namespace freshet::master
