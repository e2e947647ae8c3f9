// SPDX-License-Identifier: Apache-2.0
#include "worker/file_logs.h"

#include <utility>

#include "base/log.h"
#include "stream/file_log.h"
#include "stream/schema.h"

namespace freshet::worker {

base::Result<std::unique_ptr<stream::LogReader>> FileLogOpener::Open(const protocol::LogSpec& log) {
  auto schema = stream::LoadSchema(log.schema);
  if (!schema) return base::Fail(schema.error().code, schema.error().message);
  if (schema->Fingerprint() != log.features) {
    return base::Fail(base::ErrorCode::kConflict,
                      "schema " + log.schema +
                          " makes other features here than where the master runs: the file has to "
                          "be the same on every host");
  }
  auto file =
      stream::FileLog::Open({log.path, std::move(*schema), log.epochs,
                             log.follow ? stream::FileGrowth::kAppend : stream::FileGrowth::kNone});
  if (!file) return base::Fail(file.error().code, file.error().message);
  return std::unique_ptr<stream::LogReader>(std::move(*file));
}

void DeadLetterFiles::Configure(const std::string& directory, protocol::Incarnation writer) {
  directory_ = directory;
  writer_ = writer;
}

void DeadLetterFiles::Add(const protocol::LogSpec& log,
                          const std::vector<stream::DeadRecord>& dead) {
  auto& file = files_[log.log];
  if (!file) {
    file = std::make_unique<stream::DeadLetterFile>(
        stream::DeadLetterOptions{.directory = directory_, .log = log.name, .writer = writer_});
  }
  if (auto ok = file->Append(dead); !ok) {
    FRESHET_LOG_ERROR(
        "{} dead-lettered records of log {} from offset {} on are not in the file: {}", dead.size(),
        log.name, dead.front().offset, ok.error().message);
  }
}

}  // namespace freshet::worker
