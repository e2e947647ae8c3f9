// SPDX-License-Identifier: Apache-2.0
#include "ps/data_service.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "protocol/audit.h"
#include "tests/ps/store_fixture.h"

namespace freshet::ps {
namespace {

using base::ErrorCode;
using protocol::Buffer;
using protocol::Key;
using protocol::LogId;
using protocol::Packet;
using protocol::PartitionStatus;
using protocol::PullRequest;
using protocol::PushRequest;
using protocol::Span;
using protocol::TableId;
using Statuses = std::vector<PartitionStatus>;

constexpr uint32_t kPartitions = 8;
constexpr uint32_t kDim = 4;
constexpr TableId kRows{1};
constexpr TableId kDense{2};
constexpr LogId kLog{3};

template <class T>
Buffer Frame(const std::vector<T>& values) {
  return Buffer::Copy(std::as_bytes(std::span<const T>(values)));
}

// A request as it comes from the wire; a test may spoil any part of it.
template <class Body>
struct Request {
  Body body;
  Packet packet;
};

// Two sparse keys per partition of `cover`, and one row of the dense table for its first partition.
struct Keys {
  std::vector<Key> sparse;
  std::vector<uint32_t> sparse_counts;
  std::vector<Key> dense;
  std::vector<uint32_t> dense_counts;
};

Key NthKeyOf(TableId table, uint16_t partition, uint32_t n) {
  for (Key key = 0;; ++key) {
    if (protocol::PartitionOf(table, key, kPartitions).value() == partition && n-- == 0) return key;
  }
}

Keys KeysOf(const std::vector<uint16_t>& cover) {
  Keys keys;
  for (const uint16_t p : cover) {
    keys.sparse.push_back(NthKeyOf(kRows, p, 0));
    keys.sparse.push_back(NthKeyOf(kRows, p, 1));
    keys.sparse_counts.push_back(2);
    keys.dense_counts.push_back(p == cover.front() ? 1 : 0);
  }
  keys.dense.push_back(0);
  return keys;
}

Request<PushRequest> Push(Span span, std::vector<uint16_t> cover) {
  const Keys keys = KeysOf(cover);
  Request<PushRequest> push;
  push.body = {kLog,
               span,
               std::move(cover),
               {{kRows, static_cast<uint32_t>(keys.sparse.size())}, {kDense, 1}}};
  push.packet.frames = {Buffer(),
                        Buffer(),
                        Frame(keys.sparse_counts),
                        Frame(keys.sparse),
                        Frame(std::vector<float>(keys.sparse.size() * kDim, 1.0f)),
                        Frame(keys.dense_counts),
                        Frame(keys.dense),
                        Frame(std::vector<float>(kDim, 1.0f))};
  return push;
}

Request<PullRequest> Pull(std::vector<uint16_t> cover) {
  const Keys keys = KeysOf(cover);
  Request<PullRequest> pull;
  pull.body = {std::move(cover), {{kRows, static_cast<uint32_t>(keys.sparse.size())}}};
  pull.packet.frames = {Buffer(), Buffer(), Frame(keys.sparse_counts), Frame(keys.sparse)};
  return pull;
}

class DataServiceTest : public ::testing::Test {
 protected:
  explicit DataServiceTest(uint64_t memory_bytes = uint64_t{1} << 30)
      : arena_({.limit_bytes = memory_bytes}) {
    EXPECT_TRUE(tables_.Add({protocol::kAuditTable, protocol::AuditTableSchema()}));
    auto sparse = MakeTable(1, kDim, protocol::OptimizerKind::kSgd);
    sparse.schema.optimizer.learning_rate = 1.0f;
    EXPECT_TRUE(tables_.Add(sparse));
    auto dense = MakeTable(2, kDim, protocol::OptimizerKind::kSgd);
    dense.schema.kind = protocol::TableKind::kDense;
    dense.schema.dense_rows = 3;
    EXPECT_TRUE(tables_.Add(dense));
    slots_.resize(kPartitions);
    for (uint16_t p = 0; p < kPartitions; ++p) Serve(p);
  }

  void Serve(uint16_t p) {
    slots_[p] = Slot();
    slots_[p].state = SlotState::kServing;
    slots_[p].tenure = protocol::Tenure(1);
    slots_[p].partition = std::make_unique<Partition>(protocol::PartitionId(p), tables_, arena_);
  }

  Statuses Send(const Request<PushRequest>& push) {
    const auto reply = data_.OnPush(push.body, push.packet);
    EXPECT_TRUE(reply.has_value()) << reply.error().message;
    return reply ? Named(reply->statuses) : Statuses();
  }
  static Statuses Named(const std::vector<uint8_t>& codes) {
    Statuses statuses;
    for (const uint8_t code : codes) statuses.push_back(static_cast<PartitionStatus>(code));
    return statuses;
  }
  const protocol::SpanSet& Applied(uint16_t p) { return slots_[p].partition->applied().Of(kLog); }

  // Everything that a push could have changed.
  std::string State() {
    std::string state;
    for (uint16_t p = 0; p < kPartitions; ++p) {
      if (!slots_[p].serving()) continue;
      const Partition& partition = *slots_[p].partition;
      state += fmt::format("{}: version {} rows {} applied {}", p, partition.version(),
                           partition.rows(), partition.applied().logs().size());
      for (const auto& log : partition.applied().logs()) state += log.set.ToString();
      for (const TableId table : {kRows, kDense}) {
        partition.ForEachRow(table, [&state](Key key, std::span<const float> weights) {
          state +=
              fmt::format(" {}:{}", key, std::accumulate(weights.begin(), weights.end(), 0.0f));
        });
      }
      state += '\n';
    }
    return state;
  }

  RowArena arena_;
  TableSet tables_;
  Slots slots_;
  DataService data_{slots_, tables_};
};

TEST_F(DataServiceTest, EveryRowOfTheTableOfAnswersToAPush) {
  ASSERT_EQ(Send(Push({100, 200}, {0, 1, 2, 3, 4, 5})), Statuses(6, PartitionStatus::kOk));
  slots_[0] = Slot();                     // not ours
  slots_[1].state = SlotState::kLoading;  // ours, still being read
  slots_[2].frozen = true;
  ASSERT_EQ(Send(Push({200, 300}, {3})), Statuses{PartitionStatus::kOk});

  // 3 has all of it, 4 a part of it, 6 nothing; 5 and 7 are not asked.
  const auto before_5 = Applied(5);
  EXPECT_EQ(Send(Push({150, 250}, {0, 1, 2, 3, 4, 6})),
            (Statuses{PartitionStatus::kNotOwner, PartitionStatus::kRetry, PartitionStatus::kRetry,
                      PartitionStatus::kAlreadyApplied, PartitionStatus::kSpanConflict,
                      PartitionStatus::kOk}));
  EXPECT_TRUE(slots_[1].wanted);
  EXPECT_EQ(Applied(2), (protocol::SpanSet{{100, 200}}));
  EXPECT_EQ(Applied(3), (protocol::SpanSet{{100, 300}}));
  EXPECT_EQ(Applied(4), (protocol::SpanSet{{100, 200}}));
  EXPECT_EQ(Applied(5), before_5);
  EXPECT_EQ(Applied(6), (protocol::SpanSet{{150, 250}}));
  EXPECT_TRUE(Applied(7).empty());
}

TEST_F(DataServiceTest, APartitionIsFrozenForPushesOnly) {
  slots_[2].migration = protocol::MigrationId(9);
  const auto pull = Pull({2, 3});
  const auto pulled = data_.OnPull(pull.body, pull.packet);
  ASSERT_TRUE(pulled.has_value());
  EXPECT_EQ(Named(pulled->reply.statuses), Statuses(2, PartitionStatus::kOk));
}

TEST_F(DataServiceTest, ARepeatedPushChangesNothingAgain) {
  const auto push = Push({0, 64}, {0, 1, 2, 3, 4, 5, 6, 7});
  ASSERT_EQ(Send(push), Statuses(8, PartitionStatus::kOk));
  const std::string once = State();
  EXPECT_EQ(Send(push), Statuses(8, PartitionStatus::kAlreadyApplied));
  EXPECT_EQ(State(), once);
}

TEST_F(DataServiceTest, ACoveredPartitionWithoutRowsHasTheSpanAsWell) {
  Request<PushRequest> push;
  push.body = {kLog, {0, 10}, {1, 5}, {}};
  push.packet.frames = {Buffer(), Buffer()};
  EXPECT_EQ(Send(push), Statuses(2, PartitionStatus::kOk));
  EXPECT_EQ(Applied(5), (protocol::SpanSet{{0, 10}}));
}

TEST_F(DataServiceTest, RowsOfPartitionsThatAreNotOursAreZeroInAPull) {
  ASSERT_EQ(Send(Push({0, 1}, {1, 2})), Statuses(2, PartitionStatus::kOk));
  slots_[1] = Slot();
  const auto pull = Pull({1, 2});
  const auto pulled = data_.OnPull(pull.body, pull.packet);
  ASSERT_TRUE(pulled.has_value());
  EXPECT_EQ(Named(pulled->reply.statuses),
            (Statuses{PartitionStatus::kNotOwner, PartitionStatus::kOk}));
  const auto values = pulled->values[0].As<float>();
  ASSERT_EQ(values.size(), 4 * kDim);
  for (uint32_t i = 0; i < 2 * kDim; ++i) EXPECT_EQ(values[i], 0.0f);
  std::vector<float> initial(kDim);
  tables_.Find(kRows)->init.Fill(NthKeyOf(kRows, 2, 0), initial.data());
  for (uint32_t i = 0; i < kDim; ++i) EXPECT_EQ(values[2 * kDim + i], initial[i] - 1.0f);
}

TEST_F(DataServiceTest, ATableThatIsNotKnownYetChangesNothing) {
  auto push = Push({0, 10}, {0, 1});
  push.body.tables[1].table = TableId(77);
  const std::string before = State();
  EXPECT_EQ(Send(push), Statuses(2, PartitionStatus::kUnknownTable));
  EXPECT_EQ(State(), before);
  auto pull = Pull({0, 1});
  pull.body.tables[0].table = TableId(77);
  const auto pulled = data_.OnPull(pull.body, pull.packet);
  ASSERT_TRUE(pulled.has_value());
  EXPECT_EQ(Named(pulled->reply.statuses), Statuses(2, PartitionStatus::kUnknownTable));
}

TEST_F(DataServiceTest, AMalformedPushChangesNothing) {
  using Spoil = std::function<void(Request<PushRequest>&)>;
  const auto counts = [](std::vector<uint32_t> values) {
    return Spoil([values](auto& push) { push.packet.frames[2] = Frame(values); });
  };
  const std::vector<std::pair<const char*, Spoil>> cases = {
      {"no cover", [](auto& push) { push.body.cover.clear(); }},
      {"cover out of order",
       [](auto& push) {
         push.body.cover = {1, 0};
       }},
      {"a partition twice",
       [](auto& push) {
         push.body.cover = {1, 1};
       }},
      {"no such partition",
       [](auto& push) {
         push.body.cover = {0, kPartitions};
       }},
      {"another cover than its counts", [](auto& push) { push.body.cover = {0}; }},
      {"empty span",
       [](auto& push) {
         push.body.span = {5, 5};
       }},
      {"span from end to begin",
       [](auto& push) {
         push.body.span = {9, 5};
       }},
      {"span of everything",
       [](auto& push) {
         push.body.span = {0, UINT64_MAX};
       }},
      {"span beyond all offsets",
       [](auto& push) {
         push.body.span = {UINT64_MAX - 10, UINT64_MAX};
       }},
      {"a log that cannot be reported", [](auto& push) { push.body.log = LogId(5000); }},
      {"no frames", [](auto& push) { push.packet.frames.resize(2); }},
      {"a frame is missing", [](auto& push) { push.packet.frames.pop_back(); }},
      {"a frame too many", [](auto& push) { push.packet.frames.emplace_back(); }},
      {"counts that add up to less", counts({2, 1})},
      {"counts that add up to more", counts({2, 3})},
      {"counts that add up modulo 2^32", counts({UINT32_MAX, 5})},
      {"counts of another size", counts({4})},
      {"keys of another size",
       [](auto& push) {
         push.packet.frames[3] = Frame(std::vector<Key>{1, 2, 3});
       }},
      {"keys cut in a key",
       [](auto& push) { push.packet.frames[3] = Frame(std::vector<uint8_t>(31)); }},
      {"gradients of another size",
       [](auto& push) { push.packet.frames[4] = Frame(std::vector<float>(4 * kDim - 1)); }},
      {"more rows than keys", [](auto& push) { push.body.tables[0].rows = UINT32_MAX; }},
      {"a table twice", [](auto& push) { push.body.tables[1].table = kRows; }},
      {"a row that its tensor does not have",
       [](auto& push) { push.packet.frames[6] = Frame(std::vector<Key>{3}); }},
  };
  ASSERT_EQ(Send(Push({0, 10}, {0, 1})), Statuses(2, PartitionStatus::kOk));
  const std::string before = State();
  for (const auto& [what, spoil] : cases) {
    auto push = Push({10, 20}, {0, 1});
    spoil(push);
    const auto reply = data_.OnPush(push.body, push.packet);
    ASSERT_FALSE(reply.has_value()) << what;
    EXPECT_EQ(reply.error().code, ErrorCode::kInvalidArgument) << what;
    ASSERT_EQ(State(), before) << what;
  }
  EXPECT_EQ(Send(Push({10, 20}, {0, 1})), Statuses(2, PartitionStatus::kOk));
}

TEST_F(DataServiceTest, AMalformedPullIsRefused) {
  using Spoil = std::function<void(Request<PullRequest>&)>;
  const std::vector<std::pair<const char*, Spoil>> cases = {
      {"no cover", [](auto& pull) { pull.body.cover.clear(); }},
      {"cover out of order",
       [](auto& pull) {
         pull.body.cover = {1, 0};
       }},
      {"no such partition",
       [](auto& pull) {
         pull.body.cover = {0, 60000};
       }},
      {"a frame is missing", [](auto& pull) { pull.packet.frames.pop_back(); }},
      {"gradients in a pull", [](auto& pull) { pull.packet.frames.emplace_back(); }},
      {"counts that add up to more",
       [](auto& pull) {
         pull.packet.frames[2] = Frame(std::vector<uint32_t>{2, 3});
       }},
      {"keys of another size",
       [](auto& pull) { pull.packet.frames[3] = Frame(std::vector<Key>{1}); }},
  };
  for (const auto& [what, spoil] : cases) {
    auto pull = Pull({0, 1});
    spoil(pull);
    const auto reply = data_.OnPull(pull.body, pull.packet);
    ASSERT_FALSE(reply.has_value()) << what;
    EXPECT_EQ(reply.error().code, ErrorCode::kInvalidArgument) << what;
  }
}

TEST_F(DataServiceTest, APullWhoseReplyNoFrameCouldHoldIsRefused) {
  auto wide = MakeTable(3, protocol::kMaxDim, protocol::OptimizerKind::kSgd);
  ASSERT_TRUE(tables_.Add(wide));
  constexpr uint32_t kRowBytes = protocol::kMaxDim * sizeof(float);
  constexpr uint32_t kMost = (64u << 20) / kRowBytes;
  for (const uint32_t rows : {kMost, kMost + 1}) {
    PullRequest request{{0}, {{TableId(3), rows}}};
    Packet packet;
    packet.frames = {Buffer(), Buffer(), Frame(std::vector<uint32_t>{rows}),
                     Frame(std::vector<Key>(rows, 1))};
    EXPECT_EQ(data_.OnPull(request, packet).has_value(), rows == kMost);
  }
}

TEST_F(DataServiceTest, AnAppliedSetDoesNotGrowWithoutEnd) {
  const auto push = [&](Span span) {
    Request<PushRequest> request;
    request.body = {kLog, span, {4}, {}};
    request.packet.frames = {Buffer(), Buffer()};
    return Send(request).front();
  };
  // Every other offset: nothing merges.
  for (uint64_t i = 0; i < 65'535; ++i)
    slots_[4].partition->RecordApplied(kLog, {2 * i, 2 * i + 1});
  EXPECT_EQ(push({1'000'000, 1'000'001}), PartitionStatus::kOk);
  EXPECT_EQ(push({2'000'000, 2'000'001}), PartitionStatus::kOutOfMemory);
  EXPECT_EQ(Applied(4).spans().size(), 65'536u);
  // What fills a gap or goes on at an edge makes no more of them.
  EXPECT_EQ(push({1, 2}), PartitionStatus::kOk);
  EXPECT_EQ(Applied(4).spans().size(), 65'535u);
}

class FullDataServiceTest : public DataServiceTest {
 protected:
  FullDataServiceTest() : DataServiceTest(8 << 10) {}
};

TEST_F(FullDataServiceTest, WithoutMemoryForAllRowsNothingIsApplied) {
  ASSERT_EQ(Send(Push({0, 10}, {0})), Statuses{PartitionStatus::kOk});
  const std::string before = State();
  const std::vector<uint16_t> all = {0, 1, 2, 3, 4, 5, 6, 7};
  Statuses expected(8, PartitionStatus::kOutOfMemory);
  expected[0] = PartitionStatus::kAlreadyApplied;
  EXPECT_EQ(Send(Push({0, 10}, all)), expected);
  EXPECT_EQ(State(), before);
  // Rows that are there go on learning.
  EXPECT_EQ(Send(Push({10, 20}, {0})), Statuses{PartitionStatus::kOk});
}

}  // namespace
}  // namespace freshet::ps
