// SPDX-License-Identifier: Apache-2.0
#include "master/admin_target.h"

#include <utility>

namespace freshet::master {
namespace {

constexpr size_t kMaxQueryFields = 64;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

base::Result<std::string> Decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return base::Fail(base::ErrorCode::kInvalidArgument,
                        "'%' in the request's target without two hexadecimal digits");
    }
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

}  // namespace

base::Result<AdminTarget> ParseAdminTarget(std::string_view target) {
  if (target.empty() || target[0] != '/') {
    return base::Fail(base::ErrorCode::kInvalidArgument,
                      "the request's target does not start with '/'");
  }
  AdminTarget out;
  const size_t question = target.find('?');
  base::Result<std::string> path = Decode(target.substr(0, question));
  if (!path) return tl::unexpected(path.error());
  out.path = std::move(*path);
  if (question == std::string_view::npos) return out;
  std::string_view rest = target.substr(question + 1);
  for (size_t fields = 0; !rest.empty(); ++fields) {
    if (fields == kMaxQueryFields) {
      return base::Fail(base::ErrorCode::kInvalidArgument,
                        "too many fields in the request's query");
    }
    const size_t end = rest.find('&');
    const std::string_view field = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (field.empty()) continue;
    const size_t equals = field.find('=');
    base::Result<std::string> name = Decode(field.substr(0, equals));
    if (!name) return tl::unexpected(name.error());
    base::Result<std::string> value =
        Decode(equals == std::string_view::npos ? std::string_view() : field.substr(equals + 1));
    if (!value) return tl::unexpected(value.error());
    out.query[*name] = std::move(*value);
  }
  return out;
}

}  // namespace freshet::master
