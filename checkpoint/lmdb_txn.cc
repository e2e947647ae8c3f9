// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_txn.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lmdb.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "checkpoint/lmdb_format.h"

namespace freshet::checkpoint {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

struct CloseCursor {
  void operator()(MDB_cursor* cursor) const { mdb_cursor_close(cursor); }
};
using Cursor = std::unique_ptr<MDB_cursor, CloseCursor>;

MDB_val ToVal(std::string_view bytes) { return {bytes.size(), const_cast<char*>(bytes.data())}; }

std::string_view FromVal(const MDB_val& value) {
  return {static_cast<const char*>(value.mv_data), value.mv_size};
}

}  // namespace

Error LmdbError(int code, const std::string& file, std::string_view doing) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return {ErrorCode::kResourceExhausted,
              fmt::format("no space left on the disk of {} while {}: free some", file, doing)};
    case MDB_MAP_FULL:
      return {
          ErrorCode::kResourceExhausted,
          fmt::format("{} has reached its greatest size while {}: raise the limit", file, doing)};
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
      return {ErrorCode::kCorrupt, fmt::format("{} is damaged, seen while {} ({}): restore it from "
                                               "a copy, or move it away to start without it",
                                               file, doing, mdb_strerror(code))};
    case EACCES:
    case EPERM:
    case EROFS:
      return {ErrorCode::kIo, fmt::format("{} cannot be written while {} ({}): check its owner, "
                                          "mode and mount",
                                          file, doing, mdb_strerror(code))};
    default:
      return {ErrorCode::kIo,
              fmt::format("{} failed while {}: {}", file, doing, mdb_strerror(code))};
  }
}

tl::unexpected<Error> LmdbTxn::Failed(int code, std::string_view doing) {
  if (code == MDB_MAP_FULL) map_full_ = true;
  return tl::unexpected<Error>(LmdbError(code, file_.path, doing));
}

Result<std::optional<std::string_view>> LmdbTxn::Get(std::string_view key) {
  MDB_val k = ToVal(key);
  MDB_val v;
  const int rc = mdb_get(txn_, dbi_, &k, &v);
  if (rc == MDB_NOTFOUND) return std::nullopt;
  if (rc != 0) return Failed(rc, "reading");
  return FromVal(v);
}

Result<std::optional<FileRange>> LmdbTxn::Locate(std::string_view key) {
  const auto value = Get(key);
  if (!value) return tl::unexpected<Error>(value.error());
  if (!*value) return std::nullopt;
  const uint64_t offset =
      reinterpret_cast<uintptr_t>((*value)->data()) - reinterpret_cast<uintptr_t>(file_.map);
  CHECK(offset < file_.map_bytes);
  return FileRange{offset, (*value)->size()};
}

void LmdbTxn::Prefetch(FileRange range) const {
  // Advice only: if it is refused, ReadAt waits a little longer.
  (void)posix_fadvise(file_.fd, static_cast<off_t>(range.offset), static_cast<off_t>(range.bytes),
                      POSIX_FADV_WILLNEED);
}

Result<> LmdbTxn::ReadAt(FileRange range, std::byte* out) const {
  while (range.bytes > 0) {
    const ssize_t got = pread(file_.fd, out, range.bytes, static_cast<off_t>(range.offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return tl::unexpected<Error>(LmdbError(errno, file_.path, "reading"));
    if (got == 0) return tl::unexpected<Error>(LmdbError(MDB_CORRUPTED, file_.path, "reading"));
    range.offset += static_cast<uint64_t>(got);
    range.bytes -= static_cast<uint64_t>(got);
    out += got;
  }
  return {};
}

// LMDB frees as many pages as a large value's first page says, without a look at the value.
Result<> LmdbTxn::CheckBeforeFree(std::string_view value) const {
  // Beside the map it was put by this transaction; elsewhere than at a page's start it is small.
  const uint64_t offset =
      reinterpret_cast<uintptr_t>(value.data()) - reinterpret_cast<uintptr_t>(file_.map);
  if (offset >= file_.map_bytes || offset % file_.page_bytes != sizeof(PageHeader)) return {};
  PageHeader page;
  std::memcpy(&page, value.data() - sizeof(page), sizeof(page));
  const uint64_t pages = (sizeof(page) + value.size() + file_.page_bytes - 1) / file_.page_bytes;
  if (page.flags == kOverflowPage && page.OverflowPages() == pages) return {};
  return tl::unexpected<Error>(LmdbError(MDB_CORRUPTED, file_.path, "freeing a value"));
}

Result<> LmdbTxn::Put(std::string_view key, std::string_view value) {
  MDB_val k = ToVal(key);
  MDB_val v;
  int rc = mdb_get(txn_, dbi_, &k, &v);
  if (rc == 0) {
    if (auto checked = CheckBeforeFree(FromVal(v)); !checked) return checked;
  } else if (rc != MDB_NOTFOUND) {
    return Failed(rc, "writing");
  }
  v = ToVal(value);
  rc = mdb_put(txn_, dbi_, &k, &v, 0);
  if (rc != 0) return Failed(rc, "writing");
  return {};
}

Result<std::optional<LmdbEntry>> LmdbTxn::LastBelow(std::string_view key) {
  MDB_cursor* raw = nullptr;
  int rc = mdb_cursor_open(txn_, dbi_, &raw);
  if (rc != 0) return Failed(rc, "reading");
  const Cursor cursor(raw);
  MDB_val k = ToVal(key);
  MDB_val v;
  rc = mdb_cursor_get(raw, &k, &v, MDB_SET_RANGE);
  if (rc == 0) {
    rc = mdb_cursor_get(raw, &k, &v, MDB_PREV);
  } else if (rc == MDB_NOTFOUND) {
    rc = mdb_cursor_get(raw, &k, &v, MDB_LAST);
  }
  if (rc == MDB_NOTFOUND) return std::nullopt;
  if (rc != 0) return Failed(rc, "reading");
  return LmdbEntry{FromVal(k), FromVal(v)};
}

Result<> LmdbTxn::Scan(Range range, const std::function<Result<bool>(const LmdbEntry&)>& visit) {
  MDB_cursor* raw = nullptr;
  int rc = mdb_cursor_open(txn_, dbi_, &raw);
  if (rc != 0) return Failed(rc, "reading");
  const Cursor cursor(raw);
  MDB_val k = ToVal(range.first);
  MDB_val v;
  rc = mdb_cursor_get(raw, &k, &v, MDB_SET_RANGE);
  while (rc == 0 && FromVal(k) < range.last) {
    const auto more = visit({FromVal(k), FromVal(v)});
    if (!more) return tl::unexpected<Error>(more.error());
    if (!*more) return {};
    rc = mdb_cursor_get(raw, &k, &v, MDB_NEXT);
  }
  if (rc != 0 && rc != MDB_NOTFOUND) return Failed(rc, "reading");
  return {};
}

Result<> LmdbTxn::DeleteRange(Range range) {
  MDB_cursor* raw = nullptr;
  int rc = mdb_cursor_open(txn_, dbi_, &raw);
  if (rc != 0) return Failed(rc, "removing");
  const Cursor cursor(raw);
  for (;;) {
    MDB_val k = ToVal(range.first);
    MDB_val v;
    rc = mdb_cursor_get(raw, &k, &v, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND || (rc == 0 && FromVal(k) >= range.last)) return {};
    if (rc == 0) {
      if (auto checked = CheckBeforeFree(FromVal(v)); !checked) return checked;
      rc = mdb_cursor_del(raw, 0);
    }
    if (rc != 0) return Failed(rc, "removing");
  }
}

Result<bool> LmdbTxn::Empty() {
  MDB_stat stat;
  const int rc = mdb_stat(txn_, dbi_, &stat);
  if (rc != 0) return Failed(rc, "reading");
  return stat.ms_entries == 0;
}

}  // namespace freshet::checkpoint
