// SPDX-License-Identifier: Apache-2.0
#include "ps/table_shard.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "base/check.h"
#include "ps/table_set.h"

namespace freshet::ps {
namespace {

using protocol::Key;

// What an index without memory points at: one bucket, all free.
constexpr IndexBucket kNoBucket = {};

// On average at most 3.5 of a bucket's 5 entries are taken: then one key in fourteen lies in a bucket
// behind its own.
constexpr uint64_t RoomIn(uint64_t buckets) { return buckets * 7 / 2; }

constexpr uint64_t kMinBuckets = RowArena::kMinBlockBytes / sizeof(IndexBucket);

}  // namespace

TableShard::TableShard(const TableLayout& layout, RowArena& arena)
    : layout_(layout),
      arena_(arena),
      base_(arena.base()),
      buckets_(&kNoBucket),
      salt_(layout.init.table_seed()) {}

TableShard::~TableShard() {
  for (std::byte* block : blocks_) arena_.Free(block, block_bytes_);
  if (index_rows_ != 0) {
    arena_.Free(reinterpret_cast<std::byte*>(Buckets()), (bucket_mask_ + 1) * sizeof(IndexBucket));
  }
}

uint64_t TableShard::bytes() const {
  const uint64_t index = index_rows_ == 0 ? 0 : (bucket_mask_ + 1) * sizeof(IndexBucket);
  return index + blocks_.size() * uint64_t{block_bytes_};
}

TableShard::Block TableShard::BlockAt(size_t i) const {
  const uint64_t before = i * uint64_t{block_rows_};
  const uint64_t count = rows_ <= before ? 0 : std::min<uint64_t>(rows_ - before, block_rows_);
  return {blocks_[i], reinterpret_cast<RowMeta*>(blocks_[i] + meta_offset_),
          static_cast<uint32_t>(count)};
}

base::Result<> TableShard::Reserve(uint64_t more) {
  if (HasRoom(more)) return {};
  if (GrowRows(rows_ + more) && GrowIndex(rows_ + more)) return {};
  return base::Fail(base::ErrorCode::kResourceExhausted,
                    "no memory for " + std::to_string(more) + " rows of table '" +
                        layout_.schema.name + "': the limit is " +
                        std::to_string(arena_.limit_bytes()) + " bytes");
}

void TableShard::SetBlockBytes(uint32_t bytes) {
  const uint32_t stride = layout_.stride_bytes;
  block_bytes_ = bytes;
  block_rows_ = static_cast<uint32_t>(bytes / (stride + sizeof(RowMeta)));
  meta_offset_ = static_cast<uint32_t>(bytes - block_rows_ * sizeof(RowMeta));
  const uint64_t steps = stride / RowArena::kHandleStep;
  stride_reciprocal_ = ((uint64_t{1} << 32) + steps - 1) / steps;
}

// The first block doubles, moving its rows, until it has the usual size.
bool TableShard::GrowFirstBlock(uint64_t rows) {
  const uint64_t slot_bytes = layout_.stride_bytes + sizeof(RowMeta);
  const uint64_t needed = std::bit_ceil(std::max<uint64_t>(rows * slot_bytes, 2 * block_bytes_));
  const auto bytes = static_cast<uint32_t>(
      std::clamp<uint64_t>(needed, layout_.min_block_bytes, layout_.max_block_bytes));
  std::byte* block = arena_.Allocate(bytes);
  if (block == nullptr) return false;
  if (blocks_.empty()) {
    SetBlockBytes(bytes);
    blocks_.push_back(block);
    free_rows_ = block_rows_;
    return true;
  }
  const Block old = BlockAt(0);
  const uint32_t old_bytes = block_bytes_;
  SetBlockBytes(bytes);
  std::memcpy(block, old.rows, size_t{old.count} * layout_.stride_bytes);
  std::memcpy(block + meta_offset_, old.metas, old.count * sizeof(RowMeta));
  for (uint32_t i = 0; i < old.count; ++i) {
    const std::byte* row = block + size_t{i} * layout_.stride_bytes;
    Redirect(old.metas[i].key, static_cast<RowHandle>((row - base_) / RowArena::kHandleStep));
  }
  arena_.Free(blocks_[0], old_bytes);
  blocks_[0] = block;
  free_rows_ = block_rows_ - old.count;
  return true;
}

bool TableShard::GrowRows(uint64_t rows) {
  while (rows_ + free_rows_ < rows) {
    if (block_bytes_ < layout_.max_block_bytes) {
      if (!GrowFirstBlock(rows)) return false;
      continue;
    }
    std::byte* block = arena_.Allocate(block_bytes_);
    if (block == nullptr) return false;
    blocks_.push_back(block);
    free_rows_ += block_rows_;
  }
  return true;
}

bool TableShard::GrowIndex(uint64_t rows) {
  if (rows <= index_rows_) return true;
  uint64_t count = index_rows_ == 0 ? kMinBuckets : 2 * (bucket_mask_ + 1);
  while (RoomIn(count) < rows) count *= 2;
  std::byte* memory = arena_.Allocate(count * sizeof(IndexBucket));
  if (memory == nullptr) return false;
  std::memset(memory, 0, count * sizeof(IndexBucket));
  const IndexBucket* old = buckets_;
  const uint64_t old_count = index_rows_ == 0 ? 0 : bucket_mask_ + 1;
  buckets_ = reinterpret_cast<const IndexBucket*>(memory);
  bucket_mask_ = count - 1;
  index_rows_ = RoomIn(count);
  // In order of the old buckets: each splits into few new ones, which are written one after another.
  for (uint64_t i = 0; i < old_count; ++i) {
    for (uint32_t j = 0; j < IndexBucket::kEntries && old[i].handles[j] != 0; ++j) {
      AddToIndex(old[i].keys[j], old[i].handles[j]);
    }
  }
  if (old_count != 0) {
    arena_.Free(reinterpret_cast<std::byte*>(const_cast<IndexBucket*>(old)),
                old_count * sizeof(IndexBucket));
  }
  return true;
}

void TableShard::AddToIndex(Key key, RowHandle handle) {
  IndexBucket* buckets = Buckets();
  auto i = static_cast<uint64_t>(HomeOf(key) - buckets_);
  for (;; i = (i + 1) & bucket_mask_) {
    IndexBucket& bucket = buckets[i];
    for (uint32_t j = 0; j < IndexBucket::kEntries; ++j) {
      if (bucket.handles[j] != 0) continue;
      bucket.keys[j] = key;
      bucket.handles[j] = handle;
      return;
    }
    bucket.overflow = 1;
  }
}

void TableShard::Redirect(Key key, RowHandle handle) {
  IndexBucket* buckets = Buckets();
  auto i = static_cast<uint64_t>(HomeOf(key) - buckets_);
  for (;; i = (i + 1) & bucket_mask_) {
    IndexBucket& bucket = buckets[i];
    for (uint32_t j = 0; j < IndexBucket::kEntries; ++j) {
      if (bucket.handles[j] == 0 || bucket.keys[j] != key) continue;
      bucket.handles[j] = handle;
      return;
    }
    CHECK(bucket.overflow != 0);
  }
}

RowHandle TableShard::Insert(Key key) {
  CHECK(HasRoom(1));
  std::byte* block = blocks_[rows_ / block_rows_];
  const uint64_t slot = rows_ % block_rows_;
  const std::byte* row = block + slot * layout_.stride_bytes;
  const auto handle = static_cast<RowHandle>((row - base_) / RowArena::kHandleStep);
  reinterpret_cast<RowMeta*>(block + meta_offset_)[slot] = {key, cut_, 0};
  AddToIndex(key, handle);
  ++rows_;
  --free_rows_;
  return handle;
}

RowHandle TableShard::Create(Key key) {
  const RowHandle handle = Insert(key);
  layout_.InitRow(key, reinterpret_cast<float*>(RowAt(handle)));
  return handle;
}

}  // namespace freshet::ps
