// SPDX-License-Identifier: Apache-2.0
// ClientCore: the half of a Client that lives on the loop: the session, the lease in hand and who waits
// for what. Belongs to the loop; borrows runtime and endpoint. Every reply runs exactly once, unless the
// core goes first. When the master ends the session, whoever waits is told, and so are all later calls.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/runtime.h"
#include "transport/endpoint.h"
#include "worker/client/session.h"

namespace freshet::worker {

class ClientCore final : public transport::PacketHandler {
 public:
  template <class T>
  using Reply = std::function<void(base::Result<T>)>;

  ClientCore(SessionOptions options, base::Runtime runtime, transport::Endpoint& endpoint);
  ~ClientCore() override;

  // Joins the cluster.
  void Start(Reply<protocol::RegisterReply> reply);
  void OnPacket(transport::PeerId from, protocol::Packet packet) override;

  void DeclareTables(std::vector<protocol::TableSchema> schemas,
                     Reply<std::vector<protocol::TableId>> reply);
  void Pull(std::vector<RoutedRows> rows, Reply<void> reply);
  // `predictions` (null: none) of the span are counted if the push is applied.
  using Predictions = std::shared_ptr<const protocol::ValidationHistogram>;
  void Push(Session::PushCall push, Predictions predictions, Reply<PushResult> reply);
  void AddEvaluation(protocol::LogId log, protocol::Span span,
                     const protocol::ValidationHistogram& predictions);

  // Ends the lease in hand, if any, and waits for the next one; nothing: the job is complete.
  void NextLease(protocol::LeaseEnd how, Reply<std::optional<protocol::Lease>> reply);
  // Gives the lease back and hands in what is not yet acknowledged.
  void Leave(Reply<void> reply);

 private:
  template <class T>
  Reply<T> Expect(Reply<T> reply);
  void AskForLease(const Session::LeaseCall& call, Reply<std::optional<protocol::Lease>> reply);
  Session::LeaseCall EndOfLease(protocol::LeaseEnd how);
  void AwaitFlush(Reply<void> reply);
  void OnExit(int code, const std::string& why);

  base::Runtime runtime_;
  std::unique_ptr<Session> session_;  // null once it has ended
  base::Error ended_;                 // then: why
  std::optional<protocol::Lease> lease_;
  std::map<uint64_t, std::function<void(const base::Error&)>> waiting_;
  uint64_t next_waiting_ = 0;
  base::TimerId lease_timer_;
  base::TimerId flush_timer_;
  base::TimerId exit_timer_;
};

}  // namespace freshet::worker
