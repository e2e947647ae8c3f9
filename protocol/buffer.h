// SPDX-License-Identifier: Apache-2.0
// Buffer: bytes that are shared, never copied on their way between a brain and a socket or a disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace freshet::protocol {

// Immutable once shared. The first byte is aligned to at least 8 bytes (64 when allocated here), so an
// array frame may be read in place. Thread safe to copy and release; whoever fills it does so first.
class Buffer {
 public:
  Buffer() = default;
  // Borrows bytes that `owner` keeps alive. `data` must be aligned to 8 bytes.
  Buffer(std::shared_ptr<const void> owner, const std::byte* data, size_t size)
      : owner_(std::move(owner)), data_(data), size_(size) {}

  // Uninitialised bytes to be filled through mutable_data() before the buffer is shared.
  static Buffer Allocate(size_t size);
  static Buffer Copy(std::span<const std::byte> bytes);
  static Buffer Copy(std::string_view text);

  const std::byte* data() const { return data_; }
  // Only the one who allocated it, and only before sharing.
  std::byte* mutable_data() { return const_cast<std::byte*>(data_); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // The buffer as whole little-endian elements; the caller has checked size() % sizeof(T) == 0.
  template <class T>
  std::span<const T> As() const {
    return {reinterpret_cast<const T*>(data_), size_ / sizeof(T)};
  }
  template <class T>
  std::span<T> MutableAs() {
    return {reinterpret_cast<T*>(mutable_data()), size_ / sizeof(T)};
  }
  const std::shared_ptr<const void>& owner() const { return owner_; }

 private:
  std::shared_ptr<const void> owner_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// What travels: frame 0 = envelope, 1 = body, 2.. = arrays.
struct Packet {
  std::vector<Buffer> frames;
};

}  // namespace freshet::protocol
