// SPDX-License-Identifier: Apache-2.0
#include "protocol/buffer.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace freshet::protocol {

Buffer Buffer::Allocate(size_t size) {
  constexpr size_t kAlign = 64;
  const size_t rounded = (size + kAlign - 1) / kAlign * kAlign + (size == 0 ? kAlign : 0);
  void* memory = std::aligned_alloc(kAlign, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return Buffer(std::shared_ptr<const void>(memory, [](void* p) { std::free(p); }),
                static_cast<const std::byte*>(memory), size);
}

Buffer Buffer::Copy(std::span<const std::byte> bytes) {
  Buffer out = Allocate(bytes.size());
  if (!bytes.empty()) std::memcpy(out.mutable_data(), bytes.data(), bytes.size());
  return out;
}

Buffer Buffer::Copy(std::string_view text) {
  return Copy(std::as_bytes(std::span<const char>(text.data(), text.size())));
}

}  // namespace freshet::protocol
