// SPDX-License-Identifier: Apache-2.0
#include "ps/batch_ops.h"

#include <algorithm>
#include <cstring>

#include "ps/table_set.h"

namespace freshet::ps {
namespace {

using protocol::Key;

constexpr uint32_t kChunkKeys = 128;
constexpr size_t kLineBytes = 64;
// Of a long row only the beginning is fetched by hand; the processor follows by itself.
constexpr size_t kMaxFetchBytes = 512;

// Consecutive keys of one shard within a chunk.
struct Piece {
  TableShard* shard;
  uint32_t begin;  // into the request's keys
  uint32_t count;
};

// Up to kChunkKeys keys on their way through the steps.
struct Chunk {
  uint32_t pieces = 0;
  uint32_t keys = 0;
  Piece piece[kChunkKeys];
  const IndexBucket* home[kChunkKeys];
  std::byte* row[kChunkKeys];
};

// Cuts runs into chunks.
class ChunkReader {
 public:
  explicit ChunkReader(std::span<const RowRun> runs) : runs_(runs) {
    if (!runs_.empty()) at_ = runs_[0].begin;
  }

  // False at the end.
  bool Next(Chunk* chunk) {
    chunk->pieces = chunk->keys = 0;
    while (run_ < runs_.size() && chunk->keys < kChunkKeys) {
      const RowRun& run = runs_[run_];
      const uint32_t count = std::min(run.end - at_, kChunkKeys - chunk->keys);
      if (count > 0) {
        chunk->piece[chunk->pieces++] = {run.shard, at_, count};
        chunk->keys += count;
        at_ += count;
      }
      if (at_ == run.end && ++run_ < runs_.size()) at_ = runs_[run_].begin;
    }
    return chunk->keys > 0;
  }

 private:
  std::span<const RowRun> runs_;
  size_t run_ = 0;
  uint32_t at_ = 0;
};

// step(shard, index of the key in the request, index in the chunk) for every key.
template <class Step>
inline void ForEachKey(const Chunk& chunk, Step&& step) {
  uint32_t j = 0;
  for (uint32_t p = 0; p < chunk.pieces; ++p) {
    TableShard* shard = chunk.piece[p].shard;
    const uint32_t begin = chunk.piece[p].begin;
    const uint32_t count = chunk.piece[p].count;
    for (uint32_t i = 0; i < count; ++i, ++j) step(shard, begin + i, j);
  }
}

enum class Access { kRead, kWrite };

template <Access kAccess>
inline void Prefetch(const void* address) {
  __builtin_prefetch(address, kAccess == Access::kWrite ? 1 : 0, 3);
}

template <Access kAccess>
inline void PrefetchLines(const std::byte* from, size_t bytes) {
  bytes = std::min(bytes, kMaxFetchBytes);
  for (size_t at = 0; at < bytes; at += kLineBytes) Prefetch<kAccess>(from + at);
  // The last line as well, if the row begins in the middle of one.
  Prefetch<kAccess>(from + bytes - 1);
}

template <Access kAccess>
inline void FetchHomes(Chunk& chunk, const Key* keys) {
  ForEachKey(chunk, [&](TableShard* shard, uint32_t i, uint32_t j) {
    chunk.home[j] = shard->HomeOf(keys[i]);
    Prefetch<kAccess>(chunk.home[j]);
  });
}

// A key without a row gets the arena's base, which is never a row.
inline void FindForPull(Chunk& chunk, const Key* keys, size_t weight_bytes) {
  ForEachKey(chunk, [&](TableShard* shard, uint32_t i, uint32_t j) {
    chunk.row[j] = shard->RowAt(shard->Find(chunk.home[j], keys[i]));
    PrefetchLines<Access::kRead>(chunk.row[j], weight_bytes);
  });
}

inline void FindOrCreateForPush(Chunk& chunk, const Key* keys, size_t row_bytes) {
  ForEachKey(chunk, [&](TableShard* shard, uint32_t i, uint32_t j) {
    RowHandle handle = shard->Find(chunk.home[j], keys[i]);
    if (handle == 0) [[unlikely]]
      handle = shard->Create(keys[i]);
    chunk.row[j] = shard->RowAt(handle);
    PrefetchLines<Access::kWrite>(chunk.row[j], row_bytes);
    Prefetch<Access::kWrite>(shard->MetaOf(chunk.row[j]));
  });
}

// kDim 0: any dimension.
template <uint32_t kDim>
void PullAll(const TableLayout& layout, std::span<const RowRun> runs, const Key* keys, float* out) {
  const size_t bytes = (kDim != 0 ? kDim : layout.dim) * sizeof(float);
  const std::byte* no_row = runs[0].shard->RowAt(0);
  Chunk chunks[2];
  ChunkReader reader(runs);
  Chunk* next = &chunks[0];
  Chunk* now = &chunks[1];
  bool more = reader.Next(next);
  if (more) FetchHomes<Access::kRead>(*next, keys);
  while (more) {
    std::swap(now, next);
    FindForPull(*now, keys, bytes);
    // The buckets of the next chunk arrive while this one is copied.
    more = reader.Next(next);
    if (more) FetchHomes<Access::kRead>(*next, keys);
    ForEachKey(*now, [&](TableShard*, uint32_t i, uint32_t j) {
      float* to = out + size_t{i} * (kDim != 0 ? kDim : layout.dim);
      if (now->row[j] == no_row) [[unlikely]] {
        layout.init.Fill(keys[i], to);
      } else {
        std::memcpy(to, now->row[j], bytes);
      }
    });
  }
}

void PushAll(const TableLayout& layout, std::span<const RowRun> runs, const Key* keys,
             const float* gradients) {
  const size_t row_bytes = layout.row_floats * sizeof(float);
  float* row[kChunkKeys];
  const float* gradient[kChunkKeys];
  Chunk chunks[2];
  ChunkReader reader(runs);
  Chunk* next = &chunks[0];
  Chunk* now = &chunks[1];
  bool more = reader.Next(next);
  if (more) FetchHomes<Access::kRead>(*next, keys);
  while (more) {
    std::swap(now, next);
    FindOrCreateForPush(*now, keys, row_bytes);
    more = reader.Next(next);
    if (more) FetchHomes<Access::kRead>(*next, keys);
    ForEachKey(*now, [&](TableShard* shard, uint32_t i, uint32_t j) {
      row[j] = reinterpret_cast<float*>(now->row[j]);
      gradient[j] = gradients + size_t{i} * layout.dim;
      RowMeta* meta = shard->MetaOf(now->row[j]);
      meta->cut = shard->cut();
      meta->count += meta->count < UINT32_MAX ? 1 : 0;
    });
    layout.optimizer.Apply({row, now->keys}, {gradient, now->keys});
  }
}

uint64_t CountMissing(const TableShard& shard, std::span<const Key> keys) {
  return static_cast<uint64_t>(
      std::count_if(keys.begin(), keys.end(), [&shard](Key key) { return shard.Find(key) == 0; }));
}

}  // namespace

void PullRows(std::span<const RowRun> runs, std::span<const Key> keys, float* out) {
  if (runs.empty()) return;
  const TableLayout& layout = runs[0].shard->layout();
  switch (layout.dim) {
    case 1: return PullAll<1>(layout, runs, keys.data(), out);
    case 8: return PullAll<8>(layout, runs, keys.data(), out);
    case 16: return PullAll<16>(layout, runs, keys.data(), out);
    case 17: return PullAll<17>(layout, runs, keys.data(), out);
    case 32: return PullAll<32>(layout, runs, keys.data(), out);
    case 64: return PullAll<64>(layout, runs, keys.data(), out);
    default: return PullAll<0>(layout, runs, keys.data(), out);
  }
}

base::Result<> ReserveRows(std::span<const RowRun> runs, std::span<const Key> keys) {
  for (const RowRun& run : runs) {
    const auto mine = keys.subspan(run.begin, run.end - run.begin);
    const protocol::TableSchema& schema = run.shard->layout().schema;
    if (schema.kind == protocol::TableKind::kDense &&
        std::any_of(mine.begin(), mine.end(), [&](Key key) { return key >= schema.dense_rows; })) {
      return base::Fail(base::ErrorCode::kInvalidArgument,
                        "table '" + schema.name + "' has no such row");
    }
    if (run.shard->HasRoom(mine.size())) continue;
    // To look for every key costs as much as the push. A block more saves that for many pushes; a dense
    // table will not need it, and at the memory limit keys that have rows must not count.
    const bool sparse = schema.kind != protocol::TableKind::kDense;
    if (sparse && run.shard->Reserve(mine.size())) continue;
    if (auto ok = run.shard->Reserve(CountMissing(*run.shard, mine)); !ok) return ok;
  }
  return {};
}

void PushRows(std::span<const RowRun> runs, std::span<const Key> keys, const float* gradients) {
  if (!runs.empty()) PushAll(runs[0].shard->layout(), runs, keys.data(), gradients);
}

}  // namespace freshet::ps
