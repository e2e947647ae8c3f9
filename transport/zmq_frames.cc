// SPDX-License-Identifier: Apache-2.0
#include "transport/zmq_frames.h"

#include <zmq.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "base/check.h"

#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace freshet::transport {
namespace {

using protocol::Buffer;

// Below this a copy is cheaper than the two allocations and the shared counter of a hand-over.
constexpr size_t kCopyBelowBytes = 512;
constexpr size_t kFrameAlign = 8;

// ThreadSanitizer cannot see how the uninstrumented library passes a frame between its threads and
// ours, so the hand-over is told to it.
void HandOver([[maybe_unused]] void* token) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(token);
#endif
}

void TakeOver([[maybe_unused]] void* token) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(token);
#endif
}

// A zmq_msg_t that is closed when it goes.
class Message {
 public:
  Message() { zmq_msg_init(&message_); }
  explicit Message(size_t size) { CHECK(zmq_msg_init_size(&message_, size) == 0); }
  ~Message() { zmq_msg_close(&message_); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  zmq_msg_t* get() { return &message_; }
  std::byte* data() { return static_cast<std::byte*>(zmq_msg_data(&message_)); }
  size_t size() const { return zmq_msg_size(&message_); }
  bool more() { return zmq_msg_more(&message_) != 0; }

 private:
  zmq_msg_t message_;
};

using Owner = std::shared_ptr<const void>;

// Called by ZeroMQ, on whichever of its threads has sent the last byte.
void ReleaseOwner(void*, void* hint) {
  TakeOver(hint);
  delete static_cast<Owner*>(hint);
}

// 0 or an errno.
int SendMessage(void* socket, Message& message, int flags) {
  while (zmq_msg_send(message.get(), socket, flags | ZMQ_DONTWAIT) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int SendBytes(void* socket, std::span<const std::byte> bytes, int flags) {
  Message message(bytes.size());
  if (!bytes.empty()) std::memcpy(message.data(), bytes.data(), bytes.size());
  return SendMessage(socket, message, flags);
}

int SendBuffer(void* socket, const Buffer& buffer, int flags) {
  if (buffer.size() < kCopyBelowBytes) return SendBytes(socket, buffer.bytes(), flags);
  auto* owner = new Owner(buffer.owner());
  HandOver(owner);
  Message message;
  // ZeroMQ only reads what it sends; its interface lacks the const.
  const int made = zmq_msg_init_data(message.get(), const_cast<std::byte*>(buffer.data()),
                                     buffer.size(), &ReleaseOwner, owner);
  CHECK(made == 0);
  return SendMessage(socket, message, flags);
}

Buffer TakeBuffer(Message& message) {
  const auto address = reinterpret_cast<uintptr_t>(message.data());
  if (message.size() < kCopyBelowBytes || address % kFrameAlign != 0) {
    return Buffer::Copy(std::span<const std::byte>(message.data(), message.size()));
  }
  auto owner = std::make_shared<Message>();
  zmq_msg_move(owner->get(), message.get());
  const std::byte* data = owner->data();
  const size_t size = owner->size();
  return Buffer(std::move(owner), data, size);
}

}  // namespace

SendOutcome SendFrames(void* zmq_socket, const std::string* routing_id,
                       std::span<const Buffer> frames) {
  CHECK(!frames.empty());
  if (routing_id != nullptr) {
    const int error = SendBytes(zmq_socket, std::as_bytes(std::span(*routing_id)), ZMQ_SNDMORE);
    if (error == EAGAIN) return SendOutcome::kFull;
    if (error != 0) return SendOutcome::kUnreachable;
  }
  for (size_t i = 0; i < frames.size(); ++i) {
    const int flags = i + 1 < frames.size() ? ZMQ_SNDMORE : 0;
    const int error = SendBuffer(zmq_socket, frames[i], flags);
    if (error == 0) continue;
    // The pipe can die in the middle of a message. ZeroMQ then swallows frames until one ends the
    // message; without that frame it would swallow the next packet.
    if (i > 0 && flags != 0) SendBytes(zmq_socket, {}, 0);
    return error == EAGAIN ? SendOutcome::kFull : SendOutcome::kUnreachable;
  }
  return SendOutcome::kQueued;
}

ReceiveOutcome ReceiveFrames(void* zmq_socket, ReceiveLimits limits, ReceivedPacket& out) {
  out = {};
  bool first = true;
  bool too_many = false;
  while (true) {
    Message message;
    if (zmq_msg_recv(message.get(), zmq_socket, ZMQ_DONTWAIT) < 0) {
      if (errno == EINTR) continue;
      // Messages arrive whole, so nothing can be missing after a first frame.
      return ReceiveOutcome::kNothing;
    }
    out.bytes += message.size();
    const bool more = message.more();
    if (first && limits.has_routing_id) {
      out.routing_id.assign(reinterpret_cast<const char*>(message.data()), message.size());
    } else if (out.packet.frames.size() >= limits.max_frames) {
      too_many = true;
    } else {
      out.packet.frames.push_back(TakeBuffer(message));
    }
    first = false;
    if (!more) break;
  }
  if (too_many) return ReceiveOutcome::kTooManyFrames;
  return out.packet.frames.empty() ? ReceiveOutcome::kEmpty : ReceiveOutcome::kPacket;
}

}  // namespace freshet::transport
