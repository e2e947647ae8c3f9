// SPDX-License-Identifier: Apache-2.0
// The one piece of JSON that is easy to get wrong: strings. For whole documents use a library.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace freshet::base {

// Appends `text` with quotes around it. Bytes that are no UTF-8 become U+FFFD, so the result is
// valid JSON whatever the input.
void AppendJsonString(std::string_view text, std::string& out);

// Bytes of the UTF-8 sequence that `text`, not empty, begins with; 0 if it begins with none. Table 3-7 of
// the Unicode standard: no overlong forms, surrogates or values above 10FFFF.
size_t Utf8SequenceLength(std::string_view text);

}  // namespace freshet::base
