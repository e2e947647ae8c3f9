// SPDX-License-Identifier: Apache-2.0
// Result<T>: what an operation that can fail returns. Exceptions do not cross folders.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace freshet::base {

// Numbers are explicit: they travel in replies and are never reused.
enum class ErrorCode : uint8_t {
  kFailed = 1,           // anything without a better word
  kInvalidArgument = 2,  // the caller's input is wrong; retrying does not help
  kNotFound = 3,
  kConflict = 4,           // the state forbids it (older stamp, other owner, name taken)
  kTimeout = 5,            // a deadline passed; the operation may or may not have happened
  kUnreachable = 6,        // the peer cannot be reached
  kCorrupt = 7,            // bytes that cannot be what was written
  kIo = 8,                 // the operating system failed us (disk, file)
  kUnavailable = 9,        // not now; retry later
  kResourceExhausted = 10  // a bound was reached
};

std::string_view ErrorCodeName(ErrorCode code);

// Exit codes of every program: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 timeout, 69 unreachable.
int ExitCodeFor(ErrorCode code);

// `message` names the thing and the remedy; it is shown to people.
struct Error {
  ErrorCode code = ErrorCode::kFailed;
  std::string message;
};

template <class T = void>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> Fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace freshet::base
