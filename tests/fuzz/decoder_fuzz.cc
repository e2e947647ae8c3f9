// SPDX-License-Identifier: Apache-2.0
// Any bytes from a peer or a file, as an envelope, a body of any type, an image header or a block: an
// error or a value that can be sent on, never a crash or more memory than a multiple of the bytes.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "protocol/codec.h"
#include "protocol/image.h"
#include "tests/protocol/all_messages.h"

namespace freshet::protocol {
namespace {

template <class T>
void DecodeOne(const Buffer& bytes) {
  const auto value = DecodeStruct<T>(bytes, "fuzzed bytes");
  if (value) CHECK(DecodeStruct<T>(EncodeStruct(*value), "its own encoding").has_value());
}

void DecodeAll(uint8_t type, const Buffer& bytes) {
  Packet packet;
  packet.frames.push_back(bytes);
  (void)DecodeEnvelope(packet);
  ForEachMessage([&](auto message) {
    if (static_cast<uint8_t>(message.kType) == type) DecodeOne<decltype(message)>(bytes);
  });
  if (type == 0) {
    const auto header = DecodeImageHeader(bytes);
    if (header) CHECK(DecodeImageHeader(EncodeImageHeader(*header)).has_value());
    (void)ReadBlock(bytes);
  }
}

}  // namespace
}  // namespace freshet::protocol

// The first byte says which type the others are taken for.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace freshet::protocol;
  if (size == 0) return 0;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  DecodeAll(data[0], Buffer::Copy(std::span(bytes + 1, size - 1)));
  return 0;
}
