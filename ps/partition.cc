// SPDX-License-Identifier: Apache-2.0
#include "ps/partition.h"

#include <string>
#include <utility>

#include "base/check.h"
#include "base/mutant.h"
#include "ps/image_cut.h"

namespace freshet::ps {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Image;
using protocol::Stamp;

namespace {

// A set has about as many spans as there are workers; beyond this somebody pushes nonsense, which must
// not grow heartbeats and images without end (I7).
constexpr size_t kMaxSpans = 1 << 16;

std::string Name(const Stamp& stamp) {
  return std::to_string(stamp.tenure.value()) + "." + std::to_string(stamp.version);
}

}  // namespace

Partition::Partition(protocol::PartitionId id, const TableSet& tables, RowArena& arena)
    : id_(id), tables_(tables), arena_(arena) {}

TableShard* Partition::AddShard(protocol::TableId table) {
  const TableLayout* layout = tables_.Find(table);
  if (layout == nullptr) return nullptr;
  const size_t index = table.value();
  if (shards_.size() <= index) shards_.resize(index + 1);
  shards_[index] = std::make_unique<TableShard>(*layout, arena_);
  shards_[index]->set_cut(cut_);
  return shards_[index].get();
}

protocol::Overlap Partition::Judge(protocol::LogId log, protocol::Span span) const {
  if (span.empty()) return protocol::Overlap::kContained;
  return applied_.Of(log).Compare(span);
}

bool Partition::HasRoomFor(protocol::LogId log, protocol::Span span) const {
  const protocol::SpanSet& set = applied_.Of(log);
  if (set.spans().size() < kMaxSpans) return true;
  return set.Contains(span.end) || (span.begin > 0 && set.Contains(span.begin - 1));
}

void Partition::RecordApplied(protocol::LogId log, protocol::Span span) {
  CHECK(Judge(log, span) == protocol::Overlap::kDisjoint || MUTANT(kApplyOverlap));
  applied_.Mutable(log).Add(span);
  ++stamp_.version;
}

Image Partition::StartImage(protocol::Tenure tenure) const {
  Image image;
  image.header.partition = id_;
  image.header.stamp = {tenure, stamp_.version};
  image.header.applied = applied_;
  return image;
}

void Partition::StartNextCut() {
  ++cut_;
  for (auto& shard : shards_) {
    if (shard != nullptr) shard->set_cut(cut_);
  }
}

Image Partition::CutWhole(protocol::Tenure tenure) {
  Image image = StartImage(tenure);
  for (const auto& shard : shards_) {
    if (shard != nullptr) image.header.rows += CutRows(*shard, {}, &image.blocks);
  }
  StartNextCut();
  return image;
}

Image Partition::CutDifference(protocol::Tenure tenure, Stamp base, uint32_t since_cut) {
  CHECK(base.tenure.value() != 0);
  Image image = StartImage(tenure);
  image.header.base = base;
  for (const auto& shard : shards_) {
    if (shard == nullptr) continue;
    image.header.rows += CutRows(*shard, {.after = since_cut}, &image.blocks);
  }
  StartNextCut();
  return image;
}

void Partition::Clear() {
  shards_.clear();
  applied_ = {};
  stamp_ = {};
}

Result<> Partition::ApplyImage(const Image& image) {
  const protocol::ImageHeader& header = image.header;
  if (header.partition != id_) {
    return Fail(ErrorCode::kConflict, "image is of partition " +
                                          std::to_string(header.partition.value()) + ", not of " +
                                          std::to_string(id_.value()));
  }
  if (header.base != (header.whole() ? Stamp() : stamp_) || header.stamp <= header.base) {
    return Fail(ErrorCode::kConflict, "image " + Name(header.stamp) + " onto " + Name(header.base) +
                                          " does not fit onto " + Name(stamp_));
  }
  const auto views = ReadBlocks(image.blocks, tables_);
  if (!views) return Fail(views.error().code, views.error().message);
  uint64_t held = 0;
  for (const protocol::BlockView& view : *views) held += view.rows;
  if (held != header.rows) {
    return Fail(ErrorCode::kCorrupt, "image holds " + std::to_string(held) +
                                         " rows, its header says " + std::to_string(header.rows));
  }
  // Room for all first: growing step by step would move everything several times.
  std::vector<uint64_t> rows(protocol::kMaxTables);
  for (const protocol::BlockView& view : *views) rows[view.table.value()] += view.rows;
  for (const protocol::BlockView& view : *views) {
    TableShard* shard = Shard(view.table);
    // A difference mostly holds rows that are there already, so it grows a block at a time.
    const uint64_t more = header.whole() ? std::exchange(rows[view.table.value()], 0) : view.rows;
    if (auto ok = shard->Reserve(more); !ok) return ok;
    RestoreRows(view, shard);
  }
  if (header.whole() && this->rows() != header.rows) {
    return Fail(ErrorCode::kCorrupt, "whole image has a key twice");
  }
  if (!MUTANT(kRowsWithoutSet)) applied_ = header.applied;
  stamp_ = header.stamp;
  return {};
}

Result<> Partition::Restore(const std::vector<Image>& images) {
  Clear();
  if (images.empty() || !images.front().header.whole()) {
    return Fail(ErrorCode::kConflict, "a restore begins with a whole image");
  }
  for (size_t i = 0; i < images.size(); ++i) {
    const bool in_order = images[i].header.whole() == (i == 0);
    auto ok = in_order ? ApplyImage(images[i])
                       : Fail(ErrorCode::kConflict, "a whole image among the differences");
    if (ok) continue;
    Clear();
    return ok;
  }
  return {};
}

Partition::Slice Partition::CutSlice(protocol::CopyPosition at, std::optional<uint32_t> since_cut,
                                     size_t max_bytes) const {
  Slice slice;
  slice.next = at;
  size_t scanned = 0;
  // Rows that are only looked at cost a fraction of those that are copied.
  const size_t max_scanned = since_cut ? max_bytes * 8 : max_bytes;
  for (; slice.next.table < shards_.size(); ++slice.next.table, slice.next.block = 0) {
    const TableShard* shard = shards_[slice.next.table].get();
    if (shard == nullptr) continue;
    const size_t begin = slice.next.block;
    size_t end = begin;
    for (; end < shard->blocks() && scanned < max_scanned; ++end) {
      scanned += size_t{shard->BlockAt(end).count} * shard->layout().stride_bytes;
    }
    if (end > begin) slice.rows += CutRows(*shard, {begin, end, since_cut}, &slice.blocks);
    slice.next.block = static_cast<uint32_t>(end);
    if (end < shard->blocks()) {
      slice.more = true;
      return slice;
    }
  }
  return slice;
}

uint32_t Partition::BeginRound() {
  StartNextCut();
  return cut_ - 1;
}

std::vector<protocol::TableRows> Partition::RowsByTable() const {
  std::vector<protocol::TableRows> tables;
  for (const auto& shard : shards_) {
    if (shard == nullptr || shard->rows() == 0) continue;
    tables.push_back({shard->layout().id, static_cast<uint32_t>(shard->rows())});
  }
  return tables;
}

Result<> Partition::Reserve(const std::vector<protocol::TableRows>& tables) {
  for (const protocol::TableRows& table : tables) {
    TableShard* shard = Shard(table.table);
    if (shard == nullptr || shard->rows() >= table.rows) continue;
    if (auto ok = shard->Reserve(table.rows - shard->rows()); !ok) return ok;
  }
  return {};
}

Result<uint64_t> Partition::Merge(const std::vector<protocol::Buffer>& blocks) {
  const auto views = ReadBlocks(blocks, tables_);
  if (!views) return Fail(views.error().code, views.error().message);
  uint64_t rows = 0;
  for (const protocol::BlockView& view : *views) {
    TableShard* shard = Shard(view.table);
    if (auto ok = shard->Reserve(view.rows); !ok) return Fail(ok.error().code, ok.error().message);
    RestoreRows(view, shard);
    rows += view.rows;
  }
  return rows;
}

void Partition::Settle(Stamp stamp, protocol::AppliedSets applied) {
  stamp_ = stamp;
  if (!MUTANT(kMoveWithoutSet)) applied_ = std::move(applied);
}

uint64_t Partition::rows() const {
  uint64_t rows = 0;
  for (const auto& shard : shards_) rows += shard == nullptr ? 0 : shard->rows();
  return rows;
}

uint64_t Partition::bytes() const {
  uint64_t bytes = 0;
  for (const auto& shard : shards_) bytes += shard == nullptr ? 0 : shard->bytes();
  return bytes;
}

}  // namespace freshet::ps
