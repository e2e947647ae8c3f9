// SPDX-License-Identifier: Apache-2.0
// FileLog: a data file (plain or gzip) as a replayable log.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "stream/byte_source.h"
#include "stream/line_reader.h"
#include "stream/record_batch.h"
#include "stream/record_parser.h"
#include "stream/schema.h"

namespace freshet::stream {

// The most records one Read may ask for: bounds the batch.
inline constexpr uint64_t kMaxReadRecords = 1 << 20;

struct FileLogOptions {
  std::string path;
  LogSchema schema;
  uint64_t epochs = 1;  // the log is that many times the file
  FileGrowth growth = FileGrowth::kNone;
};

// Offset = epoch x records of the file + number of the record in it; every line but the header is a
// record. Opening scans the file once for its line index (gzip: unpacks it once); reading on from where
// the last Read ended costs no seek. Used by one thread at a time. The file must stay as it is while
// the log is open: a Read that finds it changed fails with kIo and delivers nothing. With kAppend lines
// may be added: a line is a record once its newline is there, and the file may begin empty.
class FileLog final : public LogReader {
 public:
  // kNotFound: no such file. kInvalidArgument: a directory, no records, binary data, a header or
  // records that do not fit the schema, gzip or epochs with kAppend. kIo, kCorrupt: cannot be read.
  static base::Result<std::unique_ptr<FileLog>> Open(FileLogOptions options);

  uint32_t dense_count() const override { return parser_.schema().dense_count(); }
  uint32_t sparse_count() const override { return parser_.schema().sparse_count(); }
  protocol::Offset end() const override { return records_ * epochs_; }
  // With kAppend a span beyond the end is looked for in the file; kUnavailable: it is not there yet.
  base::Result<> Read(protocol::Span span, RecordBatch& out) override;
  // With kAppend: takes in what was added. kIo: the file was cut, replaced or written anew.
  base::Result<> Extend();
  // What is below end() survives a crash of this host.
  base::Result<> Sync() { return source_->Sync(); }

  // Records of one epoch.
  uint64_t records_per_epoch() const { return records_; }

 private:
  FileLog(FileLogOptions options, std::unique_ptr<ByteSource> source);

  base::Result<> BuildIndex();
  base::Result<> CountRecords();
  base::Result<> ReadHeader();
  base::Result<> CheckFirstRecords();
  base::Result<> SeekToRecord(uint64_t record);
  base::Result<> ReadRecords(protocol::Span span, RecordBatch& out);

  static constexpr uint64_t kNowhere = ~uint64_t{0};

  std::string path_;
  uint64_t epochs_;
  FileGrowth growth_;
  std::unique_ptr<ByteSource> source_;
  RecordParser parser_;
  LineReader lines_;
  LineIndex index_;
  uint64_t records_ = 0;
  bool header_read_ = false;
  uint64_t next_line_ = kNowhere;  // that lines_ would hand out
};

}  // namespace freshet::stream
