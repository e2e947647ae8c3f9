// SPDX-License-Identifier: Apache-2.0
#include "protocol/buffer_pool.h"

#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace freshet::protocol {
namespace {

constexpr size_t kAlign = 64;
// Smaller ones are malloc's business.
constexpr size_t kSmallestBytes = 4096;
constexpr size_t kClasses = 16;  // 4 KiB << 0 .. 15 = 128 MiB

}  // namespace

// Memory by size, a power of two each.
struct BufferPool::Shelves {
  explicit Shelves(BufferPoolOptions limits) : options(limits) {}
  ~Shelves() {
    for (const auto& shelf : memory) {
      for (void* block : shelf) std::free(block);
    }
  }
  Shelves(const Shelves&) = delete;
  Shelves& operator=(const Shelves&) = delete;

  static size_t BytesOf(size_t size_class) { return kSmallestBytes << size_class; }

  void* Take(size_t size_class) {
    {
      const std::lock_guard lock(mutex);
      if (auto& shelf = memory[size_class]; !shelf.empty()) {
        void* block = shelf.back();
        shelf.pop_back();
        kept -= BytesOf(size_class);
        return block;
      }
    }
    void* block = std::aligned_alloc(kAlign, BytesOf(size_class));
    if (block == nullptr) throw std::bad_alloc();
    return block;
  }

  void Return(void* block, size_t size_class) {
    {
      const std::lock_guard lock(mutex);
      if (kept + BytesOf(size_class) <= options.max_kept_bytes) {
        memory[size_class].push_back(block);
        kept += BytesOf(size_class);
        return;
      }
    }
    std::free(block);
  }

  const BufferPoolOptions options;
  std::mutex mutex;
  std::array<std::vector<void*>, kClasses> memory;  // guarded by mutex, as is the next
  size_t kept = 0;
};

BufferPool::BufferPool(BufferPoolOptions options) : shelves_(std::make_shared<Shelves>(options)) {}

Buffer BufferPool::Allocate(size_t size) {
  if (size < kSmallestBytes || size > Shelves::BytesOf(kClasses - 1)) return Buffer::Allocate(size);
  const auto size_class =
      static_cast<size_t>(std::countr_zero(std::bit_ceil(size)) - std::countr_zero(kSmallestBytes));
  void* block = shelves_->Take(size_class);
  std::shared_ptr<const void> owner(block, [shelves = shelves_, size_class](void* released) {
    shelves->Return(released, size_class);
  });
  return Buffer(std::move(owner), static_cast<const std::byte*>(block), size);
}

size_t BufferPool::kept_bytes() const {
  const std::lock_guard lock(shelves_->mutex);
  return shelves_->kept;
}

}  // namespace freshet::protocol
