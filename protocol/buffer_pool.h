// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "protocol/buffer.h"

namespace freshet::protocol {

struct BufferPoolOptions {
  size_t max_kept_bytes = 32u << 20;  // of memory that nobody uses
};

// Gives the memory of released buffers to new ones: arrays of some hundred KiB a request otherwise cost
// malloc as much as their filling, and come from memory that no cache holds. Allocate belongs to one
// thread; buffers are released on any, also after the pool has gone.
class BufferPool {
 public:
  explicit BufferPool(BufferPoolOptions options = {});

  // As Buffer::Allocate.
  Buffer Allocate(size_t size);
  // Of memory that nobody uses; at most max_kept_bytes.
  size_t kept_bytes() const;

 private:
  struct Shelves;
  std::shared_ptr<Shelves> shelves_;
};

}  // namespace freshet::protocol
