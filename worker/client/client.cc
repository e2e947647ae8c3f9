// SPDX-License-Identifier: Apache-2.0
#include "worker/client/client.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "transport/answer.h"
#include "transport/loop_thread.h"
#include "worker/batch_cutter.h"
#include "worker/client/client_core.h"
#include "worker/client/finite.h"
#include "worker/file_logs.h"
#include "worker/model/key_dedup.h"

namespace freshet::worker {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::LeaseEnd;
using std::chrono::seconds;

namespace {

// A session's call ends with its last attempt, some seconds after its deadline, and then knows why.
constexpr base::Duration kGrace = seconds(10);
constexpr base::Duration kLeaveDeadline = seconds(2);
// Of one table in one request; a frame of the wire is not longer.
constexpr uint64_t kMaxTableBytes = 32u << 20;

Result<> CheckTable(const TableHandle& table, size_t keys, size_t floats) {
  if (table.dim == 0 || table.id == protocol::kAuditTable) {
    return Fail(ErrorCode::kInvalidArgument, "a table that was not declared");
  }
  if (floats != keys * table.dim) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} keys of a table of dimension {} need {} floats, not {}", keys,
                            table.dim, keys * table.dim, floats));
  }
  if (keys * (table.dim * sizeof(float) + sizeof(protocol::Key)) > kMaxTableBytes) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} keys at once are too many: at most {} MiB a table and request",
                            keys, kMaxTableBytes >> 20));
  }
  return {};
}

// Each table once, with sizes that fit.
template <class Table>
Result<> CheckTables(const std::vector<Table>& tables, auto floats_of) {
  for (size_t t = 0; t < tables.size(); ++t) {
    const auto ok = CheckTable(tables[t].table, tables[t].keys.size(), floats_of(tables[t]));
    if (!ok) return ok;
    for (size_t other = 0; other < t; ++other) {
      if (tables[other].table.id == tables[t].table.id) {
        return Fail(ErrorCode::kInvalidArgument, "a table stands twice in one request");
      }
    }
  }
  return {};
}

}  // namespace

struct Client::Link {
  Link(const SessionOptions& options) : core(options, thread.runtime(), thread.endpoint()) {
    thread.endpoint().SetHandler(core);
  }
  ~Link() { thread.Stop(); }

  template <class T>
  using Waiting = std::shared_ptr<transport::Answer<Result<T>>>;

  // Runs `start` on the loop; its reply can be waited for.
  template <class T>
  Waiting<T> Begin(std::function<void(ClientCore&, ClientCore::Reply<T>)> start) {
    auto answer = std::make_shared<transport::Answer<Result<T>>>();
    const auto posted = thread.Post([this, answer, start = std::move(start)] {
      start(core, [answer](Result<T> result) { answer->Set(std::move(result)); });
    });
    if (!posted) answer->Set(tl::unexpected(posted.error()));
    return answer;
  }

  template <class T>
  Result<T> Ask(base::Duration limit,
                std::function<void(ClientCore&, ClientCore::Reply<T>)> start) {
    auto result = Begin<T>(std::move(start))->Wait(limit);
    if (!result) return Fail(ErrorCode::kTimeout, "no answer before the deadline");
    return std::move(*result);
  }

  transport::LoopThread thread;
  ClientCore core;
};

struct Client::Keys {
  KeyDedup dedup;
  KeyRouting routing;
  std::vector<float> values;  // [distinct keys][dim]

  void Assign(const TableHandle& table, std::span<const protocol::Key> keys, uint32_t partitions) {
    dedup.Assign(keys);
    routing.Build(table.id, dedup.distinct(), partitions);
    values.resize(dedup.distinct().size() * table.dim);
  }
};

// Shared with the loop, which may use it after the caller has given up waiting.
struct Client::Request {
  std::vector<Keys> tables;
};

struct Client::Reading {
  struct InHand {
    protocol::LogId log;
    protocol::Span span;
    std::shared_ptr<protocol::ValidationHistogram> predictions;
  };

  FileLogOpener opener;
  DeadLetterFiles dead;
  std::map<protocol::LogId, std::unique_ptr<stream::LogReader>> logs;
  std::optional<protocol::Lease> lease;
  protocol::Offset next = 0;  // of the lease: what was not yet handed out
  bool give_back = false;     // the rest of the lease
  std::optional<InHand> in_hand;
  Link::Waiting<std::optional<protocol::Lease>> asking;

  bool HasMore() const { return lease && !give_back && next < lease->span.end; }
};

Client::Client(ClientOptions options)
    : options_(std::move(options)), reading_(std::make_unique<Reading>()) {}

Client::~Client() {
  if (!link_ || partitions_ == 0) return;
  // What cannot be handed back in time is taken back by the master, a little later.
  (void)link_->Ask<void>(kLeaveDeadline, [](ClientCore& core, ClientCore::Reply<void> reply) {
    core.Leave(std::move(reply));
  });
}

Result<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  std::unique_ptr<Client> client(new Client(std::move(options)));
  if (auto ok = client->Register(); !ok) return tl::unexpected(ok.error());
  return client;
}

Result<> Client::Register() {
  SessionOptions session;
  session.name = options_.name;
  session.master = options_.master;
  session.pid = getpid();
  session.call_deadline = options_.deadline;
  link_ = std::make_unique<Link>(session);
  if (auto started = link_->thread.Start(); !started) return started;
  auto registered = link_->Ask<protocol::RegisterReply>(
      options_.connect_deadline,
      [](ClientCore& core, ClientCore::Reply<protocol::RegisterReply> reply) {
        core.Start(std::move(reply));
      });
  if (!registered) {
    if (registered.error().code != ErrorCode::kTimeout) return tl::unexpected(registered.error());
    return Fail(ErrorCode::kUnreachable,
                fmt::format("no answer from a master at {} within {} ms", options_.master,
                            options_.connect_deadline.count()));
  }
  name_ = registered->name;
  job_ = registered->job;
  partitions_ = registered->view.partitions();
  reading_->dead.Configure(job_.dead_letter_dir, registered->incarnation);
  return {};
}

Result<std::vector<TableHandle>> Client::DeclareTables(
    const std::vector<protocol::TableSchema>& schemas) {
  for (const protocol::TableSchema& schema : schemas) {
    if (auto ok = protocol::ValidateTable(schema); !ok) return tl::unexpected(ok.error());
  }
  using Ids = std::vector<protocol::TableId>;
  const auto ids =
      link_->Ask<Ids>(options_.deadline, [schemas](ClientCore& core, ClientCore::Reply<Ids> reply) {
        core.DeclareTables(schemas, std::move(reply));
      });
  if (!ids) return tl::unexpected(ids.error());
  std::vector<TableHandle> handles;
  for (size_t t = 0; t < schemas.size(); ++t) handles.push_back({(*ids)[t], schemas[t].dim});
  return handles;
}

Result<TableHandle> Client::DeclareTable(const protocol::TableSchema& schema) {
  auto handles = DeclareTables({schema});
  if (!handles) return tl::unexpected(handles.error());
  return handles->front();
}

std::shared_ptr<Client::Request> Client::TakeRequest(size_t tables) {
  // The last one keeps its memory for this one, unless the loop still has it.
  if (!spare_ || spare_.use_count() > 1) spare_ = std::make_shared<Request>();
  spare_->tables.resize(tables);
  return spare_;
}

Result<> Client::Pull(const std::vector<PullTable>& tables) {
  if (auto ok = CheckTables(tables, [](const PullTable& t) { return t.rows.size(); }); !ok) {
    return ok;
  }
  const auto request = TakeRequest(tables.size());
  std::vector<RoutedRows> rows;
  for (size_t t = 0; t < tables.size(); ++t) {
    Keys& keys = request->tables[t];
    keys.Assign(tables[t].table, tables[t].keys, partitions_);
    rows.push_back({&keys.routing, tables[t].table.dim, keys.values.data(), nullptr});
  }
  const auto pulled = link_->Ask<void>(
      options_.deadline + kGrace,
      [request, rows = std::move(rows)](ClientCore& core, ClientCore::Reply<void> reply) {
        core.Pull(rows, [request, reply = std::move(reply)](Result<> result) { reply(result); });
      });
  if (!pulled) return pulled;
  for (size_t t = 0; t < tables.size(); ++t) {
    const uint32_t dim = tables[t].table.dim;
    float* to = tables[t].rows.data();
    for (const uint32_t index : request->tables[t].dedup.indices()) {
      std::memcpy(to, &request->tables[t].values[size_t{index} * dim], dim * sizeof(float));
      to += dim;
    }
  }
  return {};
}

Result<std::vector<float>> Client::Pull(TableHandle table, std::span<const protocol::Key> keys) {
  std::vector<float> rows(keys.size() * table.dim);
  if (auto ok = Pull({{table, keys, rows}}); !ok) return tl::unexpected(ok.error());
  return rows;
}

Result<> Client::AwaitLease() {
  Reading& reading = *reading_;
  if (!reading.asking) {
    LeaseEnd how = LeaseEnd::kNone;
    if (reading.lease) how = reading.give_back ? LeaseEnd::kGivenBack : LeaseEnd::kFinished;
    using MaybeLease = std::optional<protocol::Lease>;
    reading.asking =
        link_->Begin<MaybeLease>([how](ClientCore& core, ClientCore::Reply<MaybeLease> reply) {
          core.NextLease(how, std::move(reply));
        });
    reading.lease.reset();
    reading.give_back = false;
  }
  auto got = reading.asking->Wait(options_.deadline);
  if (!got) {
    return Fail(ErrorCode::kTimeout, "no work before the deadline: others hold what is left");
  }
  reading.asking.reset();
  if (!*got) return tl::unexpected(got->error());
  reading.lease = std::move(**got);
  if (reading.lease) reading.next = reading.lease->span.begin;
  return {};
}

Result<> Client::ReadNext(Batch& batch) {
  Reading& reading = *reading_;
  const protocol::LogId log = reading.lease->log;
  const auto spec = std::find_if(job_.logs.begin(), job_.logs.end(),
                                 [log](const protocol::LogSpec& s) { return s.log == log; });
  if (spec == job_.logs.end()) {
    return Fail(ErrorCode::kNotFound, fmt::format("the job has no log {}", log.value()));
  }
  auto& reader = reading.logs[log];
  if (!reader) {
    auto opened = reading.opener.Open(*spec);
    if (!opened) return tl::unexpected(opened.error());
    reader = std::move(*opened);
  }
  batch.log = log;
  batch.span = worker::NextBatch(*reading.lease, reading.next, job_.batch_size);
  batch.purpose = spec->purpose;
  return reader->Read(batch.span, batch.records);
}

Result<std::optional<Client::Batch>> Client::NextBatch() {
  Reading& reading = *reading_;
  if (reading.in_hand) {
    return Fail(ErrorCode::kConflict,
                "the batch before was neither pushed nor given back: do that first");
  }
  while (!reading.HasMore()) {
    if (auto ok = AwaitLease(); !ok) return tl::unexpected(ok.error());
    if (!reading.lease) return std::nullopt;
  }
  std::optional<Batch> batch(std::in_place);
  if (auto ok = ReadNext(*batch); !ok) {
    reading.give_back = true;
    return tl::unexpected(ok.error());
  }
  reading.next = batch->span.end;
  reading.in_hand = {batch->log, batch->span, nullptr};
  return batch;
}

Result<> Client::CheckInHand(const Batch& batch) const {
  const auto& in_hand = reading_->in_hand;
  if (in_hand && in_hand->log == batch.log && in_hand->span == batch.span) return {};
  return Fail(ErrorCode::kConflict,
              "this batch is not in hand: it was pushed or given back before");
}

void Client::Settle(bool give_back) {
  reading_->in_hand.reset();
  reading_->give_back = reading_->give_back || give_back;
}

Result<PushResult> Client::Push(const Batch& batch, const std::vector<PushTable>& tables) {
  if (auto ok = CheckInHand(batch); !ok) return tl::unexpected(ok.error());
  if (batch.purpose != protocol::LogPurpose::kTrain) {
    return Fail(ErrorCode::kInvalidArgument,
                "a batch to evaluate is not pushed: report predictions");
  }
  if (auto ok = CheckTables(tables, [](const PushTable& t) { return t.gradients.size(); }); !ok) {
    return tl::unexpected(ok.error());
  }
  const auto request = TakeRequest(tables.size());
  Session::PushCall push{batch.log, batch.span, {}, {}};
  for (const stream::DeadRecord& record : batch.records.dead) push.dead.push_back(record.offset);
  for (size_t t = 0; t < tables.size(); ++t) {
    Keys& keys = request->tables[t];
    const uint32_t dim = tables[t].table.dim;
    keys.Assign(tables[t].table, tables[t].keys, partitions_);
    std::fill(keys.values.begin(), keys.values.end(), 0.0f);
    const float* from = tables[t].gradients.data();
    for (const uint32_t index : keys.dedup.indices()) {
      float* to = &keys.values[size_t{index} * dim];
      for (uint32_t d = 0; d < dim; ++d) to[d] += from[d];
      from += dim;
    }
    if (!AllFinite(keys.values)) {
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("a gradient of table {} is not a finite number; nothing was pushed",
                              tables[t].table.id.value()));
    }
    push.rows.push_back({&keys.routing, dim, nullptr, keys.values.data()});
  }
  if (!push.dead.empty()) {
    // Before the push: a process that dies between the two leaves a line too many, never one too few.
    const auto spec = std::find_if(job_.logs.begin(), job_.logs.end(),
                                   [&](const auto& s) { return s.log == batch.log; });
    reading_->dead.Add(*spec, batch.records.dead);
  }
  const auto pushed = link_->Ask<PushResult>(
      options_.deadline + kGrace,
      [request, push = std::move(push), predictions = reading_->in_hand->predictions](
          ClientCore& core, ClientCore::Reply<PushResult> reply) {
        core.Push(push, predictions,
                  [request, reply = std::move(reply)](Result<PushResult> r) { reply(r); });
      });
  Settle(!pushed || *pushed == PushResult::kConflict);
  return pushed;
}

Result<> Client::ReportPredictions(const Batch& batch, std::span<const float> logits) {
  if (auto ok = CheckInHand(batch); !ok) return ok;
  if (logits.size() != batch.records.rows) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} records have {} predictions", batch.records.rows, logits.size()));
  }
  auto predictions = std::make_shared<protocol::ValidationHistogram>();
  for (size_t i = 0; i < logits.size(); ++i) predictions->Add(logits[i], batch.records.labels[i]);
  if (batch.purpose == protocol::LogPurpose::kTrain) {
    reading_->in_hand->predictions = std::move(predictions);
    return {};
  }
  Settle(false);
  return link_->thread.Post(
      [core = &link_->core, log = batch.log, span = batch.span,
       predictions = std::move(predictions)] { core->AddEvaluation(log, span, *predictions); });
}

Result<> Client::GiveBack(const Batch& batch) {
  if (auto ok = CheckInHand(batch); !ok) return ok;
  Settle(true);
  return {};
}

}  // namespace freshet::worker
