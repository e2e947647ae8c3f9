// SPDX-License-Identifier: Apache-2.0
#include "protocol/codec.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <set>

#include "tests/protocol/all_messages.h"

namespace freshet::protocol {
namespace {

Packet PacketOf(Buffer envelope, Buffer body) {
  Packet packet;
  packet.frames = {std::move(envelope), std::move(body)};
  return packet;
}

Buffer Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text += static_cast<char>(byte);
  return Buffer::Copy(text);
}

bool SameBytes(const Buffer& a, const Buffer& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

Buffer Prefix(const Buffer& buffer, size_t size) {
  return Buffer::Copy(buffer.bytes().first(size));
}

TEST(Codec, TheListOfMessagesIsComplete) {
  std::set<uint64_t> types;
  ForEachMessage([&](auto message) { types.insert(static_cast<uint64_t>(message.kType)); });
  const auto first = static_cast<uint64_t>(EnumRange<MessageType>::first);
  const auto last = static_cast<uint64_t>(EnumRange<MessageType>::last);
  for (uint64_t type = first; type <= last; ++type) {
    EXPECT_TRUE(types.contains(type)) << "add message " << type << " to all_messages.h";
  }
  EXPECT_EQ(types.size(), last - first + 1) << "EnumRange<MessageType> is out of date";
}

TEST(Codec, EveryMessageComesBackAsItWas) {
  base::Random random(1);
  ForEachMessage([&](auto message) {
    using Message = decltype(message);
    for (int i = 0; i < 100; ++i) {
      DrawValue(random, message);
      const Sender sender{ClusterId(random.Next()), Incarnation(random.Next())};
      const RequestId request(random.Next());
      const Packet packet = EncodePacket(sender, request, message, {Buffer::Copy("array")});
      const auto envelope = DecodeEnvelope(packet);
      ASSERT_TRUE(envelope.has_value());
      EXPECT_EQ(envelope->type, Message::kType);
      EXPECT_EQ(envelope->cluster, sender.cluster);
      EXPECT_EQ(envelope->sender, sender.incarnation);
      EXPECT_EQ(envelope->request, request);
      const auto decoded = DecodeAs<Message>(packet);
      ASSERT_TRUE(decoded.has_value()) << "type " << static_cast<int>(Message::kType);
      EXPECT_TRUE(SameBytes(EncodeStruct(*decoded), packet.frames[1]))
          << "type " << static_cast<int>(Message::kType);
      EXPECT_TRUE(SameBytes(packet.frames[2], Buffer::Copy("array")));
    }
  });
}

TEST(Codec, ABodyCutShortAtAnyByteIsRefused) {
  base::Random random(2);
  ForEachMessage([&](auto message) {
    using Message = decltype(message);
    for (int i = 0; i < 10; ++i) {
      DrawValue(random, message);
      const Packet packet = EncodePacket({}, RequestId(1), message);
      for (size_t size = 0; size < packet.frames[1].size(); ++size) {
        const auto decoded =
            DecodeBody<Message>(PacketOf(packet.frames[0], Prefix(packet.frames[1], size)));
        ASSERT_FALSE(decoded.has_value()) << static_cast<int>(Message::kType) << " at " << size;
        EXPECT_EQ(decoded.error().code, base::ErrorCode::kCorrupt);
      }
      for (size_t size = 0; size < packet.frames[0].size(); ++size) {
        EXPECT_FALSE(
            DecodeEnvelope(PacketOf(Prefix(packet.frames[0], size), packet.frames[1])).has_value());
      }
    }
  });
}

TEST(Codec, BytesBehindABodyAreRefused) {
  base::Random random(3);
  ForEachMessage([&](auto message) {
    DrawValue(random, message);
    const Buffer body = EncodeStruct(message);
    std::string longer(reinterpret_cast<const char*>(body.data()), body.size());
    longer += '\0';
    EXPECT_FALSE(DecodeStruct<decltype(message)>(Buffer::Copy(longer), "it").has_value());
  });
}

// Whatever the bytes are: an error or a value, and a value can be sent on.
TEST(Codec, DamagedBodiesNeverDoHarm) {
  base::Random random(4);
  uint64_t refused = 0;
  ForEachMessage([&](auto message) {
    using Message = decltype(message);
    for (int i = 0; i < 200; ++i) {
      DrawValue(random, message);
      const Buffer body = EncodeStruct(message);
      std::string bytes(reinterpret_cast<const char*>(body.data()), body.size());
      for (size_t flips = 1 + random.Below(4); flips > 0 && !bytes.empty(); --flips) {
        bytes[random.Below(bytes.size())] ^= static_cast<char>(1 + random.Below(255));
      }
      const auto decoded = DecodeStruct<Message>(Buffer::Copy(bytes), "it");
      refused += decoded ? 0 : 1;
      if (!decoded) continue;
      EXPECT_TRUE(DecodeStruct<Message>(EncodeStruct(*decoded), "it").has_value());
    }
  });
  EXPECT_GT(refused, 1000u);
}

TEST(Codec, AnAnnouncedCountBeyondTheBytesIsRefused) {
  // An array of 4 G elements, a string and a binary of 4 GB, a map of 4 G pairs.
  for (const int header : {0xdd, 0xdb, 0xc6, 0xdf}) {
    const auto decoded = DecodeStruct<PsHeartbeat>(Bytes({header, 0xff, 0xff, 0xff, 0xff}), "it");
    ASSERT_FALSE(decoded.has_value());
    EXPECT_EQ(decoded.error().code, base::ErrorCode::kCorrupt);
  }
  // Nested: every level announces what would fit alone.
  std::string nested;
  for (int i = 0; i < 6; ++i) nested += std::string("\xdc\xff\xff", 3);
  nested.resize(70'000, '\x01');
  EXPECT_FALSE(DecodeStruct<PsHeartbeat>(Buffer::Copy(nested), "it").has_value());
}

TEST(Codec, NestingBeyondTheLimitIsRefused) {
  EXPECT_FALSE(
      DecodeStruct<ViewReply>(Buffer::Copy(std::string(100'000, '\x91')), "it").has_value());
}

TEST(Codec, MapsExtensionsAndForeignTypesAreRefused) {
  EXPECT_FALSE(DecodeStruct<ViewRequest>(Bytes({0x81, 0x01, 0x02}), "it").has_value());
  EXPECT_FALSE(DecodeStruct<ViewRequest>(Bytes({0x91, 0xd4, 0x01, 0x02}), "it").has_value());
  EXPECT_FALSE(DecodeStruct<ViewRequest>(Bytes({0x91, 0xa1, 'x'}), "it").has_value());
  EXPECT_FALSE(DecodeStruct<ViewRequest>(Bytes({0x91, 0xff}), "it").has_value());  // -1
  EXPECT_TRUE(DecodeStruct<ViewRequest>(Bytes({0x91, 0x07}), "it").has_value());
}

TEST(Codec, NumbersBeyondTheirFieldAreRefused) {
  // PartitionId has 16 bits: {partition, tenure, applied_index, durable_index,
  // bytes, touched}.
  EXPECT_TRUE(DecodeStruct<PartitionReport>(Bytes({0x96, 0xcd, 0xff, 0xff, 1, 1, 1, 1, 1}), "it"));
  EXPECT_FALSE(DecodeStruct<PartitionReport>(Bytes({0x96, 0xce, 0, 1, 0, 0, 1, 1, 1, 1, 1}), "it"));
  // LeaseEnd goes from 0 to 2: {sequence, ended, how, wants_more}.
  EXPECT_TRUE(DecodeStruct<LeaseRequest>(Bytes({0x94, 1, 1, 2, 1}), "it"));
  EXPECT_FALSE(DecodeStruct<LeaseRequest>(Bytes({0x94, 1, 1, 3, 1}), "it"));
  // A boolean is 0 or 1.
  EXPECT_FALSE(DecodeStruct<LeaseRequest>(Bytes({0x94, 1, 1, 2, 2}), "it"));
}

// What a SpanSet looks like in a body, and the set itself.
struct Edges {
  std::vector<uint64_t> edges;
  static auto Fields(auto& self, auto&& f) { return f(self.edges); }
};
struct Set {
  SpanSet set;
  static auto Fields(auto& self, auto&& f) { return f(self.set); }
};

TEST(Codec, SpanSetsThatAreNotSoundAreRefused) {
  const auto decode = [](std::vector<uint64_t> edges) {
    return DecodeStruct<Set>(EncodeStruct(Edges{std::move(edges)}), "a set").has_value();
  };
  EXPECT_TRUE(decode({}));
  EXPECT_TRUE(decode({0, 5, 7, 9}));
  EXPECT_FALSE(decode({0, 5, 7}));        // odd
  EXPECT_FALSE(decode({5, 5}));           // empty
  EXPECT_FALSE(decode({5, 3}));           // backwards
  EXPECT_FALSE(decode({0, 5, 5, 9}));     // not merged
  EXPECT_FALSE(decode({7, 9, 0, 5}));     // not in order
  EXPECT_FALSE(decode({0, UINT64_MAX}));  // beyond any log
}

TEST(Codec, AnEnvelopeOfAnotherVersionIsNamed) {
  const Packet packet = PacketOf(EncodeStruct(Envelope{.version = 7}), EncodeStruct(ViewRequest()));
  const auto envelope = DecodeEnvelope(packet);
  ASSERT_FALSE(envelope.has_value());
  EXPECT_EQ(envelope.error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_NE(envelope.error().message.find("version 7"), std::string::npos);
}

TEST(Codec, AReplyOfAnotherTypeIsRefused) {
  const Packet packet = EncodePacket({}, RequestId(1), CheckpointRequest());
  EXPECT_FALSE(DecodeAs<AuditRequest>(packet).has_value());
  EXPECT_TRUE(DecodeAs<CheckpointRequest>(packet).has_value());
}

TEST(Codec, PacketsWithoutTheirFramesAreRefused) {
  EXPECT_FALSE(DecodeEnvelope(Packet()).has_value());
  Packet packet;
  packet.frames.push_back(EncodeStruct(Envelope()));
  EXPECT_FALSE(DecodeBody<ViewRequest>(packet).has_value());
  packet.frames.emplace_back();
  EXPECT_FALSE(DecodeBody<ViewRequest>(packet).has_value());
}

}  // namespace
}  // namespace freshet::protocol
