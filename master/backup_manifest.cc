// SPDX-License-Identifier: Apache-2.0
#include "master/backup_manifest.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/version.h"

namespace freshet::master {

using base::ErrorCode;
using base::Fail;
using base::Result;
using nlohmann::ordered_json;
using protocol::BackupFile;
using protocol::LogWatermark;

namespace {

// Numbers of 64 bits that mean nothing as numbers: a JSON reader may round those.
std::string Hex(uint64_t value) { return fmt::format("{:016x}", value); }

ordered_json PartJson(const BackupPart& part) {
  return {{"bytes", part.bytes}, {"checksum", Hex(part.checksum)}};
}

ordered_json WatermarksJson(const std::vector<LogWatermark>& watermarks) {
  ordered_json json = ordered_json::array();
  for (const LogWatermark& entry : watermarks) {
    json.push_back({{"log", entry.log.value()}, {"offset", entry.watermark}});
  }
  return json;
}

// Reads members; remembers the first that is absent or of another type.
class Object {
 public:
  Object(const ordered_json& json, bool& sound) : json_(json), sound_(sound) {
    if (!json.is_object()) sound_ = false;
  }

  const ordered_json& Member(const char* key) const {
    static const ordered_json kNull;
    if (json_.is_object()) {
      if (const auto it = json_.find(key); it != json_.end()) return *it;
    }
    sound_ = false;
    return kNull;
  }
  bool Has(const char* key) const { return json_.is_object() && json_.contains(key); }
  template <class T>
  T Number(const char* key) const {
    const ordered_json& member = Member(key);
    const uint64_t value = member.is_number_unsigned() ? member.get<uint64_t>() : 0;
    if (!member.is_number_unsigned() || value > std::numeric_limits<T>::max()) sound_ = false;
    return static_cast<T>(value);
  }
  std::string Text(const char* key) const {
    const ordered_json& member = Member(key);
    if (!member.is_string()) sound_ = false;
    return member.is_string() ? member.get<std::string>() : "";
  }
  uint64_t Hash(const char* key) const {
    const std::string text = Text(key);
    uint64_t value = 0;
    const char* end = text.data() + text.size();
    if (text.size() != 16 || std::from_chars(text.data(), end, value, 16).ptr != end) {
      sound_ = false;
    }
    return value;
  }
  const ordered_json& List(const char* key) const {
    const ordered_json& member = Member(key);
    if (!member.is_array()) sound_ = false;
    return member;
  }
  BackupPart Part(const char* key) const {
    const Object part(Member(key), sound_);
    return {part.Number<uint64_t>("bytes"), part.Hash("checksum")};
  }
  std::vector<LogWatermark> Watermarks(const char* key) const {
    std::vector<LogWatermark> out;
    for (const ordered_json& entry : List(key)) {
      const Object watermark(entry, sound_);
      out.push_back({protocol::LogId(watermark.Number<uint16_t>("log")),
                     watermark.Number<uint64_t>("offset")});
    }
    return out;
  }

 private:
  const ordered_json& json_;
  bool& sound_;
};

BackupFile ReadFileEntry(const ordered_json& json, bool& sound) {
  const Object entry(json, sound);
  BackupFile file;
  file.partition = protocol::PartitionId(entry.Number<uint16_t>("partition"));
  file.name = entry.Text("file");
  file.tenure = protocol::Tenure(entry.Number<uint64_t>("tenure"));
  file.version = entry.Number<uint64_t>("version");
  file.bytes = entry.Number<uint64_t>("bytes");
  file.checksum = entry.Hash("checksum");
  file.watermarks = entry.Watermarks("watermarks");
  // A name leads nowhere but into the backup's own directory.
  if (file.name.empty() || file.name[0] == '.' || file.name.find('/') != std::string::npos) {
    sound = false;
  }
  return file;
}

}  // namespace

std::vector<LogWatermark> LowestWatermarks(const std::vector<BackupFile>& files) {
  struct Lowest {
    protocol::Offset offset = UINT64_MAX;
    size_t files = 0;
  };
  std::map<protocol::LogId, Lowest> lowest;
  for (const BackupFile& file : files) {
    for (const LogWatermark& entry : file.watermarks) {
      Lowest& low = lowest[entry.log];
      low.offset = std::min(low.offset, entry.watermark);
      ++low.files;
    }
  }
  std::vector<LogWatermark> out;
  for (const auto& [log, low] : lowest) {
    out.push_back({log, low.files == files.size() ? low.offset : 0});
  }
  return out;
}

std::string EncodeManifest(const BackupManifest& manifest) {
  ordered_json files = ordered_json::array();
  for (const BackupFile& file : manifest.files) {
    files.push_back({{"partition", file.partition.value()},
                     {"file", file.name},
                     {"tenure", file.tenure.value()},
                     {"version", file.version},
                     {"bytes", file.bytes},
                     {"checksum", Hex(file.checksum)},
                     {"watermarks", WatermarksJson(file.watermarks)}});
  }
  ordered_json json = {{"format", kBackupFormat},
                       {"freshet", std::string(base::Version())},
                       {"cluster", Hex(manifest.cluster.value())},
                       {"job", manifest.job},
                       {"unix_ms", static_cast<uint64_t>(std::max<int64_t>(manifest.unix_ms, 0))},
                       {"view", manifest.view.value()},
                       {"partitions", manifest.partitions},
                       {"state", PartJson(manifest.state)}};
  if (manifest.settings) json["settings"] = PartJson(*manifest.settings);
  json["replay_from"] = WatermarksJson(manifest.replay_from);
  json["files"] = std::move(files);
  return json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

Result<BackupManifest> DecodeManifest(std::string_view text) {
  const ordered_json json = ordered_json::parse(text, nullptr, false);
  if (json.is_discarded()) return Fail(ErrorCode::kCorrupt, "it is no JSON");
  bool sound = true;
  const Object top(json, sound);
  const auto format = top.Number<uint32_t>("format");
  if (sound && format != kBackupFormat) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("it has format {}, this program reads {}; use the version of freshet "
                            "that wrote it",
                            format, kBackupFormat));
  }
  BackupManifest manifest;
  manifest.cluster = protocol::ClusterId(top.Hash("cluster"));
  manifest.job = top.Text("job");
  manifest.unix_ms = static_cast<int64_t>(top.Number<uint64_t>("unix_ms") & INT64_MAX);
  manifest.view = protocol::ViewNumber(top.Number<uint64_t>("view"));
  manifest.partitions = top.Number<uint32_t>("partitions");
  manifest.state = top.Part("state");
  if (top.Has("settings")) manifest.settings = top.Part("settings");
  manifest.replay_from = top.Watermarks("replay_from");
  for (const ordered_json& entry : top.List("files")) {
    manifest.files.push_back(ReadFileEntry(entry, sound));
  }
  if (!sound) return Fail(ErrorCode::kCorrupt, "something in it is missing or of the wrong kind");
  for (size_t p = 0; p < manifest.files.size(); ++p) {
    if (manifest.files[p].partition.value() == p) continue;
    return Fail(ErrorCode::kCorrupt, fmt::format("the file of partition {} is not where it "
                                                 "belongs",
                                                 p));
  }
  if (manifest.files.empty() || manifest.files.size() != manifest.partitions) {
    return Fail(ErrorCode::kCorrupt, fmt::format("it names {} files for {} partitions",
                                                 manifest.files.size(), manifest.partitions));
  }
  return manifest;
}

}  // namespace freshet::master
