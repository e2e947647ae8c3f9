// SPDX-License-Identifier: Apache-2.0
// Feeds bytes of a stranger to everything that decodes them: the envelope, every message, the cluster's
// state on disk, image headers and blocks. What decodes is encoded and decoded again: the same must
// come out. Nothing may crash, leak, or allocate beyond a multiple of the input.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "protocol/codec.h"
#include "protocol/image.h"
#include "protocol/messages.h"
#include "protocol/view.h"

namespace freshet::protocol {
namespace {

template <class Message>
void Check(const Buffer& bytes) {
  const auto decoded = DecodeStruct<Message>(bytes, "input");
  if (!decoded) return;
  const Buffer once = EncodeStruct(*decoded);
  const auto again = DecodeStruct<Message>(once, "own output");
  if (!again) std::abort();
  const Buffer twice = EncodeStruct(*again);
  if (once.size() != twice.size() ||
      !std::equal(once.bytes().begin(), once.bytes().end(), twice.bytes().begin())) {
    std::abort();
  }
}

template <class... Messages>
void CheckAll(const Buffer& bytes) {
  (Check<Messages>(bytes), ...);
}

}  // namespace
}  // namespace freshet::protocol

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace freshet::protocol;
  const Buffer bytes = Buffer::Copy(std::as_bytes(std::span(data, size)));
  CheckAll<Envelope, ErrorReply, RegisterRequest, RegisterReply, PsHeartbeat, WorkerHeartbeat,
           HeartbeatReply, ViewRequest, ViewReply, LeaseRequest, LeaseReply, DeclareTablesRequest,
           DeclareTablesReply, PullRequest, PullReply, PushRequest, PushReply, CheckpointRequest,
           CheckpointReply, AuditRequest, AuditReply>(bytes);
  if (const auto view = DecodeStruct<View>(bytes, "view")) (void)ValidateView(*view);
  Packet packet;
  packet.frames = {bytes, bytes};
  (void)DecodeEnvelope(packet);
  (void)DecodeImageHeader(bytes);
  (void)ReadBlock(bytes);
  return 0;
}
