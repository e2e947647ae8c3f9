// SPDX-License-Identifier: Apache-2.0
// PlanTest: a master with fake servers, for tests of plans.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "master/master_node.h"
#include "tests/base/fake_runtime.h"
#include "tests/transport/fake_endpoint.h"

namespace freshet::master {

using base::ErrorCode;
using protocol::Incarnation;
using protocol::LogId;
using protocol::MoveReport;
using protocol::MoveState;
using protocol::PartitionId;
using protocol::Place;
using protocol::RequestId;
using protocol::Role;
using std::chrono::milliseconds;
using std::chrono::seconds;
using transport::FakeEndpoint;
using transport::PeerId;

inline constexpr uint16_t kPartitions = 8;
inline constexpr LogId kLog{0};

class MemoryStateStore final : public StateStore {
 public:
  std::optional<protocol::Buffer> state;
  base::Result<std::optional<protocol::Buffer>> Load() override { return state; }
  base::Result<> Save(const protocol::Buffer& bytes) override {
    ++saves;
    state = bytes;
    return {};
  }
  int saves = 0;
};

class FixedProbe final : public LogProbe {
 public:
  base::Result<protocol::Offset> SyncedEnd(const protocol::LogSpec&) override { return 1000; }
};

class FakeLauncher final : public Launcher {
 public:
  std::set<std::string> running;
  std::map<std::string, NodeSpec> specs;
  std::vector<std::string> stopped;
  base::Result<int64_t> Start(const NodeSpec& spec) override {
    running.insert(spec.name);
    specs.insert_or_assign(spec.name, spec);
    return ++pids;
  }
  std::optional<int64_t> Adopt(const NodeSpec& spec) override {
    return running.contains(spec.name) ? std::optional(++pids) : std::nullopt;
  }
  void Stop(const std::string& name, StopMode) override { stopped.push_back(name); }
  bool manages_processes() const override { return true; }
  int64_t pids = 0;
};

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() { StartMaster(); }

  void StartMaster() {
    MasterOptions options;
    options.partitions = kPartitions;
    options.ps = 2;
    options.plans.max_ps = 4;
    options.auto_balance = true;
    options.job.logs = {{kLog, "train", "clicks.tsv", "criteo", 1, protocol::LogPurpose::kTrain}};
    node_ = std::make_unique<MasterNode>(options, runtime_.runtime(), endpoint_, store_, launcher_,
                                         probe_, [](int, const std::string&) {});
    node_->Start();
    runtime_.Settle();
  }
  void Join(uint16_t number) {
    const PeerId peer(100 + number);
    const std::string name = "ps-" + std::to_string(number);
    const auto known = node_->nodes().find(name);
    const int64_t pid = known == node_->nodes().end() ? 1 : known->second.pid;
    node_->OnPacket(peer, protocol::EncodePacket(
                              {}, RequestId(++request_),
                              protocol::RegisterRequest{Role::kPs, name, "tcp://x:1",
                                                        uint64_t{1000} + (++process_), pid}));
    const auto replies = endpoint_.Take<protocol::RegisterReply>();
    ASSERT_FALSE(replies.empty());
    const auto reply = replies.back().Body<protocol::RegisterReply>();
    cluster_ = reply.cluster;
    incarnations_[number] = reply.incarnation;
  }
  // A worker that came by itself; the name it is known by.
  std::string JoinWorker(uint16_t number) {
    return JoinWorker(number, "guest-" + std::to_string(number));
  }
  std::string JoinWorker(uint16_t number, const std::string& name) {
    node_->OnPacket(PeerId(200 + number),
                    protocol::EncodePacket(
                        {}, RequestId(++request_),
                        protocol::RegisterRequest{Role::kWorker, name, "", uint64_t{5000} + number,
                                                  int64_t{1} + number}));
    const auto replies = endpoint_.Take<protocol::RegisterReply>();
    if (replies.empty()) return "";
    const auto reply = replies.back().Body<protocol::RegisterReply>();
    incarnations_[200 + number] = reply.incarnation;
    return reply.name;
  }
  // True if the answer asks it to leave.
  bool WorkerSpeaks(uint16_t number) { return WorkerHears(number) == ErrorCode::kUnavailable; }
  // The error that its heartbeat is answered with, if any.
  std::optional<ErrorCode> WorkerHears(uint16_t number) {
    endpoint_.sent.clear();
    node_->OnPacket(PeerId(200 + number),
                    protocol::EncodePacket({cluster_, incarnations_[200 + number]},
                                           RequestId(++request_), protocol::WorkerHeartbeat()));
    const auto errors = endpoint_.Take<protocol::ErrorReply>();
    if (errors.empty()) return std::nullopt;
    return errors.back().Body<protocol::ErrorReply>().code;
  }
  void JoinBoth() {
    Join(0);
    Join(1);
    ASSERT_EQ(node_->view().places[0].tenure.value(), 1u);
  }
  // Of partitions of 100 bytes each.
  void SayMemory(uint16_t number, uint64_t used, uint64_t limit) {
    protocol::PsHeartbeat heartbeat;
    heartbeat.view = node_->view().number;
    heartbeat.applied.emplace_back();
    heartbeat.durable.emplace_back();
    const auto index = node_->view().FindNode("ps-" + std::to_string(number));
    for (uint16_t p = 0; p < kPartitions; ++p) {
      const Place& place = node_->view().places[p];
      if (!index || place.node != *index) continue;
      heartbeat.partitions.push_back({PartitionId(p), place.tenure, 0, 0, 100, 0});
    }
    heartbeat.stats.memory_bytes = used;
    heartbeat.stats.memory_limit_bytes = limit;
    node_->OnPacket(PeerId(100 + number), protocol::EncodePacket({cluster_, incarnations_[number]},
                                                                 RequestId(++request_), heartbeat));
  }
  void Tick() { runtime_.Advance(milliseconds(150)); }
  uint64_t Plan(const PlanRequest& request) {
    const auto id = node_->AddPlan(request);
    EXPECT_TRUE(id) << (id ? "" : id.error().message);
    Tick();
    return id ? *id : 0;
  }
  const PlanRecord& Record(uint64_t id) {
    return *std::find_if(node_->plans().begin(), node_->plans().end(),
                         [id](const PlanRecord& plan) { return plan.id == id; });
  }
  size_t Owned(uint16_t number) {
    const auto index = node_->view().FindNode("ps-" + std::to_string(number));
    const auto& places = node_->view().places;
    return static_cast<size_t>(std::count_if(
        places.begin(), places.end(), [&](const Place& p) { return index && p.node == *index; }));
  }
  std::vector<uint16_t> Moving() {
    std::vector<uint16_t> moving;
    for (uint16_t p = 0; p < kPartitions; ++p) {
      if (node_->view().places[p].migration.value() != 0) moving.push_back(p);
    }
    return moving;
  }
  uint16_t NumberOf(uint16_t index) {
    return static_cast<uint16_t>(std::stoi(node_->view().nodes[index].name.substr(3)));
  }
  MoveReport ReportOf(uint16_t partition, MoveState state) {
    const Place& place = node_->view().places[partition];
    MoveReport report;
    report.partition = PartitionId(partition);
    report.migration = place.migration;
    report.tenure = place.tenure;
    report.state = state;
    report.applied.Mutable(kLog).Add({0, 10});
    return report;
  }
  void Send(uint16_t number, const MoveReport& report) { SendAtOnce(number, {report}); }
  void SendAtOnce(uint16_t number, const std::vector<MoveReport>& reports) {
    for (const MoveReport& report : reports) {
      node_->OnPacket(
          PeerId(100 + number),
          protocol::EncodePacket({cluster_, incarnations_[number]}, RequestId(++request_), report));
    }
    runtime_.Settle();
  }
  // Every target says PREPARED, until nothing moves any more.
  void FinishMoves() {
    for (int round = 0; round < 100; ++round) {
      const auto moving = Moving();
      if (moving.empty()) break;
      for (const uint16_t p : moving) {
        Send(NumberOf(node_->view().places[p].target), ReportOf(p, MoveState::kPrepared));
      }
      Tick();
    }
  }
  void Exited(const std::string& name) {
    launcher_.running.erase(name);
    node_->OnNodeExit({name, node_->nodes().at(name).pid, "exit 0", 0});
    Tick();
  }

  base::FakeRuntime runtime_;
  FakeEndpoint endpoint_;
  MemoryStateStore store_;
  FakeLauncher launcher_;
  FixedProbe probe_;
  std::unique_ptr<MasterNode> node_;
  protocol::ClusterId cluster_;
  std::map<uint16_t, Incarnation> incarnations_;
  uint64_t request_ = 0;
  uint64_t process_ = 0;
};

}  // namespace freshet::master
