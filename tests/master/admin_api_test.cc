// SPDX-License-Identifier: Apache-2.0
#include "master/admin_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/master/master_node_fixture.h"

namespace freshet::master {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class AdminApiTest : public MasterNodeTest {
 protected:
  AdminResponse Ask(const std::string& method, const std::string& path,
                    const std::string& body = "") {
    AdminApi api(*node_, "/nowhere", [] {});
    AdminResponse response;
    api.Handle({.method = method, .path = path, .body = body},
               [&](AdminResponse answer) { response = std::move(answer); });
    return response;
  }
};

TEST_F(AdminApiTest, NoBodyOfARequestForAPlanHarmsTheMaster) {
  StartTraining();
  const std::string deep(400'000, '[');
  for (const std::string& body :
       {std::string(R"({"kind":"rebalance","dry_run":"yes"})"),
        std::string(R"({"kind":"scale","ps":)") + deep,
        std::string(R"({"kind":"scale","ps":)") + deep + std::string(deep.size(), ']') + "}",
        std::string(R"({"kind":"scale","ps":-1})"), std::string(R"({"kind":"scale","ps":1e9})"),
        std::string(R"({"kind":7})"), std::string("[]"), std::string("\xff"), std::string()}) {
    EXPECT_EQ(Ask("POST", "/v1/plans", body).status, 400) << body.substr(0, 60);
  }
  for (const char* body : {"{}", R"({"id":"1"})", "7"}) {
    EXPECT_EQ(Ask("POST", "/v1/plans/cancel", body).status, 400) << body;
  }
  EXPECT_TRUE(node_->plans().empty());
}

TEST_F(AdminApiTest, WhatWasNotPredictedYetHasNoFigures) {
  StartTraining();
  const auto job = json::parse(Ask("GET", "/v1/status").body)["job"];
  for (const char* figure : {"auc", "logloss", "window_auc", "window_logloss"}) {
    EXPECT_TRUE(job[figure].is_null()) << figure;
  }
}

TEST_F(AdminApiTest, MetricsAreWhatTheMasterKnows) {
  StartTraining();
  Report({0, 40}, 30, CurrentTenure());
  runtime_.Advance(milliseconds(1100));
  const AdminResponse page = Ask("GET", "/v1/metrics");
  EXPECT_THAT(page.content_type, HasSubstr("text/plain"));
  for (const char* line : {"freshet_log_done_records{job=\"\",log=\"train\"} 40\n",
                           "freshet_log_durable_records{job=\"\",log=\"train\"} 30\n",
                           "freshet_node_up{job=\"\",node=\"ps-0\",role=\"ps\"} 1\n",
                           "# TYPE freshet_ps_refused_for_memory_total counter\n",
                           "freshet_plans{job=\"\",state=\"failed\"} 0\n"}) {
    EXPECT_THAT(page.body, HasSubstr(line));
  }
}

TEST_F(AdminApiTest, EventsOfTheNextMasterHaveHigherNumbers) {
  StartTraining();
  const auto last = [&] {
    return json::parse(Ask("GET", "/v1/events").body)["events"].back()["seq"].get<uint64_t>();
  };
  const uint64_t before = last();
  StartMaster();
  EXPECT_GT(last(), before);
}

TEST_F(AdminApiTest, AnAuditDuringAMoveIsAskedAgainBeforeItIsGivenUp) {
  StartTraining();
  AdminApi api(*node_, "/nowhere", [] {});
  std::vector<AdminResponse> responses;
  api.Handle({.method = "POST", .path = "/v1/verify"},
             [&](AdminResponse answer) { responses.push_back(std::move(answer)); });
  const auto answer_without = [&](size_t missing) {
    const auto ask = endpoint_.TakeOne<protocol::AuditRequest>();
    protocol::AuditReply reply;
    for (uint16_t p = 0; p + missing < kPartitions; ++p) {
      reply.partitions.push_back({PartitionId(p), CurrentTenure(), {}, {}, {}});
    }
    node_->OnPacket(kPs, protocol::EncodePacket({cluster_, ps_}, ask.envelope.request, reply));
  };
  answer_without(1);
  EXPECT_TRUE(responses.empty());
  runtime_.Advance(milliseconds(200));
  answer_without(0);
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].status, 200);
}

TEST_F(AdminApiTest, AChangedSchemaIsAnotherJob) {
  StartTraining();
  options_.job.logs[0].features = 77;
  StartMaster();
  EXPECT_EQ(exit_code_, base::ExitCodeFor(ErrorCode::kConflict));
}

TEST_F(AdminApiTest, AStateOfAnotherFormatIsNamed) {
  StartTraining();
  auto state = *DecodeClusterState(*store_.state, "it");
  state.format = 1;
  const auto decoded = DecodeClusterState(protocol::EncodeStruct(state), "the state");
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kConflict);
  EXPECT_THAT(decoded.error().message, HasSubstr("the state is of format 1"));
}

}  // namespace
}  // namespace freshet::master
