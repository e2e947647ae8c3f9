// SPDX-License-Identifier: Apache-2.0
// TableShard: the rows of one table in one partition: an open hash from key to row handle, and rows in
// blocks of the arena. Belongs to the PS loop; borrows the arena and its table's layout. It fails only in
// Reserve, when the arena is at its limit. Pointers to rows hold until the next Reserve.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "protocol/table_schema.h"
#include "ps/row_arena.h"

namespace freshet::ps {

struct TableLayout;

// What is known of a row beside its floats; at the tail of the row's block, so that pulls never load it
// and a block can be walked without the index.
struct RowMeta {
  protocol::Key key = 0;
  uint32_t cut = 0;    // number of the image cut that will hold the last change
  uint32_t count = 0;  // updates
};

// One cache line of the index.
struct alignas(64) IndexBucket {
  static constexpr uint32_t kEntries = 5;
  protocol::Key keys[kEntries];
  RowHandle handles[kEntries];  // filled from the front; 0 = free
  uint32_t overflow;            // 1 = a key that belongs here lies in a bucket behind
};
static_assert(sizeof(IndexBucket) == 64);

class TableShard {
 public:
  TableShard(const TableLayout& layout, RowArena& arena);
  ~TableShard();
  TableShard(const TableShard&) = delete;
  TableShard& operator=(const TableShard&) = delete;

  // The hot path in parts, so that a batch can fetch memory ahead of each part.
  const IndexBucket* HomeOf(protocol::Key key) const;
  // The row of `key` or 0; `home` is its HomeOf.
  RowHandle Find(const IndexBucket* home, protocol::Key key) const;
  std::byte* RowAt(RowHandle handle) const {
    return base_ + size_t{handle} * RowArena::kHandleStep;
  }
  RowMeta* MetaOf(std::byte* row) const;

  RowHandle Find(protocol::Key key) const { return Find(HomeOf(key), key); }

  // Room for `more` keys that are not there yet; a failure changes nothing that can be seen.
  // kResourceExhausted: the arena is at its limit.
  base::Result<> Reserve(uint64_t more);
  bool HasRoom(uint64_t more) const { return more <= free_rows_ && rows_ + more <= index_rows_; }

  // Adds a row for a key that has none; room has been reserved. The row's floats are not set; its meta
  // is {key, the current cut, 0}.
  RowHandle Insert(protocol::Key key);
  // The same with the initial value.
  RowHandle Create(protocol::Key key);

  // Rows that change from now on carry this number.
  void set_cut(uint32_t cut) { cut_ = cut; }
  uint32_t cut() const { return cut_; }

  const TableLayout& layout() const { return layout_; }
  uint64_t rows() const { return rows_; }
  // Taken from the arena.
  uint64_t bytes() const;

  // The rows of one block, in the order they were created.
  struct Block {
    std::byte* rows = nullptr;  // every stride_bytes
    RowMeta* metas = nullptr;
    uint32_t count = 0;
  };
  size_t blocks() const { return blocks_.size(); }
  Block BlockAt(size_t i) const;

 private:
  bool GrowFirstBlock(uint64_t rows);
  bool GrowRows(uint64_t rows);
  bool GrowIndex(uint64_t rows);
  void SetBlockBytes(uint32_t bytes);
  void AddToIndex(protocol::Key key, RowHandle handle);
  void Redirect(protocol::Key key, RowHandle handle);
  IndexBucket* Buckets() { return const_cast<IndexBucket*>(buckets_); }

  const TableLayout& layout_;
  RowArena& arena_;
  std::byte* base_;
  const IndexBucket* buckets_;
  uint64_t bucket_mask_ = 0;
  uint64_t salt_;
  uint64_t rows_ = 0;
  uint64_t index_rows_ = 0;  // the index has room for so many
  uint64_t free_rows_ = 0;   // slots in blocks_ that hold no row
  // All blocks have the same size; while there is only one it may be smaller than the layout's usual.
  std::vector<std::byte*> blocks_;
  uint32_t block_bytes_ = 0;
  uint32_t block_rows_ = 0;
  uint32_t meta_offset_ = 0;
  uint64_t stride_reciprocal_ = 0;  // ceil(2^32 / steps of 16 bytes)
  uint32_t cut_ = 1;
};

inline const IndexBucket* TableShard::HomeOf(protocol::Key key) const {
  return buckets_ + (base::Mix64(key ^ salt_) & bucket_mask_);
}

inline RowHandle TableShard::Find(const IndexBucket* home, protocol::Key key) const {
  for (const IndexBucket* bucket = home;;) {
    // No branch depends on where in the bucket the key lies; free entries have handle 0.
    RowHandle found = 0;
    for (uint32_t i = 0; i < IndexBucket::kEntries; ++i) {
      found |= bucket->keys[i] == key ? bucket->handles[i] : 0;
    }
    if (found != 0 || bucket->overflow == 0) [[likely]]
      return found;
    bucket = buckets_ + ((static_cast<uint64_t>(bucket - buckets_) + 1) & bucket_mask_);
  }
}

inline RowMeta* TableShard::MetaOf(std::byte* row) const {
  const auto offset = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(row) & (block_bytes_ - 1));
  // offset / stride: exact, since both are below 2^16 steps of 16 bytes.
  const uint64_t slot = uint64_t{offset / RowArena::kHandleStep} * stride_reciprocal_ >> 32;
  return reinterpret_cast<RowMeta*>(row - offset + meta_offset_) + slot;
}

}  // namespace freshet::ps
