// SPDX-License-Identifier: Apache-2.0
#include "ps/data_service.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/mutant.h"

namespace freshet::ps {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Packet;
using protocol::PartitionStatus;

namespace {

// A batch is thousands of records; a span beyond this is a damaged or hostile request.
constexpr uint64_t kMaxPushSpan = 1u << 24;
// Values of one table in a reply: what a frame of the wire may hold.
constexpr uint64_t kMaxTableBytes = 64u << 20;
// Of all tables of a reply.
constexpr uint64_t kMaxReplyBytes = 4 * kMaxTableBytes;

tl::unexpected<base::Error> Malformed(const char* what) {
  return Fail(ErrorCode::kInvalidArgument, std::string("malformed request: ") + what);
}

uint8_t Code(PartitionStatus status) { return static_cast<uint8_t>(status); }

bool IsOk(uint8_t status) { return status == Code(PartitionStatus::kOk); }

}  // namespace

Result<> DataService::CheckCover(const std::vector<uint16_t>& cover) const {
  if (cover.empty()) return Malformed("no partitions");
  for (size_t i = 0; i < cover.size(); ++i) {
    if (cover[i] >= slots_.size()) return Malformed("a partition that does not exist");
    if (i > 0 && cover[i] <= cover[i - 1]) return Malformed("partitions out of order");
  }
  return {};
}

Result<bool> DataService::CheckFrames(const std::vector<protocol::TableRows>& tables, size_t cover,
                                      const Packet& packet, WithGradients gradients) {
  const size_t per_table = gradients == WithGradients::kYes ? 3 : 2;
  if (packet.frames.size() != 2 + tables.size() * per_table) return Malformed("frames are missing");
  frames_.clear();
  size_t at = 2;
  for (const protocol::TableRows& entry : tables) {
    const bool twice = std::any_of(frames_.begin(), frames_.end(),
                                   [&](const TableFrames& f) { return f.table == entry.table; });
    if (twice) return Malformed("a table that is there twice");
    const protocol::TableSchema* schema = tables_.Schema(entry.table);
    if (schema == nullptr) return false;
    const auto& counts = packet.frames[at];
    const auto& keys = packet.frames[at + 1];
    const uint64_t rows = entry.rows;
    if (counts.size() != cover * sizeof(uint32_t)) return Malformed("counts do not fit the cover");
    if (keys.size() != rows * sizeof(protocol::Key)) return Malformed("keys do not fit the rows");
    TableFrames frames{
        entry.table, schema->dim, counts.As<uint32_t>(), keys.As<protocol::Key>(), {}};
    const uint64_t sum = std::accumulate(frames.counts.begin(), frames.counts.end(), uint64_t{0});
    if (sum != rows) return Malformed("counts do not add up to the rows");
    if (gradients == WithGradients::kYes) {
      const auto& values = packet.frames[at + 2];
      if (values.size() != rows * schema->dim * sizeof(float)) {
        return Malformed("gradients do not fit the rows");
      }
      frames.gradients = values.As<float>();
    }
    frames_.push_back(frames);
    at += per_table;
  }
  return true;
}

size_t DataService::BuildRuns(const TableFrames& frames, const std::vector<uint16_t>& cover,
                              const std::vector<uint8_t>& statuses) {
  runs_.clear();
  uint32_t begin = 0;
  size_t rows = 0;
  for (size_t i = 0; i < cover.size(); ++i) {
    const uint32_t end = begin + frames.counts[i];
    if (end > begin && IsOk(statuses[i])) {
      Slot& slot = slots_[cover[i]];
      runs_.push_back({slot.partition->Shard(frames.table), begin, end});
      slot.touched += end - begin;
      rows += end - begin;
    }
    begin = end;
  }
  return rows;
}

Result<DataService::Pulled> DataService::OnPull(const protocol::PullRequest& request,
                                                const Packet& packet) {
  if (auto ok = CheckCover(request.cover); !ok) return Fail(ok.error().code, ok.error().message);
  const auto known = CheckFrames(request.tables, request.cover.size(), packet, WithGradients::kNo);
  if (!known) return Fail(known.error().code, known.error().message);
  Pulled out;
  out.reply.statuses.resize(request.cover.size(), Code(PartitionStatus::kUnknownTable));
  if (!*known) return out;
  // A key is 8 bytes of the request and may be 16 KiB of the reply.
  uint64_t reply_bytes = 0;
  for (const TableFrames& frames : frames_) {
    const uint64_t table_bytes = frames.keys.size() * uint64_t{frames.dim} * sizeof(float);
    reply_bytes += table_bytes;
    if (table_bytes > kMaxTableBytes || reply_bytes > kMaxReplyBytes) {
      return Malformed("more values than a reply may hold; pull fewer keys at once");
    }
  }
  for (size_t i = 0; i < request.cover.size(); ++i) {
    Slot& slot = slots_[request.cover[i]];
    PartitionStatus status = PartitionStatus::kOk;
    if (slot.state == SlotState::kAbsent) status = PartitionStatus::kNotOwner;
    if (slot.state == SlotState::kLoading) {
      status = PartitionStatus::kRetry;
      slot.wanted = true;
    }
    out.reply.statuses[i] = Code(status);
  }
  for (const TableFrames& frames : frames_) {
    auto values = buffers_.Allocate(frames.keys.size() * frames.dim * sizeof(float));
    const size_t rows = BuildRuns(frames, request.cover, out.reply.statuses);
    if (rows != frames.keys.size()) std::memset(values.mutable_data(), 0, values.size());
    PullRows(runs_, frames.keys, values.MutableAs<float>().data());
    rows_pulled_ += rows;
    out.values.push_back(std::move(values));
  }
  return out;
}

void DataService::JudgePush(const protocol::PushRequest& request, std::vector<uint8_t>* statuses) {
  for (size_t i = 0; i < request.cover.size(); ++i) {
    Slot& slot = slots_[request.cover[i]];
    PartitionStatus status = PartitionStatus::kOk;
    if (slot.state == SlotState::kAbsent) {
      status = PartitionStatus::kNotOwner;
    } else if (slot.state == SlotState::kLoading || slot.frozen) {
      status = PartitionStatus::kRetry;
      slot.wanted = true;
    } else {
      switch (slot.partition->Judge(request.log, request.span)) {
        case protocol::Overlap::kDisjoint:
          if (!slot.partition->HasRoomFor(request.log, request.span)) {
            status = PartitionStatus::kOutOfMemory;
          }
          break;
        case protocol::Overlap::kContained: status = PartitionStatus::kAlreadyApplied; break;
        case protocol::Overlap::kPartial:
          if (!MUTANT(kApplyOverlap)) status = PartitionStatus::kSpanConflict;
          break;
      }
    }
    (*statuses)[i] = Code(status);
  }
}

Result<> DataService::ReserveAll(const std::vector<uint16_t>& cover,
                                 const std::vector<uint8_t>& statuses) {
  for (const TableFrames& frames : frames_) {
    BuildRuns(frames, cover, statuses);
    if (auto ok = ReserveRows(runs_, frames.keys); !ok) return ok;
  }
  return {};
}

Result<protocol::PushReply> DataService::OnPush(const protocol::PushRequest& request,
                                                const Packet& packet) {
  if (auto ok = CheckCover(request.cover); !ok) return Fail(ok.error().code, ok.error().message);
  const bool span_ok = !request.span.empty() && request.span.size() <= kMaxPushSpan &&
                       request.span.end <= protocol::kMaxOffset;
  if (!span_ok) return Malformed("its span");
  // A log beyond it could be applied but never reported.
  if (request.log.value() >= protocol::kMaxLogs) return Malformed("its log");
  const auto known = CheckFrames(request.tables, request.cover.size(), packet, WithGradients::kYes);
  if (!known) return Fail(known.error().code, known.error().message);
  protocol::PushReply reply;
  reply.statuses.resize(request.cover.size(), Code(PartitionStatus::kUnknownTable));
  if (!*known) return reply;
  JudgePush(request, &reply.statuses);
  if (auto reserved = ReserveAll(request.cover, reply.statuses); !reserved) {
    if (reserved.error().code != ErrorCode::kResourceExhausted) {
      return Fail(reserved.error().code, reserved.error().message);
    }
    ++refused_;
    std::replace_if(reply.statuses.begin(), reply.statuses.end(), IsOk,
                    Code(PartitionStatus::kOutOfMemory));
  }
  for (const TableFrames& frames : frames_) {
    rows_pushed_ += BuildRuns(frames, request.cover, reply.statuses);
    PushRows(runs_, frames.keys, frames.gradients.data());
  }
  // In the same turn as the rows: the two are never separated (rule G1).
  for (size_t i = 0; i < request.cover.size(); ++i) {
    if (IsOk(reply.statuses[i])) {
      slots_[request.cover[i]].partition->RecordApplied(request.log, request.span);
    }
  }
  if (MUTANT(kNoCover)) {
    for (Slot& slot : slots_) {
      if (!slot.serving()) continue;
      const auto overlap = slot.partition->Judge(request.log, request.span);
      if (overlap != protocol::Overlap::kDisjoint) continue;
      slot.partition->RecordApplied(request.log, request.span);
    }
  }
  return reply;
}

}  // namespace freshet::ps
