// SPDX-License-Identifier: Apache-2.0
#include "worker/client/routed_call.h"

#include <algorithm>
#include <utility>

#include "base/mutant.h"
#include "worker/client/row_copy.h"

namespace freshet::worker {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Buffer;
using protocol::Packet;
using protocol::PartitionStatus;

namespace {

uint32_t RowsOf(const KeyRouting& routing, uint16_t partition) {
  return routing.begin(partition + 1u) - routing.begin(partition);
}

// visit(begin, count) for every stretch of grouped keys whose partitions `cover` names one after another.
template <class Visit>
void ForEachStretch(const KeyRouting& routing, const std::vector<uint16_t>& cover, Visit&& visit) {
  for (size_t c = 0; c < cover.size();) {
    const uint32_t begin = routing.begin(cover[c]);
    do {
      ++c;
    } while (c < cover.size() && cover[c] == cover[c - 1] + 1);
    const uint32_t end = routing.begin(cover[c - 1] + 1u);
    if (end > begin) visit(begin, end - begin);
  }
}

bool AnyOk(const std::vector<uint8_t>& statuses) {
  return std::find(statuses.begin(), statuses.end(), static_cast<uint8_t>(PartitionStatus::kOk)) !=
         statuses.end();
}

}  // namespace

RoutedCall RoutedCall::Pull(std::vector<RoutedRows> rows, uint32_t partitions) {
  RoutedCall call;
  for (uint32_t p = 0; p < partitions; ++p) {
    const bool used = std::any_of(rows.begin(), rows.end(), [p](const RoutedRows& table) {
      return RowsOf(*table.routing, static_cast<uint16_t>(p)) > 0;
    });
    if (used) call.waiting_.push_back(static_cast<uint16_t>(p));
  }
  call.rows_ = std::move(rows);
  return call;
}

RoutedCall RoutedCall::Push(protocol::LogId log, protocol::Span span, std::vector<RoutedRows> rows,
                            uint32_t partitions) {
  RoutedCall call = MUTANT(kNoEmptyPushes) ? Pull(rows, partitions) : RoutedCall();
  call.push_ = PushTarget{log, span};
  call.rows_ = std::move(rows);
  if (MUTANT(kNoEmptyPushes)) return call;
  call.waiting_.resize(partitions);
  for (uint32_t p = 0; p < partitions; ++p) call.waiting_[p] = static_cast<uint16_t>(p);
  return call;
}

PushResult RoutedCall::push_result() const {
  if (conflict_) return PushResult::kConflict;
  return any_applied_ ? PushResult::kApplied : PushResult::kAlreadyApplied;
}

RoutedCall::Request RoutedCall::Prepare(std::vector<uint16_t> cover, protocol::BufferPool& pool) {
  Request request;
  for (const RoutedRows& table : rows_) {
    const KeyRouting& routing = *table.routing;
    auto counts = Buffer::Allocate(cover.size() * sizeof(uint32_t));
    uint32_t rows = 0;
    for (size_t i = 0; i < cover.size(); ++i) {
      counts.MutableAs<uint32_t>()[i] = RowsOf(routing, cover[i]);
      rows += counts.As<uint32_t>()[i];
    }
    auto keys = pool.Allocate(rows * sizeof(protocol::Key));
    auto gradients = pool.Allocate(is_push() ? size_t{rows} * table.dim * sizeof(float) : 0);
    auto* key_out = keys.MutableAs<protocol::Key>().data();
    auto* gradient_out = gradients.MutableAs<float>().data();
    ForEachStretch(routing, cover, [&](uint32_t begin, uint32_t count) {
      key_out = std::copy_n(routing.keys().data() + begin, count, key_out);
      if (!is_push()) return;
      GatherRows(table.gradients, routing.order().subspan(begin, count), table.dim, gradient_out);
      gradient_out += size_t{count} * table.dim;
    });
    request.tables.push_back({routing.table(), rows});
    request.arrays.push_back(std::move(counts));
    request.arrays.push_back(std::move(keys));
    if (is_push()) request.arrays.push_back(std::move(gradients));
  }
  in_flight_ += static_cast<uint32_t>(cover.size());
  std::vector<uint16_t> rest;
  std::set_difference(waiting_.begin(), waiting_.end(), cover.begin(), cover.end(),
                      std::back_inserter(rest));
  waiting_ = std::move(rest);
  request.cover = std::move(cover);
  return request;
}

protocol::PullRequest RoutedCall::PullBody(const Request& request) const {
  return {request.cover, request.tables};
}

protocol::PushRequest RoutedCall::PushBody(const Request& request) const {
  return {push_->log, push_->span, request.cover, request.tables};
}

void RoutedCall::PutBack(std::vector<uint16_t> partitions) {
  std::vector<uint16_t> merged;
  merged.reserve(waiting_.size() + partitions.size());
  std::merge(waiting_.begin(), waiting_.end(), partitions.begin(), partitions.end(),
             std::back_inserter(merged));
  waiting_ = std::move(merged);
}

Result<> RoutedCall::CheckValues(const std::vector<uint16_t>& cover, const Packet& packet) {
  for (size_t t = 0; t < rows_.size(); ++t) {
    size_t rows = 0;
    for (const uint16_t partition : cover) rows += RowsOf(*rows_[t].routing, partition);
    if (packet.frames[2 + t].size() != rows * rows_[t].dim * sizeof(float)) {
      return Fail(ErrorCode::kCorrupt, "a pull reply with values of another size");
    }
  }
  return {};
}

Result<std::vector<uint8_t>> RoutedCall::ReadStatuses(const std::vector<uint16_t>& cover,
                                                      const Packet& packet) {
  std::vector<uint8_t> statuses;
  if (is_push()) {
    auto reply = protocol::DecodeAs<protocol::PushReply>(packet);
    if (!reply) return Fail(reply.error().code, reply.error().message);
    statuses = std::move(reply->statuses);
  } else {
    auto reply = protocol::DecodeAs<protocol::PullReply>(packet);
    if (!reply) return Fail(reply.error().code, reply.error().message);
    statuses = std::move(reply->statuses);
    const bool of_a_push = std::any_of(statuses.begin(), statuses.end(), [](uint8_t status) {
      return status == static_cast<uint8_t>(PartitionStatus::kAlreadyApplied) ||
             status == static_cast<uint8_t>(PartitionStatus::kSpanConflict);
    });
    if (of_a_push) return Fail(ErrorCode::kCorrupt, "a pull is answered as a push");
    const bool has_values = packet.frames.size() == 2 + rows_.size();
    if (AnyOk(statuses) && !has_values) {
      return Fail(ErrorCode::kCorrupt, "a pull reply without values");
    }
    if (AnyOk(statuses)) {
      if (auto ok = CheckValues(cover, packet); !ok) {
        return Fail(ok.error().code, ok.error().message);
      }
    }
  }
  if (statuses.size() != cover.size()) {
    return Fail(ErrorCode::kCorrupt, "a reply about other partitions than asked for");
  }
  return statuses;
}

// Rows of partitions that did not serve are copied as well: they are zero and will be pulled again.
void RoutedCall::CopyRows(const std::vector<uint16_t>& cover, const Packet& packet) {
  for (size_t t = 0; t < rows_.size(); ++t) {
    const RoutedRows& table = rows_[t];
    const float* in = packet.frames[2 + t].As<float>().data();
    ForEachStretch(*table.routing, cover, [&](uint32_t begin, uint32_t count) {
      ScatterRows(in, table.routing->order().subspan(begin, count), table.dim, table.out);
      in += size_t{count} * table.dim;
    });
  }
}

RoutedCall::Verdict RoutedCall::OnReply(const std::vector<uint16_t>& cover,
                                        const Result<Packet>& reply) {
  in_flight_ -= static_cast<uint32_t>(cover.size());
  Verdict verdict;
  if (!reply) {
    PutBack(cover);
    return verdict;
  }
  const auto statuses = ReadStatuses(cover, *reply);
  if (!statuses) {
    PutBack(cover);
    return verdict;
  }
  // A server that does not know the tables yet sends no values.
  if (!is_push() && AnyOk(*statuses)) CopyRows(cover, *reply);
  std::vector<uint16_t> again;
  for (size_t i = 0; i < cover.size(); ++i) {
    switch (static_cast<PartitionStatus>((*statuses)[i])) {
      case PartitionStatus::kOk:
        any_applied_ = true;
        verdict.progress = true;
        break;
      case PartitionStatus::kAlreadyApplied: verdict.progress = true; break;
      case PartitionStatus::kSpanConflict:
        conflict_ = true;
        verdict.progress = true;
        break;
      case PartitionStatus::kNotOwner:
        verdict.wrong_owner = true;
        again.push_back(cover[i]);
        break;
      default:  // retry, out of memory, unknown table, and whatever a newer PS may say
        again.push_back(cover[i]);
        break;
    }
  }
  PutBack(std::move(again));
  return verdict;
}

}  // namespace freshet::worker
