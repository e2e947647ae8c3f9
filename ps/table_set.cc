// SPDX-License-Identifier: Apache-2.0
#include "ps/table_set.h"

#include <algorithm>
#include <bit>
#include <string>

#include "ps/row_arena.h"
#include "ps/table_shard.h"

namespace freshet::ps {
namespace {

using base::ErrorCode;

constexpr uint32_t kLineBytes = 64;
constexpr uint32_t kUsualBlockBytes = 64 * 1024;

constexpr uint32_t RoundUp(uint32_t bytes, uint32_t step) {
  return (bytes + step - 1) / step * step;
}

// Rows that begin on a cache line cost one load less; that is worth up to a quarter of the memory. A row
// of less than a line must at least not lie across two.
uint32_t StrideFor(uint32_t row_bytes) {
  if (row_bytes <= kLineBytes / 2) return std::bit_ceil(std::max<uint32_t>(row_bytes, 16));
  const uint32_t lines = RoundUp(row_bytes, kLineBytes);
  return lines - row_bytes <= row_bytes / 4 ? lines : RoundUp(row_bytes, RowArena::kHandleStep);
}

}  // namespace

void TableSet::set_seed(uint64_t seed) {
  seed_ = seed;
  for (auto& layout : layouts_) {
    if (layout != nullptr) layout->init = RowInit(layout->schema, seed);
  }
}

base::Result<> TableSet::Add(const protocol::Table& table) {
  if (auto ok = protocol::ValidateTable(table.schema); !ok) return ok;
  const size_t index = table.id.value();
  if (index >= protocol::kMaxTables) {
    return base::Fail(ErrorCode::kInvalidArgument,
                      "table '" + table.schema.name + "': id " + std::to_string(index) +
                          " is above the limit of " + std::to_string(protocol::kMaxTables));
  }
  if (const TableLayout* known = Find(table.id); known != nullptr) {
    if (known->schema == table.schema) return {};
    return base::Fail(ErrorCode::kConflict, "table id " + std::to_string(index) + " is taken by '" +
                                                known->schema.name + "'");
  }
  auto layout = std::make_unique<TableLayout>();
  layout->id = table.id;
  layout->schema = table.schema;
  layout->init = RowInit(table.schema, seed_);
  layout->optimizer = Optimizer(table.schema.optimizer, table.schema.dim);
  layout->dim = table.schema.dim;
  layout->row_floats = table.schema.dim + protocol::StateFloats(table.schema);
  layout->stride_bytes = StrideFor(layout->row_floats * sizeof(float));
  const auto slot_bytes = static_cast<uint32_t>(layout->stride_bytes + sizeof(RowMeta));
  layout->min_block_bytes = std::max<uint32_t>(RowArena::kMinBlockBytes, std::bit_ceil(slot_bytes));
  // A few rows at least, so that little is left over at a block's end.
  layout->max_block_bytes = std::max(kUsualBlockBytes, std::bit_ceil(8 * slot_bytes));
  if (layouts_.size() <= index) layouts_.resize(index + 1);
  layouts_[index] = std::move(layout);
  return {};
}

}  // namespace freshet::ps
