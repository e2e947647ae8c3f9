// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_txn.h"

#include <fmt/format.h>
#include <lmdb.h>

#include <cerrno>
#include <memory>

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
  return tl::unexpected<Error>(LmdbError(code, file_, doing));
}

Result<std::optional<std::string_view>> LmdbTxn::Get(std::string_view key) {
  MDB_val k = ToVal(key);
  MDB_val v;
  const int rc = mdb_get(txn_, dbi_, &k, &v);
  if (rc == MDB_NOTFOUND) return std::nullopt;
  if (rc != 0) return Failed(rc, "reading");
  return FromVal(v);
}

Result<> LmdbTxn::Put(std::string_view key, std::string_view value) {
  MDB_val k = ToVal(key);
  MDB_val v = ToVal(value);
  const int rc = mdb_put(txn_, dbi_, &k, &v, 0);
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
    if (rc == 0) rc = mdb_cursor_del(raw, 0);
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
