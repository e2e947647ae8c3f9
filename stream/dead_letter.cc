// SPDX-License-Identifier: Apache-2.0
#include "stream/dead_letter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "stream/text.h"

namespace freshet::stream {
namespace {

using base::ErrorCode;
using base::Result;

// A log's name as part of a file name: what could leave the directory is spelled %XX.
std::string FileNamePart(std::string_view log) {
  std::string part;
  for (char c : log) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '_' || c == '-' || (c == '.' && !part.empty());
    part += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return part.substr(0, 128);
}

}  // namespace

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  const bool utf8 = IsUtf8(text);
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (byte < 0x20 || byte == 0x7F || (byte >= 0x80 && !utf8)) {
          out += fmt::format("\\u{:04x}", byte);
        } else {
          out += c;
        }
    }
  }
  out += '"';
  return out;
}

DeadLetterFile::DeadLetterFile(DeadLetterOptions options) : options_(std::move(options)) {
  path_ = fmt::format("{}/{}-{}.jsonl", options_.directory, FileNamePart(options_.log),
                      options_.writer.value());
}

DeadLetterFile::~DeadLetterFile() {
  if (fd_ >= 0) close(fd_);
}

base::Error DeadLetterFile::IoError(std::string_view what) const {
  return {ErrorCode::kIo,
          fmt::format("cannot {} dead-letter file '{}': {}", what, path_, std::strerror(errno))};
}

Result<> DeadLetterFile::OpenFile() {
  std::error_code error;
  std::filesystem::create_directories(options_.directory, error);
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) return tl::unexpected(IoError("open"));
  struct stat info {};
  if (fstat(fd_, &info) != 0) return tl::unexpected(IoError("read"));
  size_bytes_ = static_cast<uint64_t>(info.st_size);
  return {};
}

Result<> DeadLetterFile::Rotate() {
  if (std::rename(path_.c_str(), (path_ + ".1").c_str()) != 0) {
    return tl::unexpected(IoError("rotate"));
  }
  close(fd_);
  fd_ = -1;
  return OpenFile();
}

Result<> DeadLetterFile::Append(std::span<const DeadRecord> records) {
  if (records.empty()) return {};
  buffer_.clear();
  for (const DeadRecord& record : records) {
    buffer_ += fmt::format("{{\"log\":{},\"offset\":{},\"reason\":{},\"raw\":{}}}\n",
                           JsonString(options_.log), record.offset, JsonString(record.reason),
                           JsonString(std::string_view(record.raw).substr(0, kMaxDeadRawBytes)));
  }
  if (fd_ < 0) {
    if (auto opened = OpenFile(); !opened) return opened;
  }
  if (size_bytes_ > 0 && size_bytes_ + buffer_.size() > options_.max_file_bytes) {
    if (auto rotated = Rotate(); !rotated) return rotated;
  }
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t put = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const base::Error error = IoError("write");
      // Half a line would spoil the next one.
      if (ftruncate(fd_, static_cast<off_t>(size_bytes_)) != 0) {
        close(fd_);
        fd_ = -1;
      }
      return tl::unexpected(error);
    }
    done += static_cast<size_t>(put);
  }
  size_bytes_ += buffer_.size();
  written_ += records.size();
  return {};
}

}  // namespace freshet::stream
