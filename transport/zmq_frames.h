// SPDX-License-Identifier: Apache-2.0
// How buffers become ZeroMQ frames and back, without a copy where one would cost more than it
// saves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "protocol/buffer.h"

namespace freshet::transport {

enum class SendOutcome { kQueued, kFull, kUnreachable };

// Sends the packet as one multipart message, never blocking; `routing_id` (null for a DEALER) goes
// first. All of it is queued or none.
SendOutcome SendFrames(void* zmq_socket, const std::string* routing_id,
                       std::span<const protocol::Buffer> frames);

enum class ReceiveOutcome { kPacket, kNothing, kTooManyFrames, kEmpty };

struct ReceivedPacket {
  std::string routing_id;  // empty from a DEALER
  protocol::Packet packet;
  uint64_t bytes = 0;
};

struct ReceiveLimits {
  bool has_routing_id = false;
  size_t max_frames = 0;
};

// Takes one whole multipart message from the socket, never blocking. Every frame comes aligned to 8
// bytes. A message beyond the limits is read to its end and dropped.
ReceiveOutcome ReceiveFrames(void* zmq_socket, ReceiveLimits limits, ReceivedPacket& out);

}  // namespace freshet::transport
