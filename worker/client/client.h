// SPDX-License-Identifier: Apache-2.0
// Client: train your own model with a freshet cluster. It pulls rows, pushes gradients, and deals out the
// batches of the job's logs so that every record counts exactly once, whatever crashes. A whole training
// loop (examples/custom_training.cc is a program around it):
//
//   auto client = Client::Connect({.master = "tcp://127.0.0.1:7000"});
//   if (!client) return Report(client.error());
//   TableSchema schema{.name = "weights", .dim = 1, .optimizer = {.kind = OptimizerKind::kAdagrad}};
//   auto weights = (*client)->DeclareTable(schema);
//   if (!weights) return Report(weights.error());
//   for (;;) {
//     auto next = (*client)->NextBatch();                     // waits for work; reads the log itself
//     if (!next) return Report(next.error());
//     if (!next->has_value()) break;                          // the job is complete
//     const Client::Batch& batch = **next;
//     auto rows = (*client)->Pull(*weights, batch.records.sparse);
//     if (!rows) return Report(rows.error());
//     std::vector<float> gradients = Gradients(batch.records, *rows);                    // yours
//     auto pushed = (*client)->Push(batch, {{*weights, batch.records.sparse, gradients}});
//     if (!pushed) return Report(pushed.error());
//   }                                                         // ~Client leaves the cluster
//
// Every call blocks until its outcome is known, at most options.deadline. Servers may crash, restart and
// move meanwhile: calls wait for them. Outcomes are Results; nothing throws. What the cluster's side of
// this program has to say goes to the log (base/log.h), which is stderr unless set up otherwise.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/messages.h"
#include "protocol/table_schema.h"
#include "stream/record_batch.h"
#include "worker/client/routed_call.h"

namespace freshet::worker {

struct ClientOptions {
  std::string master;  // tcp://host:port, what freshet-master listens on
  std::string name;    // of this worker in `freshet status`; empty: the master chooses one
  // Of every call; longer than a restart of a server takes.
  std::chrono::milliseconds deadline = std::chrono::minutes(5);
  std::chrono::milliseconds connect_deadline = std::chrono::seconds(10);
};

// A declared table; a value. Good for every Client of the same cluster.
struct TableHandle {
  protocol::TableId id;
  uint32_t dim = 0;  // floats of a row
};

// One table's part of a pull. The i-th key's row goes to rows[i * dim ..]; keys may repeat.
struct PullTable {
  TableHandle table;
  std::span<const protocol::Key> keys;
  std::span<float> rows;  // keys.size() * dim
};

// One table's part of a push. gradients[i * dim ..] are the i-th key's; those of a key that repeats are
// summed first, so that each row learns once per batch. A sum that is no finite number is kInvalidArgument.
struct PushTable {
  TableHandle table;
  std::span<const protocol::Key> keys;
  std::span<const float> gradients;  // keys.size() * dim
};

// One worker of a cluster. Use it from one thread at a time; a training program has one per thread, and
// several in a process are fine. Its connection lives on a thread of its own, so that the cluster hears
// of this worker while your code computes. The destructor gives back what is unfinished and leaves.
class Client {
 public:
  // Joins the cluster as a worker. kUnreachable: no answer within connect_deadline. kInvalidArgument: no
  // such address. kConflict: the master refuses (it says why).
  static base::Result<std::unique_ptr<Client>> Connect(ClientOptions options);
  // Gives the data shard in hand back and hands in the last predictions; takes at most 2 s.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // What the cluster trains: its logs, batch size, seed.
  const protocol::JobSpec& job() const { return job_; }
  // This worker's name in the cluster.
  const std::string& name() const { return name_; }

  // Makes the tables known to the cluster; all or none. The same declaration again, by anyone, gives the
  // same table. kInvalidArgument names table and field; kConflict: the name is taken by a table of
  // another schema; kTimeout: no answer, declare again.
  base::Result<std::vector<TableHandle>> DeclareTables(
      const std::vector<protocol::TableSchema>& schemas);
  base::Result<TableHandle> DeclareTable(const protocol::TableSchema& schema);

  // The rows of all tables in one request per server. A key never pushed gives the value that its row
  // would start with. kInvalidArgument: sizes that do not fit; kTimeout: some server did not answer. On
  // failure the rows hold nothing of use.
  base::Result<> Pull(const std::vector<PullTable>& tables);
  // The same for one table, as [keys.size()][dim].
  base::Result<std::vector<float>> Pull(TableHandle table, std::span<const protocol::Key> keys);

  // A piece of the job's data: what one gradient step covers. Its offsets are `span` of `log`.
  struct Batch {
    protocol::LogId log;
    protocol::Span span;
    // kTrain: to be pushed. kEvaluate: to be predicted only, when the job has such a log.
    protocol::LogPurpose purpose = protocol::LogPurpose::kTrain;
    stream::RecordBatch records;  // parsed by the log's schema; may have no rows
  };

  // The next batch to work on; nothing when the job is complete. The one before must have been pushed or
  // given back, else kConflict. Waits while other workers hold all that is left: kTimeout says that the
  // deadline passed without work, and to call again. kNotFound, kIo, kCorrupt, kInvalidArgument: this
  // worker cannot read the log (the message names it); its data goes to others.
  base::Result<std::optional<Batch>> NextBatch();

  // Applies the gradients of `batch`: once for its span, whatever is repeated by whom. Every batch of a
  // kTrain log is pushed, if need be with no tables, so that its records count as done.
  //   kApplied          the usual outcome
  //   kAlreadyApplied   another worker was faster; nothing to do
  //   kConflict         a part of the span is in already (after a crash); nothing of this push counts
  //                     where it was in. The span is dealt out anew, cut better: go on with NextBatch.
  // kTimeout, kConflict (as an error: no batch in hand): the span is dealt out anew unless it is in.
  // kInvalidArgument: sizes that do not fit; nothing was sent, the batch is still in hand.
  base::Result<PushResult> Push(const Batch& batch, const std::vector<PushTable>& tables);

  // Progressive validation: what the model said of batch.records before it learnt from them, one logit
  // (before the sigmoid) a record. Call it before Push; it counts when the push is applied. A kEvaluate
  // batch is finished by it. kInvalidArgument: another number of logits than records.
  base::Result<> ReportPredictions(const Batch& batch, std::span<const float> logits);

  // Leaves the batch, and the rest of its data shard, to any worker (this one included).
  base::Result<> GiveBack(const Batch& batch);

 private:
  struct Link;     // to the loop's thread
  struct Keys;     // of one table in a request
  struct Request;  // what a request lends to the loop
  struct Reading;  // logs, lease and the batch in hand

  explicit Client(ClientOptions options);
  base::Result<> Register();
  base::Result<> AwaitLease();
  base::Result<> ReadNext(Batch& batch);
  base::Result<> CheckInHand(const Batch& batch) const;
  std::shared_ptr<Request> TakeRequest(size_t tables);
  void Settle(bool give_back);

  ClientOptions options_;
  std::string name_;
  protocol::JobSpec job_;
  uint32_t partitions_ = 0;
  std::unique_ptr<Link> link_;
  std::unique_ptr<Reading> reading_;
  std::shared_ptr<Request> spare_;
};

}  // namespace freshet::worker
