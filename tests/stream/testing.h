// SPDX-License-Identifier: Apache-2.0
// What the tests of stream/ share: files in a directory of their own, schemas from a few words.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "stream/file_log.h"
#include "stream/schema.h"
#include "tests/base/temp_dir.h"

namespace freshet::stream {

using base::TempDir;

inline void WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  ASSERT_TRUE(file.good());
}

inline std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void WriteGzip(const std::string& path, const std::string& text, const char* mode = "wb") {
  gzFile file = gzopen(path.c_str(), mode);
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(gzwrite(file, text.data(), static_cast<unsigned>(text.size())),
            static_cast<int>(text.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

inline LogSchema MakeSchema(const std::string& yaml) {
  auto schema = ParseSchema(yaml, "test.yaml");
  EXPECT_TRUE(schema.has_value()) << (schema ? "" : schema.error().message);
  return std::move(*schema);
}

// label,id,x without a header.
inline LogSchema PlainSchema() {
  return MakeSchema(
      "columns:\n- {name: label, role: label}\n- {name: id, role: sparse}\n"
      "- {name: x, role: dense}\n");
}

inline std::unique_ptr<FileLog> OpenLog(const std::string& path, LogSchema schema,
                                        uint64_t epochs = 1) {
  auto log = FileLog::Open({path, std::move(schema), epochs});
  EXPECT_TRUE(log.has_value()) << (log ? "" : log.error().message);
  return log ? std::move(*log) : nullptr;
}

inline base::Error OpenError(const std::string& path, LogSchema schema) {
  auto log = FileLog::Open({path, std::move(schema), 1});
  EXPECT_FALSE(log.has_value());
  return log ? base::Error{} : log.error();
}

inline RecordBatch ReadAll(FileLog& log) {
  RecordBatch batch;
  auto read = log.Read({0, log.end()}, batch);
  EXPECT_TRUE(read.has_value()) << (read ? "" : read.error().message);
  return batch;
}

// The text of one file opened with one schema.
inline RecordBatch Parse(const std::string& text, LogSchema schema) {
  const TempDir dir;
  WriteText(dir / "data", text);
  auto log = OpenLog(dir / "data", std::move(schema));
  return log ? ReadAll(*log) : RecordBatch{};
}

}  // namespace freshet::stream
