// SPDX-License-Identifier: Apache-2.0
#include "protocol/codec.h"

#include <limits>

#include <fmt/format.h>
#include <msgpack.hpp>

namespace freshet::protocol {
namespace {

// Lets msgpack walk the bytes without building anything; refuses what could not be there. Every element
// takes at least one byte, so the sum of all announced counts cannot exceed the body's size.
struct CountingVisitor : msgpack::null_visitor {
  explicit CountingVisitor(size_t bytes) : budget(bytes) {}
  bool Take(uint64_t count) {
    if (count > budget) return false;
    budget -= count;
    return true;
  }
  bool start_array(uint32_t count) { return ++depth <= kMaxDepth && Take(count); }
  bool end_array() {
    --depth;
    return true;
  }
  bool start_map(uint32_t) { return false; }
  bool visit_ext(const char*, uint32_t) { return false; }
  void parse_error(size_t, size_t) {}
  void insufficient_bytes(size_t, size_t) {}

  size_t budget;
  int depth = 0;
};

}  // namespace

struct BodyWriter::Impl {
  msgpack::sbuffer buffer;
  msgpack::packer<msgpack::sbuffer> packer{buffer};
};

BodyWriter::BodyWriter() : impl_(std::make_unique<Impl>()) {}
BodyWriter::~BodyWriter() = default;
void BodyWriter::BeginArray(size_t size) { impl_->packer.pack_array(static_cast<uint32_t>(size)); }
void BodyWriter::Uint(uint64_t value) { impl_->packer.pack_uint64(value); }
void BodyWriter::Int(int64_t value) { impl_->packer.pack_int64(value); }
void BodyWriter::Float(float value) { impl_->packer.pack_float(value); }
void BodyWriter::Double(double value) { impl_->packer.pack_double(value); }
void BodyWriter::Nil() { impl_->packer.pack_nil(); }
void BodyWriter::Text(std::string_view value) {
  impl_->packer.pack_str(static_cast<uint32_t>(value.size()));
  impl_->packer.pack_str_body(value.data(), static_cast<uint32_t>(value.size()));
}
void BodyWriter::Bytes(const void* data, size_t size) {
  impl_->packer.pack_bin(static_cast<uint32_t>(size));
  impl_->packer.pack_bin_body(static_cast<const char*>(data), static_cast<uint32_t>(size));
}
Buffer BodyWriter::Finish() {
  return Buffer::Copy(std::string_view(impl_->buffer.data(), impl_->buffer.size()));
}

struct BodyReader::Impl {
  struct Level {
    const msgpack::object* items;
    size_t size;
    size_t next;
  };
  const msgpack::object* Peek() const {
    const Level& top = levels.back();
    return top.next < top.size ? &top.items[top.next] : nullptr;
  }
  void Advance() { ++levels.back().next; }

  msgpack::object_handle root;
  std::vector<Level> levels;
};

BodyReader::BodyReader(const Buffer& body) : impl_(std::make_unique<Impl>()) {
  if (body.empty() || body.size() > kMaxBodyBytes) return;
  const char* data = reinterpret_cast<const char*>(body.data());
  try {
    CountingVisitor visitor(body.size());
    size_t offset = 0;
    if (!msgpack::parse(data, body.size(), offset, visitor) || offset != body.size()) return;
    const auto refer = [](msgpack::type::object_type, std::size_t, void*) { return true; };
    impl_->root = msgpack::unpack(data, body.size(), refer);
  } catch (const std::exception&) {
    return;
  }
  impl_->levels.push_back({&impl_->root.get(), 1, 0});
  ok_ = true;
}

BodyReader::~BodyReader() = default;

bool BodyReader::BeginArray(size_t* size) {
  const msgpack::object* item = ok_ ? impl_->Peek() : nullptr;
  if (item == nullptr || item->type != msgpack::type::ARRAY) return Failed();
  impl_->Advance();
  impl_->levels.push_back({item->via.array.ptr, item->via.array.size, 0});
  *size = item->via.array.size;
  return true;
}

bool BodyReader::EndArray() {
  if (!ok_ || impl_->levels.size() < 2 || impl_->Peek() != nullptr) return Failed();
  impl_->levels.pop_back();
  return true;
}

bool BodyReader::Uint(uint64_t* value) {
  const msgpack::object* item = ok_ ? impl_->Peek() : nullptr;
  if (item == nullptr || item->type != msgpack::type::POSITIVE_INTEGER) return Failed();
  *value = item->via.u64;
  impl_->Advance();
  return true;
}

bool BodyReader::Int(int64_t* value) {
  const msgpack::object* item = ok_ ? impl_->Peek() : nullptr;
  if (item == nullptr) return Failed();
  if (item->type == msgpack::type::NEGATIVE_INTEGER) {
    *value = item->via.i64;
  } else if (item->type == msgpack::type::POSITIVE_INTEGER &&
             item->via.u64 <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    *value = static_cast<int64_t>(item->via.u64);
  } else {
    return Failed();
  }
  impl_->Advance();
  return true;
}

bool BodyReader::Double(double* value) {
  const msgpack::object* item = ok_ ? impl_->Peek() : nullptr;
  if (item == nullptr) return Failed();
  switch (item->type) {
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64: *value = item->via.f64; break;
    // msgpack-c writes a float without fraction as an integer.
    case msgpack::type::POSITIVE_INTEGER: *value = static_cast<double>(item->via.u64); break;
    case msgpack::type::NEGATIVE_INTEGER: *value = static_cast<double>(item->via.i64); break;
    default: return Failed();
  }
  impl_->Advance();
  return true;
}

bool BodyReader::TryNil() {
  const msgpack::object* item = ok_ ? impl_->Peek() : nullptr;
  if (item == nullptr || item->type != msgpack::type::NIL) return false;
  impl_->Advance();
  return true;
}

bool BodyReader::Text(std::string* value) {
  const msgpack::object* item = ok_ ? impl_->Peek() : nullptr;
  if (item == nullptr || item->type != msgpack::type::STR) return Failed();
  value->assign(item->via.str.ptr, item->via.str.size);
  impl_->Advance();
  return true;
}

bool BodyReader::Bytes(std::string_view* value) {
  const msgpack::object* item = ok_ ? impl_->Peek() : nullptr;
  if (item == nullptr || item->type != msgpack::type::BIN) return Failed();
  *value = std::string_view(item->via.bin.ptr, item->via.bin.size);
  impl_->Advance();
  return true;
}

bool BodyReader::AtEnd() { return ok_ && impl_->levels.size() == 1 && impl_->Peek() == nullptr; }

void WriteValue(BodyWriter& w, const Span& value) {
  w.BeginArray(2);
  w.Uint(value.begin);
  w.Uint(value.end);
}

bool ReadValue(BodyReader& r, Span& value) {
  size_t size = 0;
  return r.BeginArray(&size) && size == 2 && r.Uint(&value.begin) && r.Uint(&value.end) &&
         value.begin <= value.end && value.end <= kMaxOffset && r.EndArray();
}

void WriteValue(BodyWriter& w, const SpanSet& value) {
  std::vector<uint64_t> edges;
  edges.reserve(value.spans().size() * 2);
  for (const Span& span : value.spans()) {
    edges.push_back(span.begin);
    edges.push_back(span.end);
  }
  WriteVector(w, edges);
}

bool ReadValue(BodyReader& r, SpanSet& value) {
  std::vector<uint64_t> edges;
  if (!ReadVector(r, edges) || edges.size() % 2 != 0) return false;
  if (!edges.empty() && edges.back() > kMaxOffset) return false;  // the highest, if they are sound
  std::vector<Span> spans;
  spans.reserve(edges.size() / 2);
  for (size_t i = 0; i < edges.size(); i += 2) spans.push_back({edges[i], edges[i + 1]});
  return SpanSet::FromSpans(std::move(spans), &value);
}

void WriteValue(BodyWriter& w, const AppliedSets& value) {
  w.BeginArray(value.logs().size() * 2);
  for (const LogSpanSet& entry : value.logs()) {
    w.Uint(entry.log.value());
    WriteValue(w, entry.set);
  }
}

bool ReadValue(BodyReader& r, AppliedSets& value) {
  size_t size = 0;
  if (!r.BeginArray(&size) || size % 2 != 0 || size / 2 > kMaxLogs) return false;
  value = AppliedSets();
  for (size_t i = 0; i < size / 2; ++i) {
    LogId log;
    SpanSet set;
    if (!ReadValue(r, log) || !ReadValue(r, set)) return false;
    if (!value.logs().empty() && value.logs().back().log >= log) return false;
    value.logs().push_back({log, std::move(set)});
  }
  return r.EndArray();
}

void WriteValue(BodyWriter& w, const std::map<std::string, std::string>& value) {
  w.BeginArray(value.size() * 2);
  for (const auto& [key, text] : value) {
    w.Text(key);
    w.Text(text);
  }
}

bool ReadValue(BodyReader& r, std::map<std::string, std::string>& value) {
  size_t size = 0;
  if (!r.BeginArray(&size) || size % 2 != 0) return false;
  value.clear();
  for (size_t i = 0; i < size / 2; ++i) {
    std::string key;
    std::string text;
    if (!r.Text(&key) || !r.Text(&text)) return false;
    value[key] = std::move(text);
  }
  return r.EndArray();
}

base::Result<Envelope> DecodeEnvelope(const Packet& packet) {
  if (packet.frames.empty() || packet.frames[0].size() > 128) {
    return base::Fail(base::ErrorCode::kCorrupt, "a packet without a sound envelope");
  }
  auto envelope = DecodeStruct<Envelope>(packet.frames[0], "an envelope");
  if (envelope && envelope->version != kProtocolVersion) {
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      fmt::format("a peer speaks protocol version {}, this program version {}: "
                                  "upgrade the older one",
                                  envelope->version, kProtocolVersion));
  }
  return envelope;
}

}  // namespace freshet::protocol
