// SPDX-License-Identifier: Apache-2.0
// RowInit: the weights a row starts with, a function of (seed, table name, key) only, with the same bits
// on every machine. Immutable, any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "protocol/table_schema.h"

namespace freshet::ps {

class RowInit {
 public:
  RowInit() = default;
  // `schema` has passed ValidateTable.
  RowInit(const protocol::TableSchema& schema, uint64_t seed);

  // Writes the dim weights of the row `key`.
  void Fill(protocol::Key key, float* weights) const;

  // Also good as a salt: differs between tables and seeds.
  uint64_t table_seed() const { return table_seed_; }

 private:
  std::vector<protocol::InitSpec> specs_;  // ascending, without kZero
  uint64_t table_seed_ = 0;
  uint64_t row_step_ = 0;  // distance of neighbouring keys' first floats: dim if dense, else 0
  uint32_t dim_ = 0;
};

}  // namespace freshet::ps
