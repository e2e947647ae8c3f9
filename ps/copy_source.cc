// SPDX-License-Identifier: Apache-2.0
#include "ps/copy_source.h"

#include <fmt/format.h>

#include <utility>

#include "base/mutant.h"
#include "base/stop_point.h"

namespace freshet::ps {

using protocol::CopyMode;

namespace {

// Copied here and put in place there in a fraction of a millisecond, also in memory that no cache holds.
constexpr size_t kSliceBytes = 128u << 10;

}  // namespace

base::Result<CopyAnswer> CopySource::Handle(const protocol::CopyRequest& request) {
  const size_t p = request.partition.value();
  const bool here = p < slots_.size() && slots_[p].serving();
  const bool meant =
      here && ((slots_[p].tenure == request.tenure && slots_[p].migration == request.migration) ||
               MUTANT(kCopyAnyMigration));
  if (!meant || request.migration.value() == 0) {
    return base::Fail(base::ErrorCode::kConflict,
                      fmt::format("partition {} is not leaving here in migration {}", p,
                                  request.migration.value()));
  }
  Slot& slot = slots_[p];
  Partition& partition = *slot.partition;
  CopyAnswer out;
  const bool all = request.since_cut == 0;
  if (request.mode == CopyMode::kSlice) {
    base::StopPoint("source_copies");
    if (request.at == protocol::CopyPosition()) {
      out.reply.cut = partition.BeginRound();
      if (all) out.reply.tables = partition.RowsByTable();
    }
    auto slice = partition.CutSlice(
        request.at, all ? std::nullopt : std::optional(request.since_cut), kSliceBytes);
    out.reply.next = slice.next;
    out.reply.more = slice.more ? 1 : 0;
    out.blocks = std::move(slice.blocks);
    return out;
  }
  if (all) {
    return base::Fail(base::ErrorCode::kInvalidArgument, "a difference to nothing was asked for");
  }
  if (request.mode == CopyMode::kFreeze) {
    slot.frozen = true;
    base::StopPoint("source_frozen");
  }
  auto slice = partition.CutSlice({}, request.since_cut, SIZE_MAX / 16);
  out.reply.cut = partition.BeginRound();
  out.reply.version = partition.version();
  out.reply.applied = partition.applied();
  out.blocks = std::move(slice.blocks);
  return out;
}

}  // namespace freshet::ps
