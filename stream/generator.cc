// SPDX-License-Identifier: Apache-2.0
#include "stream/generator.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>
#include <vector>

#include "protocol/validation.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

constexpr size_t kBufferBytes = 1 << 20;
constexpr uint64_t kProgressRecords = 1 << 16;
constexpr size_t kMaxNumberBytes = 20;
constexpr size_t kMaxFields = 256;

// Writes the digits of `value` behind `out`; returns where they end.
char* PutNumber(char* out, uint64_t value) {
  static constexpr char kPairs[] =
      "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445"
      "46"
      "47484950515253545556575859606162636465666768697071727374757677787980818283848586878889909192"
      "93"
      "949596979899";
  char digits[kMaxNumberBytes];
  char* at = digits + kMaxNumberBytes;
  while (value >= 100) {
    at -= 2;
    std::memcpy(at, kPairs + 2 * (value % 100), 2);
    value /= 100;
  }
  if (value >= 10) {
    at -= 2;
    std::memcpy(at, kPairs + 2 * value, 2);
  } else {
    *--at = static_cast<char>('0' + value);
  }
  const auto size = static_cast<size_t>(digits + kMaxNumberBytes - at);
  std::memcpy(out, at, size);
  return out + size;
}

// `value` / 10^places with exactly that many digits behind the point.
char* PutFixed(char* out, uint64_t value, int places) {
  uint64_t scale = 1;
  for (int i = 0; i < places; ++i) scale *= 10;
  out = PutNumber(out, value / scale);
  *out++ = '.';
  uint64_t rest = value % scale;
  for (scale /= 10; scale > 0; scale /= 10) {
    *out++ = static_cast<char>('0' + rest / scale);
    rest %= scale;
  }
  return out;
}

char* PutClick(char* out, const Click& click, int64_t time_ms) {
  *out++ = static_cast<char>('0' + click.clicked);
  *out++ = '\t';
  out = PutNumber(out, static_cast<uint64_t>(time_ms));
  for (uint64_t id : click.ids) {
    *out++ = '\t';
    out = PutNumber(out, id);
  }
  *out++ = '\t';
  out = PutFixed(out, click.price_cents, 2);
  *out++ = '\t';
  out = PutNumber(out, click.age_days);
  *out++ = '\t';
  out = PutFixed(out, click.quality_thousandths, 3);
  *out++ = '\n';
  return out;
}

// The file under its temporary name; removed again unless it is finished.
class PartFile {
 public:
  explicit PartFile(std::string path) : path_(std::move(path)), part_(path_ + ".part") {}
  ~PartFile() {
    if (fd_ < 0) return;
    close(fd_);
    unlink(part_.c_str());
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  Result<> Open() {
    fd_ = open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ >= 0) return {};
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, Describe("create"));
  }

  Result<> Write(const char* data, size_t size_bytes) {
    while (size_bytes > 0) {
      const ssize_t put = write(fd_, data, size_bytes);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return Fail(ErrorCode::kIo, Describe("write"));
      data += put;
      size_bytes -= static_cast<size_t>(put);
      bytes_ += static_cast<uint64_t>(put);
    }
    return {};
  }

  Result<> Finish() {
    if (std::rename(part_.c_str(), path_.c_str()) != 0) {
      return Fail(ErrorCode::kIo, Describe("name"));
    }
    if (close(std::exchange(fd_, -1)) != 0) return Fail(ErrorCode::kIo, Describe("close"));
    return {};
  }

  uint64_t bytes() const { return bytes_; }

 private:
  std::string Describe(const char* what) const {
    return fmt::format("cannot {} '{}': {}", what, path_, std::strerror(errno));
  }

  std::string path_;
  std::string part_;
  int fd_ = -1;
  uint64_t bytes_ = 0;
};

Result<> Validate(const GeneratorOptions& options) {
  const auto invalid = [](const std::string& what) {
    return Fail(ErrorCode::kInvalidArgument, "cannot generate: " + what);
  };
  const PlantedOptions& model = options.model;
  if (options.records == 0) return invalid("records must be at least 1");
  if (options.records > uint64_t{1} << 48 || options.first_record > uint64_t{1} << 48) {
    return invalid("too many records");
  }
  if (options.start_time_ms < 0) return invalid("the start time is before 1970");
  if (model.fields.empty() || model.fields.size() > kMaxFields) {
    return invalid(fmt::format("there must be 1 to {} fields", kMaxFields));
  }
  if (!(model.zipf_exponent >= 0 && model.zipf_exponent <= 10)) {
    return invalid("the Zipf exponent must be between 0 and 10");
  }
  std::set<std::string> names = {"click", "time_ms", "price", "age_days", "quality"};
  for (const PlantedField& field : model.fields) {
    if (field.cardinality == 0 || field.cardinality > kMaxCardinality) {
      return invalid(fmt::format("field '{}' must have 1 to {} ids", field.name, kMaxCardinality));
    }
    const bool plain =
        field.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
    if (field.name.empty() || !plain || !names.insert(field.name).second) {
      return invalid(fmt::format("field name '{}' is taken or not of a-z, 0-9 and _", field.name));
    }
    if (!std::isfinite(field.weight)) return invalid(fmt::format("weight of '{}'", field.name));
  }
  for (const PlantedPair& pair : model.pairs) {
    if (pair.first >= model.fields.size() || pair.second >= model.fields.size()) {
      return invalid("a pair names a field that is not there");
    }
  }
  return {};
}

std::string Header(const PlantedOptions& model) {
  std::string header = "click\ttime_ms";
  for (const PlantedField& field : model.fields) header += '\t' + field.name;
  return header + "\tprice\tage_days\tquality\n";
}

Result<> WriteRecords(const GeneratorOptions& options, PartFile& file,
                      protocol::ValidationHistogram& histogram, const GeneratorProgress& progress) {
  const PlantedModel model(options.model);
  const std::string header = Header(options.model);
  if (auto put = file.Write(header.data(), header.size()); !put) return put;
  // A line has two numbers more than fields, three dense values and as many separators.
  const size_t max_line_bytes = (options.model.fields.size() + 6) * (kMaxNumberBytes + 5);
  std::vector<char> buffer(kBufferBytes + max_line_bytes);
  char* at = buffer.data();
  Click click;
  for (uint64_t i = 0; i < options.records; ++i) {
    const uint64_t record = options.first_record + i;
    model.Draw(record, click);
    histogram.Add(click.logit, static_cast<float>(click.clicked));
    at = PutClick(at, click,
                  options.start_time_ms + static_cast<int64_t>(record * options.interval_ms));
    const bool last = i + 1 == options.records;
    if (at >= buffer.data() + kBufferBytes || last) {
      auto put = file.Write(buffer.data(), static_cast<size_t>(at - buffer.data()));
      if (!put) return put;
      at = buffer.data();
    }
    if (progress && ((i + 1) % kProgressRecords == 0 || last)) progress(i + 1);
  }
  return {};
}

}  // namespace

Result<GeneratorSummary> GenerateLog(const GeneratorOptions& options, const std::string& path,
                                     const GeneratorProgress& progress) {
  if (auto valid = Validate(options); !valid) return tl::unexpected(valid.error());
  struct stat info {};
  if (options.existing == ExistingFile::kRefuse && lstat(path.c_str(), &info) == 0) {
    return Fail(ErrorCode::kConflict,
                fmt::format("'{}' exists already; it is left as it is", path));
  }
  const auto now = [&] {
    return options.clock != nullptr ? options.clock->Now() : base::Instant{};
  };
  const base::Instant begin = now();
  PartFile file(path);
  if (auto opened = file.Open(); !opened) return tl::unexpected(opened.error());
  protocol::ValidationHistogram histogram;
  if (auto written = WriteRecords(options, file, histogram, progress); !written) {
    return tl::unexpected(written.error());
  }
  if (auto finished = file.Finish(); !finished) return tl::unexpected(finished.error());
  GeneratorSummary summary;
  summary.records = options.records;
  summary.bytes = file.bytes();
  summary.seconds = std::chrono::duration<double>(now() - begin).count();
  summary.best_auc = histogram.Auc();
  summary.best_logloss = histogram.LogLoss();
  summary.positive_rate =
      static_cast<double>(histogram.positives()) / static_cast<double>(histogram.records());
  return summary;
}

std::string GeneratorSchemaYaml(const GeneratorOptions& options) {
  std::string yaml =
      "name: generated\ndelimiter: tab\nheader: true\nquotes: false\ncolumns:\n"
      "  - {name: click, role: label}\n  - {name: time_ms, role: timestamp, format: unix_ms}\n";
  for (const PlantedField& field : options.model.fields) {
    yaml += fmt::format("  - {{name: {}, role: sparse}}\n", field.name);
  }
  return yaml +
         "  - {name: price, role: dense, log1p: true}\n"
         "  - {name: age_days, role: dense, log1p: true}\n"
         "  - {name: quality, role: dense}\n";
}

}  // namespace freshet::stream
