// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/image_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "checkpoint/checksum.h"
#include "checkpoint/image_record.h"

namespace freshet::checkpoint {

using base::Error;
using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Buffer;
using protocol::Image;
using protocol::PartitionId;
using protocol::Stamp;

namespace {

constexpr uint32_t kMagic = 0x46495246;                // "FRIF"
constexpr uint64_t kEndMagic = 0x444E454649524600ull;  // "\0FRIFEND"
constexpr size_t kHeadBytes = 4 * 4 + 8;
constexpr size_t kTailBytes = 3 * 8;

std::string_view Chars(const Buffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

tl::unexpected<Error> Pass(const Error& error) { return tl::unexpected<Error>(error); }

template <class T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <class T>
T At(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

tl::unexpected<Error> FailedTo(std::string_view action, const std::string& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  const ErrorCode code = full              ? ErrorCode::kResourceExhausted
                         : error == ENOENT ? ErrorCode::kNotFound
                                           : ErrorCode::kIo;
  const std::string_view remedy =
      full ? "free some space or use another directory" : "check the path and the kernel's log";
  return Fail(code, fmt::format("cannot {} {}: {}; {}", action, path,
                                std::generic_category().message(error), remedy));
}

// Writes from the start to the end; takes the file away again unless it was kept.
class Draft {
 public:
  explicit Draft(std::string path) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  ~Draft() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(path_.c_str());
  }

  bool open() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }
  uint64_t written() const { return written_; }

  Result<> Put(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return FailedTo("write", path_, errno);
      bytes.remove_prefix(static_cast<size_t>(put));
      written_ += static_cast<uint64_t>(put);
    }
    return {};
  }

  Result<> KeepAs(const std::string& path) {
    // After a failed fsync the kernel may have dropped the bytes, so there is no second try.
    if (::fsync(fd_) != 0) return FailedTo("sync", path_, errno);
    if (::rename(path_.c_str(), path.c_str()) != 0) return FailedTo("rename", path_, errno);
    ::close(std::exchange(fd_, -1));
    return {};
  }

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t written_ = 0;
};

std::string MakeHead(PartitionId partition, uint32_t images) {
  std::string head;
  Append(&head, kMagic);
  Append(&head, kImageFileFormat);
  Append(&head, images);
  Append(&head, uint32_t{partition.value()});
  Append(&head, Checksum(head));
  return head;
}

// Writes one image; appends its record's checksum to `sums`.
Result<> PutImage(Draft& draft, ImageRecord record, const Image& image, std::string* sums) {
  for (const Buffer& block : image.blocks) {
    record.blocks.push_back({block.size(), Checksum(Chars(block))});
  }
  const std::string encoded = EncodeRecord(record);
  std::string size;
  Append(&size, uint64_t{encoded.size()});
  if (auto put = draft.Put(size); !put) return put;
  if (auto put = draft.Put(encoded); !put) return put;
  sums->append(encoded, encoded.size() - sizeof(uint64_t), sizeof(uint64_t));
  for (const Buffer& block : image.blocks) {
    if (auto put = draft.Put(Chars(block)); !put) return put;
  }
  return {};
}

class Reader {
 public:
  explicit Reader(std::string path) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() {
    if (fd_ >= 0) ::close(fd_);
  }

  Result<ImageFile> Read();

 private:
  tl::unexpected<Error> Damaged(const std::string& what) const {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{} is damaged: {}; take it from another copy", path_, what));
  }
  Result<> Take(std::byte* to, uint64_t bytes);
  Result<std::string> TakeText(uint64_t bytes);
  Result<uint32_t> ReadHead(ImageFileInfo* info);
  Result<Image> ReadImage(RecordPlace place, const std::optional<Stamp>& before);
  Result<> ReadTail(ImageFileInfo* info);

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  uint64_t left_ = 0;
  std::string sums_;
};

// Fewer bytes than were counted: somebody shortens the file while it is read.
Result<> Reader::Take(std::byte* to, uint64_t bytes) {
  if (bytes > left_) return Damaged("it is too short");
  left_ -= bytes;
  while (bytes > 0) {
    const ssize_t got = ::read(fd_, to, bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FailedTo("read", path_, errno);
    if (got == 0) return Damaged("it is too short");
    to += got;
    bytes -= static_cast<uint64_t>(got);
  }
  return {};
}

Result<std::string> Reader::TakeText(uint64_t bytes) {
  if (bytes > left_) return Damaged("it is too short");
  std::string text(bytes, '\0');
  if (auto taken = Take(reinterpret_cast<std::byte*>(text.data()), bytes); !taken) {
    return Pass(taken.error());
  }
  return text;
}

Result<uint32_t> Reader::ReadHead(ImageFileInfo* info) {
  const auto head = TakeText(kHeadBytes);
  if (!head) return Pass(head.error());
  if (At<uint32_t>(*head, 0) != kMagic) return Damaged("it is no file of images");
  const auto sum = At<uint64_t>(*head, kHeadBytes - 8);
  if (sum != Checksum(std::string_view(*head).substr(0, kHeadBytes - 8))) {
    return Damaged("its head has a wrong checksum");
  }
  const auto format = At<uint32_t>(*head, 4);
  if (format != kImageFileFormat) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} has format {}, this program reads {}; use the version of freshet "
                            "that wrote it",
                            path_, format, kImageFileFormat));
  }
  const auto partition = At<uint32_t>(*head, 12);
  if (partition > UINT16_MAX) return Damaged("its partition is out of range");
  info->partition = PartitionId(static_cast<uint16_t>(partition));
  sums_.append(*head, 0, kHeadBytes - 8);
  return At<uint32_t>(*head, 8);
}

Result<Image> Reader::ReadImage(RecordPlace place, const std::optional<Stamp>& before) {
  const auto damaged = [&](const std::string& what) {
    return Damaged(fmt::format("image {}: {}", place.number, what));
  };
  const auto size = TakeText(sizeof(uint64_t));
  if (!size) return Pass(size.error());
  const auto encoded = TakeText(At<uint64_t>(*size, 0));
  if (!encoded) return Pass(encoded.error());
  const auto record = DecodeRecord(place, *encoded);
  if (!record) return damaged(record.error().message);
  auto header = protocol::DecodeImageHeader(Buffer::Copy(record->header));
  if (!header) return damaged(header.error().message);
  if (header->partition != record->partition || header->stamp != record->stamp ||
      header->base != record->base) {
    return damaged("its record and its header contradict each other");
  }
  const bool follows =
      before ? header->base == *before && header->stamp > *before : header->whole();
  if (!follows) return damaged("it does not follow the image before it");
  sums_.append(*encoded, encoded->size() - sizeof(uint64_t), sizeof(uint64_t));
  Image image;
  image.header = std::move(*header);
  for (size_t i = 0; i < record->blocks.size(); ++i) {
    const StoredBlock& stored = record->blocks[i];
    if (stored.bytes > left_) return Damaged("it is too short");
    Buffer block = Buffer::Allocate(stored.bytes);
    if (auto taken = Take(block.mutable_data(), stored.bytes); !taken) return Pass(taken.error());
    if (Checksum(Chars(block)) != stored.checksum) {
      return damaged(fmt::format("block {} has a wrong checksum", i));
    }
    image.blocks.push_back(std::move(block));
  }
  return image;
}

Result<> Reader::ReadTail(ImageFileInfo* info) {
  const auto tail = TakeText(kTailBytes);
  if (!tail) return Pass(tail.error());
  if (left_ != 0) return Damaged(fmt::format("{} bytes follow its end", left_));
  info->bytes = size_;
  info->checksum = Checksum(sums_);
  if (At<uint64_t>(*tail, 0) != size_ || At<uint64_t>(*tail, 8) != info->checksum ||
      At<uint64_t>(*tail, 16) != kEndMagic) {
    return Damaged("its end contradicts the rest");
  }
  return {};
}

Result<ImageFile> Reader::Read() {
  if (fd_ < 0) return FailedTo("open", path_, errno);
  struct stat status {};
  if (::fstat(fd_, &status) != 0) return FailedTo("open", path_, errno);
  if (!S_ISREG(status.st_mode)) {
    return Fail(ErrorCode::kInvalidArgument, path_ + " is no file; check the path");
  }
  size_ = left_ = static_cast<uint64_t>(status.st_size);
  ImageFile file;
  const auto images = ReadHead(&file.info);
  if (!images) return Pass(images.error());
  std::optional<Stamp> before;
  for (uint32_t number = 0; number < *images; ++number) {
    auto image = ReadImage({file.info.partition, number}, before);
    if (!image) return Pass(image.error());
    before = file.info.stamp = image->header.stamp;
    file.info.applied = image->header.applied;
    file.images.push_back(std::move(*image));
  }
  if (!before) return Damaged("there is no image in it");
  file.info.images = *images;
  if (auto tail = ReadTail(&file.info); !tail) return Pass(tail.error());
  return file;
}

}  // namespace

Result<ImageFileInfo> WriteImageFile(const std::string& path, const std::vector<Image>& images) {
  if (images.empty()) return Fail(ErrorCode::kInvalidArgument, "no image to write to " + path);
  Draft draft(path + ".tmp");
  if (!draft.open()) return FailedTo("create", draft.path(), errno);
  ImageFileInfo info;
  info.partition = images.front().header.partition;
  info.stamp = images.back().header.stamp;
  info.applied = images.back().header.applied;
  info.images = static_cast<uint32_t>(images.size());
  const std::string head = MakeHead(info.partition, info.images);
  std::string sums = head.substr(0, kHeadBytes - sizeof(uint64_t));
  if (auto put = draft.Put(head); !put) return Pass(put.error());
  for (uint32_t number = 0; number < info.images; ++number) {
    const Image& image = images[number];
    auto put = PutImage(draft, MakeRecord(image, number), image, &sums);
    if (!put) return Pass(put.error());
  }
  info.bytes = draft.written() + kTailBytes;
  info.checksum = Checksum(sums);
  std::string tail;
  Append(&tail, info.bytes);
  Append(&tail, info.checksum);
  Append(&tail, kEndMagic);
  if (auto put = draft.Put(tail); !put) return Pass(put.error());
  if (auto kept = draft.KeepAs(path); !kept) return Pass(kept.error());
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (auto synced = base::SyncDirectory(directory); !synced) return Pass(synced.error());
  return info;
}

Result<ImageFile> ReadImageFile(const std::string& path) { return Reader(path).Read(); }

}  // namespace freshet::checkpoint
