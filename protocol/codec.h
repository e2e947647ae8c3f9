// SPDX-License-Identifier: Apache-2.0
// Packets from messages and back. Bodies are msgpack arrays, decoded by schema: every count is checked
// against the bytes that are there, so a hostile packet costs no more memory than a multiple of its size.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/result.h"
#include "protocol/buffer.h"
#include "protocol/ids.h"
#include "protocol/messages.h"
#include "protocol/span.h"

namespace freshet::protocol {

inline constexpr uint16_t kProtocolVersion = 1;
inline constexpr size_t kMaxBodyBytes = 32u << 20;
inline constexpr int kMaxDepth = 8;

// Frame 0.
struct Envelope {
  uint16_t version = kProtocolVersion;
  ClusterId cluster;
  Incarnation sender;  // 0 until registered
  RequestId request;   // 0 = unasked
  MessageType type = MessageType::kErrorReply;
  static auto Fields(auto& self, auto&& f) {
    return f(self.version, self.cluster, self.sender, self.request, self.type);
  }
};

// Appends msgpack values. One writer per body.
class BodyWriter {
 public:
  BodyWriter();
  ~BodyWriter();
  void BeginArray(size_t size);
  void Uint(uint64_t value);
  void Int(int64_t value);
  void Float(float value);
  void Double(double value);
  void Nil();
  void Text(std::string_view value);
  void Bytes(const void* data, size_t size);
  Buffer Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Reads what BodyWriter wrote. Every call returns false on a mismatch and the reader stays failed.
class BodyReader {
 public:
  // Checks sizes, depth and counts of the whole body first.
  explicit BodyReader(const Buffer& body);
  ~BodyReader();
  bool ok() const { return ok_; }
  bool BeginArray(size_t* size);
  bool EndArray();
  bool Uint(uint64_t* value);
  bool Int(int64_t* value);
  bool Double(double* value);
  // True, and consumed, if the next value is nil.
  bool TryNil();
  bool Text(std::string* value);
  // A view into the body.
  bool Bytes(std::string_view* value);
  // Nothing may follow.
  bool AtEnd();

 private:
  struct Impl;
  bool Failed() {
    ok_ = false;
    return false;
  }
  std::unique_ptr<Impl> impl_;
  bool ok_ = false;
};

namespace codec_detail {

template <class T>
concept HasFields = requires(T& t) {
  T::Fields(t, [](auto&...) {});
};
template <class T>
concept IsId = requires(T t) {
  typename T::Value;
  { t.value() } -> std::convertible_to<typename T::Value>;
};
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

}  // namespace codec_detail

template <class T>
void WriteValue(BodyWriter& w, const T& value);
template <class T>
bool ReadValue(BodyReader& r, T& value);

inline void WriteValue(BodyWriter& w, const std::string& value) { w.Text(value); }
inline bool ReadValue(BodyReader& r, std::string& value) { return r.Text(&value); }
void WriteValue(BodyWriter& w, const SpanSet& value);
bool ReadValue(BodyReader& r, SpanSet& value);
void WriteValue(BodyWriter& w, const AppliedSets& value);
bool ReadValue(BodyReader& r, AppliedSets& value);
void WriteValue(BodyWriter& w, const Span& value);
bool ReadValue(BodyReader& r, Span& value);
void WriteValue(BodyWriter& w, const std::map<std::string, std::string>& value);
bool ReadValue(BodyReader& r, std::map<std::string, std::string>& value);

template <class T>
void WriteVector(BodyWriter& w, const std::vector<T>& values) {
  if constexpr (std::is_arithmetic_v<T>) {
    w.Bytes(values.data(), values.size() * sizeof(T));
  } else {
    w.BeginArray(values.size());
    for (const T& value : values) WriteValue(w, value);
  }
}

template <class T>
bool ReadVector(BodyReader& r, std::vector<T>& values) {
  if constexpr (std::is_arithmetic_v<T>) {
    std::string_view bytes;
    if (!r.Bytes(&bytes) || bytes.size() % sizeof(T) != 0) return false;
    values.resize(bytes.size() / sizeof(T));
    if (!bytes.empty()) __builtin_memcpy(values.data(), bytes.data(), bytes.size());
    return true;
  } else {
    size_t size = 0;
    if (!r.BeginArray(&size)) return false;
    values.clear();
    for (size_t i = 0; i < size; ++i) {
      if (!ReadValue(r, values.emplace_back())) return false;
    }
    return r.EndArray();
  }
}

template <class T>
void WriteValue(BodyWriter& w, const T& value) {
  if constexpr (codec_detail::HasFields<const T>) {
    T::Fields(value, [&w](const auto&... fields) {
      w.BeginArray(sizeof...(fields));
      (WriteValue(w, fields), ...);
    });
  } else if constexpr (codec_detail::IsId<T>) {
    w.Uint(value.value());
  } else if constexpr (std::is_enum_v<T>) {
    w.Uint(static_cast<uint64_t>(value));
  } else if constexpr (codec_detail::IsVector<T>::value) {
    WriteVector(w, value);
  } else if constexpr (codec_detail::IsOptional<T>::value) {
    if (value) {
      WriteValue(w, *value);
    } else {
      w.Nil();
    }
  } else if constexpr (std::is_same_v<T, double>) {
    w.Double(value);
  } else if constexpr (std::is_same_v<T, float>) {
    w.Float(value);
  } else if constexpr (std::is_signed_v<T>) {
    w.Int(value);
  } else {
    static_assert(std::is_unsigned_v<T>);
    w.Uint(value);
  }
}

template <class Integer>
bool ReadUint(BodyReader& r, Integer* out) {
  uint64_t raw = 0;
  if (!r.Uint(&raw) || raw > std::numeric_limits<Integer>::max()) return false;
  *out = static_cast<Integer>(raw);
  return true;
}

template <class T>
bool ReadValue(BodyReader& r, T& value) {
  if constexpr (codec_detail::HasFields<T>) {
    return T::Fields(value, [&r](auto&... fields) {
      size_t size = 0;
      return r.BeginArray(&size) && size == sizeof...(fields) && (ReadValue(r, fields) && ...) &&
             r.EndArray();
    });
  } else if constexpr (codec_detail::IsId<T>) {
    typename T::Value raw = 0;
    if (!ReadUint(r, &raw)) return false;
    value = T(raw);
    return true;
  } else if constexpr (std::is_enum_v<T>) {
    std::underlying_type_t<T> raw = 0;
    if (!ReadUint(r, &raw) || static_cast<T>(raw) < EnumRange<T>::first ||
        static_cast<T>(raw) > EnumRange<T>::last) {
      return false;
    }
    value = static_cast<T>(raw);
    return true;
  } else if constexpr (codec_detail::IsVector<T>::value) {
    return ReadVector(r, value);
  } else if constexpr (codec_detail::IsOptional<T>::value) {
    value.reset();
    if (r.TryNil()) return true;
    return ReadValue(r, value.emplace());
  } else if constexpr (std::is_floating_point_v<T>) {
    double raw = 0;
    if (!r.Double(&raw)) return false;
    value = static_cast<T>(raw);
    return true;
  } else if constexpr (std::is_signed_v<T>) {
    int64_t raw = 0;
    if (!r.Int(&raw) || raw < std::numeric_limits<T>::min() ||
        raw > std::numeric_limits<T>::max()) {
      return false;
    }
    value = static_cast<T>(raw);
    return true;
  } else {
    static_assert(std::is_unsigned_v<T>);
    return ReadUint(r, &value);
  }
}

// Any struct with a field list, alone: for what is kept on disk.
template <class T>
Buffer EncodeStruct(const T& value) {
  BodyWriter writer;
  WriteValue(writer, value);
  return writer.Finish();
}

template <class T>
base::Result<T> DecodeStruct(const Buffer& bytes, std::string_view what) {
  BodyReader reader(bytes);
  T value;
  if (!reader.ok() || !ReadValue(reader, value) || !reader.AtEnd()) {
    return base::Fail(base::ErrorCode::kCorrupt,
                      std::string(what) + " cannot be decoded: not what its format says");
  }
  return value;
}

// Who speaks; the same for every packet of a process.
struct Sender {
  ClusterId cluster;
  Incarnation incarnation;
};

template <class Message>
Packet EncodePacket(const Sender& sender, RequestId request, const Message& message,
                    std::vector<Buffer> arrays = {}) {
  Packet packet;
  packet.frames.reserve(2 + arrays.size());
  packet.frames.push_back(EncodeStruct(
      Envelope{kProtocolVersion, sender.cluster, sender.incarnation, request, Message::kType}));
  packet.frames.push_back(EncodeStruct(message));
  for (Buffer& array : arrays) packet.frames.push_back(std::move(array));
  return packet;
}

// kInvalidArgument for another protocol version (named), kCorrupt for anything unreadable.
base::Result<Envelope> DecodeEnvelope(const Packet& packet);

template <class Message>
base::Result<Message> DecodeBody(const Packet& packet) {
  if (packet.frames.size() < 2) {
    return base::Fail(base::ErrorCode::kCorrupt, "a packet without a body frame");
  }
  return DecodeStruct<Message>(packet.frames[1], "a message body");
}

// As DecodeBody, and the envelope must say that it is a Message.
template <class Message>
base::Result<Message> DecodeAs(const Packet& packet) {
  const auto envelope = DecodeEnvelope(packet);
  if (!envelope) return base::Fail(envelope.error().code, envelope.error().message);
  if (envelope->type != Message::kType) {
    return base::Fail(base::ErrorCode::kCorrupt, "a reply of another type than asked for");
  }
  return DecodeBody<Message>(packet);
}

}  // namespace freshet::protocol
