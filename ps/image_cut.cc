// SPDX-License-Identifier: Apache-2.0
#include "ps/image_cut.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace freshet::ps {
namespace {

using base::ErrorCode;
using base::Fail;
using protocol::BlockView;
using protocol::Buffer;

// Fills blocks of the image format one after another with a number of rows that is known before.
class BlockWriter {
 public:
  BlockWriter(const TableLayout& layout, uint64_t rows, std::vector<Buffer>* blocks)
      : layout_(layout), left_(rows), blocks_(blocks) {
    const uint64_t row_bytes =
        sizeof(uint64_t) + sizeof(uint32_t) + layout.row_floats * sizeof(float);
    // Room for the header and the padding of the counts.
    const uint64_t space = protocol::kBlockTargetBytes - protocol::kBlockHeaderBytes - 8;
    block_rows_ = std::max<uint64_t>(1, space / row_bytes);
  }

  // Rows that lie behind one another in a shard's block.
  void Add(const TableShard::Block& from, uint32_t begin, uint32_t end) {
    while (begin < end) {
      if (at_ == rows_) Open();
      const uint32_t count = std::min(end - begin, rows_ - at_);
      Copy(from, begin, count);
      begin += count;
      at_ += count;
    }
  }

 private:
  void Open() {
    rows_ = static_cast<uint32_t>(std::min(left_, block_rows_));
    left_ -= rows_;
    at_ = 0;
    Buffer block = Buffer::Allocate(protocol::BlockBytes(rows_, layout_.row_floats));
    protocol::WriteBlockHeader(block, layout_.id, rows_, layout_.row_floats);
    std::byte* keys = block.mutable_data() + protocol::kBlockHeaderBytes;
    keys_ = reinterpret_cast<uint64_t*>(keys);
    counts_ = reinterpret_cast<uint32_t*>(keys + rows_ * sizeof(uint64_t));
    values_ = reinterpret_cast<float*>(keys + rows_ * sizeof(uint64_t) +
                                       (rows_ + rows_ % 2) * sizeof(uint32_t));
    blocks_->push_back(std::move(block));
  }

  void Copy(const TableShard::Block& from, uint32_t begin, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      keys_[at_ + i] = from.metas[begin + i].key;
      counts_[at_ + i] = from.metas[begin + i].count;
    }
    const size_t row_bytes = layout_.row_floats * sizeof(float);
    const size_t stride = layout_.stride_bytes;
    auto* to = reinterpret_cast<std::byte*>(values_) + at_ * row_bytes;
    const std::byte* rows = from.rows + begin * stride;
    if (row_bytes == stride) {
      std::memcpy(to, rows, count * row_bytes);
      return;
    }
    for (uint32_t i = 0; i < count; ++i)
      std::memcpy(to + i * row_bytes, rows + i * stride, row_bytes);
  }

  const TableLayout& layout_;
  uint64_t left_;  // rows for which no block is open yet
  std::vector<Buffer>* blocks_;
  uint64_t block_rows_ = 0;
  // The open block.
  uint32_t rows_ = 0;
  uint32_t at_ = 0;
  uint64_t* keys_ = nullptr;
  uint32_t* counts_ = nullptr;
  float* values_ = nullptr;
};

}  // namespace

uint64_t CutRows(const TableShard& shard, const RowChoice& choice, std::vector<Buffer>* blocks) {
  const size_t end = std::min(choice.end, shard.blocks());
  const auto chosen = [&choice](const RowMeta& meta) {
    return !choice.after || meta.cut > *choice.after;
  };
  uint64_t rows = 0;
  for (size_t i = choice.begin; i < end; ++i) {
    const TableShard::Block block = shard.BlockAt(i);
    if (!choice.after) {
      rows += block.count;
      continue;
    }
    for (uint32_t j = 0; j < block.count; ++j) rows += chosen(block.metas[j]) ? 1 : 0;
  }
  if (rows == 0) return 0;
  BlockWriter writer(shard.layout(), rows, blocks);
  for (size_t i = choice.begin; i < end; ++i) {
    const TableShard::Block block = shard.BlockAt(i);
    if (!choice.after) {
      writer.Add(block, 0, block.count);
      continue;
    }
    for (uint32_t j = 0; j < block.count;) {
      uint32_t behind = j;
      while (behind < block.count && chosen(block.metas[behind])) ++behind;
      writer.Add(block, j, behind);
      j = behind + 1;
    }
  }
  return rows;
}

base::Result<std::vector<BlockView>> ReadBlocks(const std::vector<Buffer>& blocks,
                                                const TableSet& tables) {
  std::vector<BlockView> views;
  views.reserve(blocks.size());
  for (const Buffer& block : blocks) {
    auto view = protocol::ReadBlock(block);
    if (!view) return Fail(view.error().code, view.error().message);
    const TableLayout* layout = tables.Find(view->table);
    if (layout == nullptr) {
      return Fail(ErrorCode::kNotFound,
                  "image has rows of the unknown table " + std::to_string(view->table.value()));
    }
    if (view->row_floats != layout->row_floats) {
      return Fail(ErrorCode::kCorrupt, "image has rows of " + std::to_string(view->row_floats) +
                                           " floats, but table '" + layout->schema.name + "' of " +
                                           std::to_string(layout->row_floats));
    }
    views.push_back(*view);
  }
  return views;
}

void RestoreRows(const BlockView& block, TableShard* shard) {
  constexpr uint32_t kAhead = 16;
  const size_t row_bytes = block.row_floats * sizeof(float);
  for (uint32_t i = 0; i < block.rows; ++i) {
    if (i + kAhead < block.rows) __builtin_prefetch(shard->HomeOf(block.keys[i + kAhead]), 1, 3);
    RowHandle handle = shard->Find(block.keys[i]);
    if (handle == 0) handle = shard->Insert(block.keys[i]);
    std::byte* row = shard->RowAt(handle);
    std::memcpy(row, block.values + size_t{i} * block.row_floats, row_bytes);
    RowMeta* meta = shard->MetaOf(row);
    meta->cut = 0;
    meta->count = block.counts[i];
  }
}

}  // namespace freshet::ps
