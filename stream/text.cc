// SPDX-License-Identifier: Apache-2.0
#include "stream/text.h"

#include <fmt/format.h>

#include <cstdint>

#include "base/config.h"
#include "base/json.h"

namespace freshet::stream {
std::string ToLowerAscii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = base::Utf8SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string Printable(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, kMaxPrintable)) {
    if (c >= 0x20 && c < 0x7F) {
      out += c;
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    }
  }
  if (text.size() > kMaxPrintable) out += "..";
  return out;
}

std::string Joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

std::string Suggest(std::string_view text, const std::vector<std::string>& candidates) {
  const auto nearest = base::NearestName(text.substr(0, 256), candidates);
  return nearest ? fmt::format(", did you mean '{}'?", *nearest) : "";
}

}  // namespace freshet::stream
