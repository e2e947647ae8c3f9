// SPDX-License-Identifier: Apache-2.0
// TableSet: the tables of the cluster as one PS knows them: per id the schema and how its rows lie in
// memory, start and learn. Belongs to the PS loop. Tables are added while running and never removed, so
// a TableLayout stays where it is.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "protocol/table_schema.h"
#include "ps/optimizer.h"
#include "ps/row_init.h"

namespace freshet::ps {

struct TableLayout {
  protocol::TableId id;
  protocol::TableSchema schema;
  RowInit init;
  Optimizer optimizer;
  uint32_t dim = 0;
  uint32_t row_floats = 0;       // weights and optimizer state
  uint32_t stride_bytes = 0;     // from row to row in a block; a multiple of 16
  uint32_t min_block_bytes = 0;  // of a shard's first rows
  uint32_t max_block_bytes = 0;  // once a shard has outgrown its first block

  void InitRow(protocol::Key key, float* row) const {
    init.Fill(key, row);
    optimizer.InitState(row + dim);
  }
};

class TableSet {
 public:
  // What new rows start from; the same on every PS of a cluster.
  void set_seed(uint64_t seed);

  // Adding the same table again changes nothing. kInvalidArgument: the schema or the id is no good.
  // kConflict: the id is taken by another schema.
  base::Result<> Add(const protocol::Table& table);

  // nullptr if unknown.
  const TableLayout* Find(protocol::TableId id) const {
    return id.value() < layouts_.size() ? layouts_[id.value()].get() : nullptr;
  }
  const protocol::TableSchema* Schema(protocol::TableId id) const {
    const TableLayout* layout = Find(id);
    return layout == nullptr ? nullptr : &layout->schema;
  }

 private:
  uint64_t seed_ = 0;
  std::vector<std::unique_ptr<TableLayout>> layouts_;  // by id
};

}  // namespace freshet::ps
