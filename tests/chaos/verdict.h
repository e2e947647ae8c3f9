// SPDX-License-Identifier: Apache-2.0
// How a chaos run ended.
#pragma once

#include <cstdint>

namespace freshet::chaos {

enum class Verdict : uint8_t {
  kExact,   // everything planned happened, records flowed throughout, every audit was exact
  kFailed,  // an audit was not, or the cluster did not recover
  kVoid,    // it proves nothing: not everything happened, or the records did not flow
};

}  // namespace freshet::chaos
