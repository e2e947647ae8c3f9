// SPDX-License-Identifier: Apache-2.0
// Every message there is, for tests that must not forget one, and values drawn for all their fields.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/random.h"
#include "protocol/codec.h"
#include "protocol/move_messages.h"

namespace freshet::protocol {

// f(Message()) for each; the codec test checks that none is missing.
template <class F>
void ForEachMessage(F&& f) {
  f(ErrorReply());
  f(RegisterRequest());
  f(RegisterReply());
  f(PsHeartbeat());
  f(WorkerHeartbeat());
  f(HeartbeatReply());
  f(ViewRequest());
  f(ViewReply());
  f(LeaseRequest());
  f(LeaseReply());
  f(DeclareTablesRequest());
  f(DeclareTablesReply());
  f(PullRequest());
  f(PullReply());
  f(PushRequest());
  f(PushReply());
  f(CheckpointRequest());
  f(CheckpointReply());
  f(AuditRequest());
  f(AuditReply());
  f(BackupRequest());
  f(BackupReply());
  f(CopyRequest());
  f(CopyReply());
  f(MoveReport());
  f(MoveReportReply());
}

// Any value that the codec must carry: extremes as often as small ones.
template <class T>
void DrawValue(base::Random& random, T& value);

inline uint64_t DrawInteger(base::Random& random) {
  switch (random.Below(4)) {
    case 0: return random.Below(3);
    case 1: return UINT64_MAX - random.Below(3);
    default: return random.Next() >> random.Below(64);
  }
}

inline void DrawValue(base::Random& random, std::string& value) {
  value.clear();
  for (size_t i = random.Below(40); i > 0; --i) value += static_cast<char>(random.Below(256));
}

inline void DrawValue(base::Random& random, Span& value) {
  value.begin = random.Next() >> (2 + random.Below(62));
  value.end = value.begin + random.Below(1000);
}

inline void DrawValue(base::Random& random, SpanSet& value) {
  value = SpanSet();
  for (size_t i = random.Below(5); i > 0; --i) {
    Span span;
    DrawValue(random, span);
    value.Add(span);
  }
}

inline void DrawValue(base::Random& random, AppliedSets& value) {
  value = AppliedSets();
  for (size_t i = random.Below(4); i > 0; --i) {
    DrawValue(random, value.Mutable(LogId(static_cast<uint16_t>(random.Below(5)))));
  }
}

inline void DrawValue(base::Random& random, std::map<std::string, std::string>& value) {
  value.clear();
  for (size_t i = random.Below(4); i > 0; --i) {
    std::string key;
    DrawValue(random, key);
    DrawValue(random, value[key]);
  }
}

template <class T>
void DrawValue(base::Random& random, std::vector<T>& value) {
  value.resize(random.Below(5));
  for (T& element : value) DrawValue(random, element);
}

template <class T>
void DrawValue(base::Random& random, std::optional<T>& value) {
  value.reset();
  if (random.Chance(0.5)) DrawValue(random, value.emplace());
}

template <class T>
void DrawValue(base::Random& random, T& value) {
  if constexpr (codec_detail::HasFields<T>) {
    T::Fields(value, [&random](auto&... fields) { (DrawValue(random, fields), ...); });
  } else if constexpr (codec_detail::IsId<T>) {
    value = T(static_cast<typename T::Value>(DrawInteger(random)));
  } else if constexpr (std::is_enum_v<T>) {
    const auto first = static_cast<uint64_t>(EnumRange<T>::first);
    const auto last = static_cast<uint64_t>(EnumRange<T>::last);
    value = static_cast<T>(first + random.Below(last - first + 1));
  } else if constexpr (std::is_same_v<T, bool>) {
    value = random.Chance(0.5);
  } else if constexpr (std::is_floating_point_v<T>) {
    // Whole numbers too: msgpack may write them another way.
    value = random.Chance(0.3) ? static_cast<T>(static_cast<int64_t>(random.Below(2000)) - 1000)
                               : static_cast<T>((random.Uniform() - 0.5) * 1e6);
  } else {
    value = static_cast<T>(DrawInteger(random));
  }
}

}  // namespace freshet::protocol
