// SPDX-License-Identifier: Apache-2.0
#include "stream/byte_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <vector>

namespace freshet::stream {
namespace {

using base::ErrorCode;
using base::Fail;
using base::Result;

constexpr size_t kPackedChunkBytes = 128 << 10;
// Of a file that grows: its last bytes are compared before what follows them is taken.
constexpr size_t kTailBytes = 256;

FileIdentity IdentityOf(const struct stat& info) {
  return {info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size),
          info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec};
}

// The descriptor of a data file and what it looked like when it was opened.
class DataFile {
 public:
  DataFile(std::string path, int fd, FileGrowth growth)
      : path_(std::move(path)), fd_(fd), growth_(growth) {}
  ~DataFile() {
    if (fd_ >= 0) close(fd_);
  }
  DataFile(DataFile&& other) noexcept
      : path_(std::move(other.path_)),
        fd_(std::exchange(other.fd_, -1)),
        growth_(other.growth_),
        identity_(other.identity_),
        tail_(std::move(other.tail_)) {}
  DataFile& operator=(DataFile&&) = delete;

  static Result<DataFile> Open(const std::string& path, FileGrowth growth);

  // Exactly what is there: fewer bytes than asked for only at the end of the file.
  Result<size_t> ReadAt(uint64_t position, char* out, size_t size_bytes) const;

  Result<> CheckUnchanged() const;
  Result<bool> Extend();
  Result<> Sync() const;

  const std::string& path() const { return path_; }
  const FileIdentity& identity() const { return identity_; }

 private:
  // The file as it is now, if CheckUnchanged finds nothing wrong with it.
  Result<FileIdentity> Look() const;
  Result<std::string> ReadTail() const;

  std::string path_;
  int fd_;
  FileGrowth growth_;
  FileIdentity identity_;
  std::string tail_;  // its last bytes, with kAppend
};

Result<DataFile> DataFile::Open(const std::string& path, FileGrowth growth) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const ErrorCode code =
        errno == ENOENT || errno == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
    return Fail(code, fmt::format("cannot open data file '{}': {}", path, std::strerror(errno)));
  }
  DataFile file(path, fd, growth);
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return Fail(ErrorCode::kIo, fmt::format("cannot read '{}': {}", path, std::strerror(errno)));
  }
  if (S_ISDIR(info.st_mode)) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("data file '{}' is a directory; name one file", path));
  }
  if (!S_ISREG(info.st_mode)) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is no regular file; a log must be readable twice", path));
  }
  file.identity_ = IdentityOf(info);
  if (growth == FileGrowth::kAppend) {
    auto tail = file.ReadTail();
    if (!tail) return tl::unexpected(tail.error());
    file.tail_ = std::move(*tail);
  }
  return file;
}

Result<size_t> DataFile::ReadAt(uint64_t position, char* out, size_t size_bytes) const {
  size_t done = 0;
  while (done < size_bytes) {
    const ssize_t got =
        pread(fd_, out + done, size_bytes - done, static_cast<off_t>(position + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return Fail(ErrorCode::kIo, fmt::format("cannot read data file '{}' at byte {}: {}", path_,
                                              position + done, std::strerror(errno)));
    }
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

Result<std::string> DataFile::ReadTail() const {
  std::string tail(std::min<uint64_t>(kTailBytes, identity_.size_bytes), '\0');
  auto got = ReadAt(identity_.size_bytes - tail.size(), tail.data(), tail.size());
  if (!got) return tl::unexpected(got.error());
  tail.resize(*got);
  return tail;
}

Result<> DataFile::CheckUnchanged() const {
  auto now = Look();
  return now ? Result<>() : tl::unexpected(now.error());
}

Result<FileIdentity> DataFile::Look() const {
  struct stat opened {};
  struct stat named {};
  if (fstat(fd_, &opened) != 0 || stat(path_.c_str(), &named) != 0) {
    return Fail(ErrorCode::kIo, fmt::format("data file '{}' cannot be read again: {}; its records "
                                            "may have to be replayed, put it back",
                                            path_, std::strerror(errno)));
  }
  const FileIdentity now = IdentityOf(opened);
  if (now.size_bytes < identity_.size_bytes) {
    return Fail(ErrorCode::kIo,
                fmt::format("data file '{}' shrank from {} to {} bytes while it was "
                            "being read; it cannot be replayed",
                            path_, identity_.size_bytes, now.size_bytes));
  }
  if (growth_ == FileGrowth::kAppend) {
    if (named.st_dev == opened.st_dev && named.st_ino == opened.st_ino) return now;
    return Fail(ErrorCode::kIo,
                fmt::format("data file '{}' was replaced while it was followed; only "
                            "appending to it is allowed",
                            path_));
  }
  if (!(now == identity_) || !(IdentityOf(named) == identity_)) {
    return Fail(ErrorCode::kIo, fmt::format("data file '{}' changed while it was being read; it "
                                            "cannot be replayed as it was",
                                            path_));
  }
  return now;
}

Result<bool> DataFile::Extend() {
  auto now = Look();
  if (!now) return tl::unexpected(now.error());
  if (now->size_bytes == identity_.size_bytes) return false;
  // A file that was cut and has outgrown its old size since has other bytes here.
  auto before = ReadTail();
  if (!before) return tl::unexpected(before.error());
  if (*before != tail_) {
    return Fail(ErrorCode::kIo, fmt::format("data file '{}' was written anew while it was followed "
                                            "(the bytes before byte {} are others); only appending "
                                            "to it is allowed",
                                            path_, identity_.size_bytes));
  }
  identity_ = *now;
  auto tail = ReadTail();
  if (!tail) return tl::unexpected(tail.error());
  tail_ = std::move(*tail);
  return true;
}

Result<> DataFile::Sync() const {
  while (fdatasync(fd_) != 0) {
    if (errno == EINTR) continue;
    // Nobody can write there, or nothing is held back there.
    if (errno == EROFS || errno == EINVAL) return {};
    return Fail(
        ErrorCode::kIo,
        fmt::format("data file '{}' cannot be made durable, so its newest records cannot be "
                    "relied on: {}",
                    path_, std::strerror(errno)));
  }
  return {};
}

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(DataFile file) : file_(std::move(file)) {}

  Result<size_t> Read(char* out, size_t size_bytes) override {
    const uint64_t left =
        file_.identity().size_bytes - std::min(position_, file_.identity().size_bytes);
    const size_t wanted = std::min<uint64_t>(size_bytes, left);
    auto got = file_.ReadAt(position_, out, wanted);
    if (!got) return got;
    if (*got < wanted) {
      if (auto same = file_.CheckUnchanged(); !same) return tl::unexpected(same.error());
      return Fail(ErrorCode::kIo, fmt::format("data file '{}' ends too early", file_.path()));
    }
    position_ += *got;
    return got;
  }

  Result<> SeekTo(uint64_t position) override {
    position_ = position;
    return {};
  }

  Result<> CheckUnchanged() const override { return file_.CheckUnchanged(); }
  Result<bool> Extend() override { return file_.Extend(); }
  Result<> Sync() override { return file_.Sync(); }
  bool compressed() const override { return false; }

 private:
  DataFile file_;
  uint64_t position_ = 0;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(DataFile file) : file_(std::move(file)), packed_(kPackedChunkBytes) {
    ready_ = inflateInit2(&zlib_, kGzipWindow) == Z_OK;
  }
  ~GzipSource() override {
    if (ready_) inflateEnd(&zlib_);
  }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  Result<size_t> Read(char* out, size_t size_bytes) override;
  Result<> SeekTo(uint64_t position) override;
  Result<> CheckUnchanged() const override { return file_.CheckUnchanged(); }
  Result<bool> Extend() override { return false; }
  Result<> Sync() override { return file_.Sync(); }
  bool compressed() const override { return true; }

 private:
  static constexpr int kGzipWindow = 15 + 16;  // the largest window, gzip header required

  void Restart();
  // More packed bytes for zlib; false at the end of the file.
  Result<bool> Refill();
  base::Error Corrupt(const char* what) const {
    return {ErrorCode::kCorrupt,
            fmt::format("'{}' is no whole gzip file: {} after {} bytes of text", file_.path(), what,
                        position_)};
  }

  DataFile file_;
  std::vector<char> packed_;
  z_stream zlib_{};
  bool ready_ = false;
  bool member_done_ = true;  // at the front of a gzip member, or after the last
  bool ended_ = false;
  uint64_t packed_position_ = 0;
  uint64_t position_ = 0;
};

void GzipSource::Restart() {
  inflateReset(&zlib_);
  zlib_.avail_in = 0;
  member_done_ = true;
  ended_ = false;
  packed_position_ = 0;
  position_ = 0;
}

Result<bool> GzipSource::Refill() {
  const uint64_t size = file_.identity().size_bytes;
  const size_t wanted = std::min<uint64_t>(packed_.size(), size - std::min(size, packed_position_));
  if (wanted == 0) return false;
  auto got = file_.ReadAt(packed_position_, packed_.data(), wanted);
  if (!got) return tl::unexpected(got.error());
  if (*got < wanted) {
    if (auto same = file_.CheckUnchanged(); !same) return tl::unexpected(same.error());
    return Fail(ErrorCode::kIo, fmt::format("data file '{}' ends too early", file_.path()));
  }
  packed_position_ += *got;
  zlib_.next_in = reinterpret_cast<Bytef*>(packed_.data());
  zlib_.avail_in = static_cast<uInt>(*got);
  return true;
}

Result<size_t> GzipSource::Read(char* out, size_t size_bytes) {
  if (!ready_) return Fail(ErrorCode::kResourceExhausted, "zlib cannot get its memory");
  const size_t limit = std::min<size_t>(size_bytes, std::numeric_limits<uInt>::max());
  zlib_.next_out = reinterpret_cast<Bytef*>(out);
  zlib_.avail_out = static_cast<uInt>(limit);
  while (!ended_ && zlib_.avail_out > 0) {
    if (zlib_.avail_in == 0) {
      auto more = Refill();
      if (!more) return tl::unexpected(more.error());
      if (!*more) {
        if (!member_done_) return tl::unexpected(Corrupt("it ends in the middle"));
        ended_ = true;
        break;
      }
    }
    // Several gzip members one after the other are one text, as gzip itself reads them.
    if (member_done_) inflateReset(&zlib_);
    member_done_ = false;
    const int status = inflate(&zlib_, Z_NO_FLUSH);
    if (status == Z_STREAM_END) {
      member_done_ = true;
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      return tl::unexpected(Corrupt(zlib_.msg != nullptr ? zlib_.msg : "damaged data"));
    }
  }
  const size_t got = limit - zlib_.avail_out;
  position_ += got;
  return got;
}

Result<> GzipSource::SeekTo(uint64_t position) {
  if (position < position_) Restart();
  std::vector<char> skipped(position > position_ ? kPackedChunkBytes : 0);
  while (position_ < position) {
    auto got = Read(skipped.data(), std::min<uint64_t>(skipped.size(), position - position_));
    if (!got) return tl::unexpected(got.error());
    if (*got == 0) return tl::unexpected(Corrupt("it ends"));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path, FileGrowth growth) {
  auto file = DataFile::Open(path, growth);
  if (!file) return tl::unexpected(file.error());
  unsigned char magic[2] = {0, 0};
  auto got = file->ReadAt(0, reinterpret_cast<char*>(magic), sizeof(magic));
  if (!got) return tl::unexpected(got.error());
  if (*got == 2 && magic[0] == 0x1F && magic[1] == 0x8B) {
    if (growth == FileGrowth::kAppend) {
      return Fail(ErrorCode::kInvalidArgument,
                  fmt::format("data file '{}' is gzip, which cannot be followed: its end is only "
                              "known when it is whole; follow the plain file",
                              path));
    }
    return std::make_unique<GzipSource>(std::move(*file));
  }
  return std::make_unique<PlainSource>(std::move(*file));
}

}  // namespace freshet::stream
