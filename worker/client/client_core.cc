// SPDX-License-Identifier: Apache-2.0
#include "worker/client/client_core.h"

#include <algorithm>
#include <utility>

namespace freshet::worker {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::LeaseEnd;
using std::chrono::milliseconds;

namespace {

// A Session speaks of its end as a process would: by an exit code.
ErrorCode CodeOfExit(int exit_code) {
  for (const ErrorCode code :
       {ErrorCode::kInvalidArgument, ErrorCode::kNotFound, ErrorCode::kConflict,
        ErrorCode::kTimeout, ErrorCode::kUnreachable}) {
    if (base::ExitCodeFor(code) == exit_code) return code;
  }
  return ErrorCode::kFailed;
}

}  // namespace

ClientCore::ClientCore(SessionOptions options, base::Runtime runtime, transport::Endpoint& endpoint)
    : runtime_(runtime),
      session_(std::make_unique<Session>(std::move(options), runtime, endpoint)) {
  session_->on_exit = [this](int code, const std::string& why) { OnExit(code, why); };
}

ClientCore::~ClientCore() {
  for (const base::TimerId timer : {lease_timer_, flush_timer_, exit_timer_}) {
    runtime_.timers.Cancel(timer);
  }
}

// The session is in the middle of something when it says so, and its calls borrow memory of those who
// wait: it goes first, then they are told.
void ClientCore::OnExit(int code, const std::string& why) {
  exit_timer_ = runtime_.timers.After(base::Duration(0), [this, code, why] {
    runtime_.timers.Cancel(lease_timer_);
    runtime_.timers.Cancel(flush_timer_);
    ended_ = {CodeOfExit(code), why};
    session_.reset();
    for (const auto& [id, fail] : std::exchange(waiting_, {})) fail(ended_);
  });
}

template <class T>
ClientCore::Reply<T> ClientCore::Expect(Reply<T> reply) {
  const uint64_t id = ++next_waiting_;
  auto shared = std::make_shared<Reply<T>>(std::move(reply));
  waiting_[id] = [shared](const base::Error& error) { (*shared)(tl::unexpected(error)); };
  return [this, id, shared](Result<T> result) {
    if (waiting_.erase(id) > 0) (*shared)(std::move(result));
  };
}

void ClientCore::Start(Reply<protocol::RegisterReply> reply) {
  auto expected = Expect(std::move(reply));
  session_->on_registered = [expected](const protocol::RegisterReply& registered) {
    expected(registered);
  };
  session_->Start();
}

void ClientCore::OnPacket(transport::PeerId from, protocol::Packet packet) {
  if (session_) session_->OnPacket(from, std::move(packet));
}

void ClientCore::DeclareTables(std::vector<protocol::TableSchema> schemas,
                               Reply<std::vector<protocol::TableId>> reply) {
  if (!session_) return reply(tl::unexpected(ended_));
  session_->DeclareTables(std::move(schemas), Expect(std::move(reply)));
}

void ClientCore::Pull(std::vector<RoutedRows> rows, Reply<void> reply) {
  if (!session_) return reply(tl::unexpected(ended_));
  session_->Pull(std::move(rows), Expect(std::move(reply)));
}

void ClientCore::Push(Session::PushCall push, Predictions predictions, Reply<PushResult> reply) {
  if (!session_) return reply(tl::unexpected(ended_));
  const protocol::LogId log = push.log;
  const protocol::Span span = push.span;
  session_->Push(std::move(push), [this, log, span, predictions = std::move(predictions),
                                   reply = Expect(std::move(reply))](Result<PushResult> result) {
    protocol::WorkerStats& stats = session_->stats();
    if (result && *result == PushResult::kApplied) {
      stats.records += span.size();
      ++stats.steps;
      if (predictions) session_->AddValidation(log, span, *predictions);
    } else if (result && *result == PushResult::kAlreadyApplied) {
      stats.already_applied += span.size();
    } else if (result) {
      ++stats.conflicts;
    }
    reply(std::move(result));
  });
}

void ClientCore::AddEvaluation(protocol::LogId log, protocol::Span span,
                               const protocol::ValidationHistogram& predictions) {
  if (session_) session_->AddValidation(log, span, predictions);
}

Session::LeaseCall ClientCore::EndOfLease(LeaseEnd how) {
  Session::LeaseCall call;
  if (lease_) {
    call.ended = lease_->id;
    call.how = how;
    lease_.reset();
    session_->SetLease(std::nullopt);
  }
  return call;
}

void ClientCore::NextLease(LeaseEnd how, Reply<std::optional<protocol::Lease>> reply) {
  if (!session_) return reply(tl::unexpected(ended_));
  AskForLease(EndOfLease(how), Expect(std::move(reply)));
}

void ClientCore::AskForLease(const Session::LeaseCall& call,
                             Reply<std::optional<protocol::Lease>> reply) {
  session_->RequestLease(call, [this, reply = std::move(reply)](const protocol::LeaseReply& got) {
    if (got.answer == protocol::LeaseAnswer::kComplete) return reply(std::nullopt);
    if (got.answer == protocol::LeaseAnswer::kLease && !got.lease.span.empty()) {
      lease_ = got.lease;
      session_->SetLease(lease_);
      return reply(lease_);
    }
    const auto wait = milliseconds(std::clamp<uint64_t>(got.wait_ms, 1, 10'000));
    lease_timer_ = runtime_.timers.After(wait, [this, reply] { AskForLease({}, reply); });
  });
}

void ClientCore::Leave(Reply<void> reply) {
  if (!session_) return reply({});
  runtime_.timers.Cancel(lease_timer_);
  Session::LeaseCall call = EndOfLease(LeaseEnd::kGivenBack);
  call.wants_more = false;
  session_->RequestLease(call, [this, reply = Expect(std::move(reply))](
                                   const protocol::LeaseReply&) { AwaitFlush(reply); });
}

void ClientCore::AwaitFlush(Reply<void> reply) {
  if (session_->validation_flushed()) return reply({});
  flush_timer_ = runtime_.timers.After(milliseconds(5), [this, reply] { AwaitFlush(reply); });
}

}  // namespace freshet::worker
