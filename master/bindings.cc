// SPDX-License-Identifier: Apache-2.0
#include "master/bindings.h"

#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/log.h"
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

Result<std::unique_ptr<stream::FileLog>> FileLogProbe::Open(const protocol::LogSpec& log) const {
  auto schema = stream::LoadSchema(log.schema);
  if (!schema) return Fail(schema.error().code, schema.error().message);
  return stream::FileLog::Open(
      {log.path, std::move(*schema), log.epochs,
       log.follow ? stream::FileGrowth::kAppend : stream::FileGrowth::kNone});
}

Result<protocol::Offset> FileLogProbe::SyncedEnd(const protocol::LogSpec& log) {
  if (!log.follow) {
    const auto file = Open(log);
    if (!file) return tl::unexpected(file.error());
    return (*file)->end();
  }
  auto& [file, synced] = followed_[log.log];
  if (!file) {
    auto opened = Open(log);
    if (!opened) return tl::unexpected(opened.error());
    file = std::move(*opened);
    // Its name must last as well. Who may not look into the directory did not make the file.
    const std::string folder = std::filesystem::path(log.path).parent_path().string();
    if (auto named = base::SyncDirectory(folder); !named) {
      FRESHET_LOG_WARN("log {}: {}", log.name, named.error().message);
    }
  }
  if (auto extended = file->Extend(); !extended) return tl::unexpected(extended.error());
  // Rule G15: whoever writes the file may not sync it, so it is done here before anything is leased.
  if (file->end() != synced) {
    if (auto durable = file->Sync(); !durable) return tl::unexpected(durable.error());
    synced = file->end();
  }
  return synced;
}

void EventFile::Write(const Event& event) {
  const nlohmann::ordered_json json = {{"seq", event.sequence},
                                       {"unix_ms", event.unix_ms},
                                       {"kind", event.kind},
                                       {"node", event.node},
                                       {"text", event.text}};
  out_.clear();  // a disk that was full may have room again
  if (out_.tellp() > kMostEventBytes) {
    out_.close();
    std::error_code ignored;  // then it goes on growing
    std::filesystem::rename(path_, path_ + ".1", ignored);
    out_.open(path_, std::ios::app);
  }
  out_ << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n'
       << std::flush;
}

}  // namespace freshet::master
