// SPDX-License-Identifier: Apache-2.0
#include "master/bindings.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "stream/file_log.h"
#include "stream/schema.h"

namespace freshet::master {

using base::Fail;
using base::Result;

Result<std::optional<protocol::Buffer>> CellStateStore::Load() {
  auto blob = cell_.Read();
  if (blob) return protocol::Buffer::Copy(*blob);
  if (blob.error().code == base::ErrorCode::kNotFound) return std::nullopt;
  return Fail(blob.error().code, blob.error().message);
}

Result<> CellStateStore::Save(const protocol::Buffer& state) {
  return cell_.Write({reinterpret_cast<const char*>(state.data()), state.size()});
}

Result<protocol::Offset> FileLogProbe::SyncedEnd(const protocol::LogSpec& log) {
  auto schema = stream::LoadSchema(log.schema);
  if (!schema) return Fail(schema.error().code, schema.error().message);
  auto file = stream::FileLog::Open({log.path, std::move(*schema), log.epochs});
  if (!file) return Fail(file.error().code, file.error().message);
  return (*file)->end();
}

void EventFile::Write(const Event& event) {
  const nlohmann::ordered_json json = {{"seq", event.sequence},
                                       {"unix_ms", event.unix_ms},
                                       {"kind", event.kind},
                                       {"node", event.node},
                                       {"text", event.text}};
  out_ << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n'
       << std::flush;
}

}  // namespace freshet::master
