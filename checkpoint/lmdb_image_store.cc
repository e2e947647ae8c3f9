// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_image_store.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <utility>

#include "base/check.h"
#include "checkpoint/checksum.h"
#include "checkpoint/image_record.h"
#include "checkpoint/lmdb_env.h"

namespace freshet::checkpoint {

using base::Error;
using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::Buffer;
using protocol::Image;
using protocol::PartitionId;
using protocol::Stamp;
using protocol::Tenure;

namespace {

// A chain is far shorter (whoever saves folds it long before); a block is far smaller.
constexpr uint32_t kMaxImages = 1 << 20;
constexpr uint64_t kMaxBlockBytes = 1ull << 30;
constexpr size_t kMaxBlocks = 1 << 24;

std::string_view Chars(const Buffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

std::string ToString(Stamp stamp) {
  return fmt::format("({}, {})", stamp.tenure.value(), stamp.version);
}

tl::unexpected<Error> Pass(const Error& error) { return tl::unexpected<Error>(error); }

Result<> CheckSizes(const Image& image) {
  if (image.blocks.size() > kMaxBlocks) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("the image of partition {} has {} blocks, more than {}",
                            image.header.partition.value(), image.blocks.size(), kMaxBlocks));
  }
  for (const Buffer& block : image.blocks) {
    if (block.size() <= kMaxBlockBytes) continue;
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("the image of partition {} has a block of {} bytes, more than {}",
                            image.header.partition.value(), block.size(), kMaxBlockBytes));
  }
  return {};
}

uint64_t RoughBytes(const Image& image) {
  uint64_t sum = 4096;
  for (const Buffer& block : image.blocks) sum += block.size() + 4096;
  return sum;
}

}  // namespace

LmdbImageStore::LmdbImageStore(std::unique_ptr<LmdbEnv> env) : env_(std::move(env)) {}
LmdbImageStore::~LmdbImageStore() = default;

bool LmdbImageStore::writable() const { return env_->writable(); }

Result<std::unique_ptr<LmdbImageStore>> LmdbImageStore::Open(ImageStoreOptions options) {
  auto env = LmdbEnv::Open({.directory = std::move(options.directory),
                            .content = "images",
                            .format = kImageStoreFormat,
                            .max_map_bytes = options.max_bytes});
  if (!env) return Pass(env.error());
  std::unique_ptr<LmdbImageStore> store(new LmdbImageStore(std::move(*env)));
  if (auto checked = store->CheckKeys(); !checked) return Pass(checked.error());
  return store;
}

Result<> LmdbImageStore::CheckKeys() const {
  const auto check = [&](const LmdbEntry& entry) -> Result<bool> {
    RecordPlace place;
    bool known = IsBlockKey(entry.key) || entry.key == LmdbEnv::kContentKey;
    if (ParseRecordKey(entry.key, &place)) {
      const auto record = DecodeRecord(place, entry.value);
      known = record || record.error().code != ErrorCode::kConflict;
    }
    if (known) return true;
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{} is damaged (a key is not one): restore it from a copy, or move it "
                            "away to start without it",
                            env_->file()));
  };
  return env_->Read([&](LmdbTxn& txn) {
    return txn.Scan({std::string_view("\0", 1), "\xFF\xFF"}, check);
  });
}

Error LmdbImageStore::Damaged(PartitionId partition, uint32_t number,
                              const std::string& what) const {
  return {ErrorCode::kCorrupt,
          fmt::format("partition {}, {} in {}: {}", partition.value(),
                      number == 0 ? "base image" : fmt::format("difference {}", number),
                      env_->file(), what)};
}

Result<ImageRecord> LmdbImageStore::FindRecord(LmdbTxn& txn, PartitionId partition,
                                               uint32_t number) const {
  const auto value = txn.Get(RecordKey({partition, number}));
  if (!value) return Pass(value.error());
  if (!*value) return Pass(Damaged(partition, number, "its record is missing"));
  auto record = DecodeRecord({partition, number}, **value);
  if (!record) return Pass(Damaged(partition, number, record.error().message));
  return record;
}

Result<ImageRecord> LmdbImageStore::FindLastRecord(LmdbTxn& txn, PartitionId partition) const {
  const auto entry = txn.LastBelow(RecordsEnd(partition));
  if (!entry) return Pass(entry.error());
  RecordPlace place;
  if (!*entry || !ParseRecordKey((*entry)->key, &place) || place.partition != partition) {
    return Fail(ErrorCode::kNotFound,
                fmt::format("no image of partition {} in {}", partition.value(), env_->file()));
  }
  return FindRecord(txn, partition, place.number);
}

Result<Image> LmdbImageStore::ReadImage(LmdbTxn& txn, const ImageRecord& record, Keep keep) const {
  const auto damaged = [&](const std::string& what) {
    return Pass(Damaged(record.partition, record.number, what));
  };
  Image image;
  auto header = protocol::DecodeImageHeader(Buffer::Copy(record.header));
  if (!header) return damaged(header.error().message);
  if (header->partition != record.partition || header->stamp != record.stamp ||
      header->base != record.base) {
    return damaged("its record and its header contradict each other");
  }
  image.header = std::move(*header);
  const auto ranges = LocateBlocks(txn, record);
  if (!ranges) return Pass(ranges.error());
  Buffer block;
  for (uint32_t i = 0; i < record.blocks.size(); ++i) {
    const FileRange range = (*ranges)[i];
    if (keep == Keep::kBlocks || block.size() < range.bytes) block = Buffer::Allocate(range.bytes);
    if (auto read = txn.ReadAt(range, block.mutable_data()); !read) return Pass(read.error());
    if (Checksum(Chars(block).substr(0, range.bytes)) != record.blocks[i].checksum) {
      return damaged(fmt::format("block {} has a wrong checksum", i));
    }
    if (keep == Keep::kBlocks) image.blocks.push_back(std::move(block));
  }
  return image;
}

Result<std::vector<FileRange>> LmdbImageStore::LocateBlocks(LmdbTxn& txn,
                                                            const ImageRecord& record) const {
  std::vector<FileRange> ranges;
  for (uint32_t i = 0; i < record.blocks.size(); ++i) {
    const auto range = txn.Locate(BlockKey({record.partition, record.number}, i));
    if (!range) return Pass(range.error());
    const uint64_t expected = record.blocks[i].bytes;
    if (!*range || (*range)->bytes != expected) {
      return Pass(Damaged(
          record.partition, record.number,
          *range ? fmt::format("block {} has {} bytes instead of {}", i, (*range)->bytes, expected)
                 : fmt::format("block {} is missing", i)));
    }
    ranges.push_back(**range);
  }
  for (const FileRange& range : ranges) txn.Prefetch(range);
  return ranges;
}

Result<LmdbImageStore::IntactPrefix> LmdbImageStore::ReadPrefix(LmdbTxn& txn, PartitionId partition,
                                                                Keep keep) const {
  const auto last = txn.LastBelow(RecordsEnd(partition));
  if (!last) return Pass(last.error());
  RecordPlace end;
  if (!*last || !ParseRecordKey((*last)->key, &end) || end.partition != partition) {
    return Fail(ErrorCode::kNotFound,
                fmt::format("no image of partition {} in {}", partition.value(), env_->file()));
  }
  IntactPrefix prefix;
  std::optional<Stamp> before;
  for (uint32_t number = 0; number <= end.number; ++number) {
    const auto record = FindRecord(txn, partition, number);
    auto image = record ? ReadImage(txn, *record, keep) : Result<Image>(Pass(record.error()));
    if (image && (before ? image->header.base != *before || image->header.stamp <= *before
                         : !image->header.whole())) {
      image = Pass(Damaged(partition, number, "it does not follow the image before it"));
    }
    if (image) {
      before = image->header.stamp;
      prefix.images.push_back(std::move(*image));
      continue;
    }
    if (image.error().code != ErrorCode::kCorrupt) return Pass(image.error());
    prefix.lost = end.number - number + 1;
    prefix.damage = image.error().message;
    break;
  }
  return prefix;
}

Result<> LmdbImageStore::ScanRecords(LmdbTxn& txn, const VisitRecord& visit) const {
  const std::string first = RecordKey({PartitionId(0), 0});
  const std::string last = RecordsEnd(PartitionId(UINT16_MAX));
  return txn.Scan({first, last}, [&](const LmdbEntry& entry) -> Result<bool> {
    RecordPlace place;
    if (!ParseRecordKey(entry.key, &place)) {
      return Fail(ErrorCode::kCorrupt, fmt::format("a key in {} is damaged", env_->file()));
    }
    if (auto visited = visit(place, entry.value); !visited) return Pass(visited.error());
    return true;
  });
}

Result<std::vector<StoredImage>> LmdbImageStore::List() {
  std::vector<StoredImage> list;
  const auto add = [&](const RecordPlace& place, std::string_view value) -> Result<> {
    const auto record = DecodeRecord(place, value);
    if (!record) return Pass(Damaged(place.partition, place.number, record.error().message));
    if (list.empty() || list.back().partition != place.partition) {
      list.emplace_back().partition = place.partition;
    }
    StoredImage& stored = list.back();
    const uint64_t bytes = record->BlockBytes() + value.size();
    stored.stamp = record->stamp;
    stored.bytes += bytes;
    if (place.number > 0) stored.difference_bytes += bytes;
    return {};
  };
  const auto read = env_->Read([&](LmdbTxn& txn) { return ScanRecords(txn, add); });
  if (!read) return Pass(read.error());
  return list;
}

Result<LmdbImageStore::IntactPrefix> LmdbImageStore::LoadIntact(PartitionId partition) {
  IntactPrefix prefix;
  const auto read = env_->Read([&](LmdbTxn& txn) -> Result<> {
    auto found = ReadPrefix(txn, partition, Keep::kBlocks);
    if (!found) return Pass(found.error());
    prefix = std::move(*found);
    return {};
  });
  if (!read) return Pass(read.error());
  return prefix;
}

Result<std::vector<Image>> LmdbImageStore::Load(PartitionId partition) {
  auto prefix = LoadIntact(partition);
  if (!prefix) return Pass(prefix.error());
  if (prefix->lost > 0) return Fail(ErrorCode::kCorrupt, prefix->damage);
  return std::move(prefix->images);
}

Result<> LmdbImageStore::DeleteFrom(LmdbTxn& txn, PartitionId partition, uint32_t number) {
  const RecordPlace first{partition, number};
  if (auto r = txn.DeleteRange({RecordKey(first), RecordsEnd(partition)}); !r) return r;
  return txn.DeleteRange({BlockKey(first, 0), BlocksEnd(partition)});
}

Result<bool> LmdbImageStore::SaveIn(LmdbTxn& txn, const Image& image, std::string* conflict) {
  const protocol::ImageHeader& header = image.header;
  const auto last = FindLastRecord(txn, header.partition);
  if (!last && last.error().code != ErrorCode::kNotFound) return Pass(last.error());
  const bool fits = header.whole() || (last && last->stamp == header.base);
  if (!fits || (last && header.stamp <= last->stamp)) {
    *conflict = fmt::format(
        "partition {} holds {} in {}; {} {} does not go on it", header.partition.value(),
        last ? "stamp " + ToString(last->stamp) : "nothing", env_->file(),
        header.whole() ? "the image" : "the difference to " + ToString(header.base),
        ToString(header.stamp));
    return false;
  }
  const uint32_t number = header.whole() ? 0 : last->number + 1;
  if (number >= kMaxImages) {
    *conflict = fmt::format("partition {} has {} differences: save a whole image",
                            header.partition.value(), number);
    return false;
  }
  if (header.whole() && last) {
    if (auto r = DeleteFrom(txn, header.partition, 0); !r) return Pass(r.error());
  }
  ImageRecord record = MakeRecord(image, number);
  const RecordPlace place{header.partition, number};
  for (uint32_t i = 0; i < image.blocks.size(); ++i) {
    const std::string_view bytes = Chars(image.blocks[i]);
    record.blocks.push_back({bytes.size(), Checksum(bytes)});
    if (auto r = txn.Put(BlockKey(place, i), bytes); !r) return Pass(r.error());
  }
  if (auto r = txn.Put(RecordKey(place), EncodeRecord(record)); !r) return Pass(r.error());
  return true;
}

Result<> LmdbImageStore::Save(const Image& image) {
  if (auto sizes = CheckSizes(image); !sizes) return sizes;
  return env_->Write(RoughBytes(image), [&](LmdbTxn& txn) -> Result<> {
    std::string conflict;
    const auto saved = SaveIn(txn, image, &conflict);
    if (!saved) return Pass(saved.error());
    if (!*saved) return Fail(ErrorCode::kConflict, conflict);
    return {};
  });
}

Result<std::vector<char>> LmdbImageStore::SaveAll(const std::vector<Image>& images) {
  std::vector<char> saved;
  uint64_t bytes = 0;
  for (const Image& image : images) {
    if (auto sizes = CheckSizes(image); !sizes) return Pass(sizes.error());
    bytes += RoughBytes(image);
  }
  const auto written = env_->Write(bytes, [&](LmdbTxn& txn) -> Result<> {
    saved.clear();
    std::string conflict;
    for (const Image& image : images) {
      const auto one = SaveIn(txn, image, &conflict);
      if (!one) return Pass(one.error());
      saved.push_back(*one ? 1 : 0);
    }
    return {};
  });
  if (!written) return Pass(written.error());
  return saved;
}

Result<> LmdbImageStore::Remove(PartitionId partition, Tenure below) {
  return env_->Write(0, [&](LmdbTxn& txn) -> Result<> {
    const auto last = FindLastRecord(txn, partition);
    if (!last) {
      if (last.error().code == ErrorCode::kNotFound) return {};
      return Pass(last.error());
    }
    if (last->stamp.tenure >= below) return {};
    return DeleteFrom(txn, partition, 0);
  });
}

Result<uint32_t> LmdbImageStore::Repair(PartitionId partition) {
  uint32_t lost = 0;
  const auto written = env_->Write(0, [&](LmdbTxn& txn) -> Result<> {
    const auto prefix = ReadPrefix(txn, partition, Keep::kNothing);
    if (!prefix) return Pass(prefix.error());
    lost = prefix->lost;
    if (lost == 0) return {};
    return DeleteFrom(txn, partition, static_cast<uint32_t>(prefix->images.size()));
  });
  if (!written) return Pass(written.error());
  return lost;
}

Result<ImageFileInfo> LmdbImageStore::Export(PartitionId partition, const std::string& path) {
  const auto images = Load(partition);
  if (!images) return Pass(images.error());
  return WriteImageFile(path, *images);
}

Result<std::vector<Damage>> LmdbImageStore::Verify() {
  std::vector<PartitionId> partitions;
  const auto add = [&](const RecordPlace& place, std::string_view) -> Result<> {
    if (partitions.empty() || partitions.back() != place.partition) {
      partitions.push_back(place.partition);
    }
    return {};
  };
  const auto listed = env_->Read([&](LmdbTxn& txn) { return ScanRecords(txn, add); });
  if (!listed) return Pass(listed.error());
  std::vector<Damage> damages;
  for (const PartitionId partition : partitions) {
    const auto read = env_->Read([&](LmdbTxn& txn) -> Result<> {
      const auto prefix = ReadPrefix(txn, partition, Keep::kNothing);
      if (!prefix && prefix.error().code == ErrorCode::kNotFound) return {};  // removed meanwhile
      if (!prefix) return Pass(prefix.error());
      if (prefix->lost > 0) damages.push_back({partition, prefix->damage});
      return {};
    });
    if (!read) return Pass(read.error());
  }
  return damages;
}

}  // namespace freshet::checkpoint
