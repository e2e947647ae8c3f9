// SPDX-License-Identifier: Apache-2.0
// LmdbTxn: what may be done inside a transaction. LmdbEnv makes and ends it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

struct MDB_env;
struct MDB_txn;
using MDB_dbi = unsigned int;

namespace freshet::checkpoint {

// What an LMDB return code means to a person. `file` and `doing` name the place.
base::Error LmdbError(int code, const std::string& file, std::string_view doing);

// The file behind a database, owned by its LmdbEnv.
struct LmdbFile {
  std::string path;
  int fd = -1;
  uint64_t page_bytes = 0;
  const char* map = nullptr;  // of the file's first byte; moves when the map grows
  uint64_t map_bytes = 0;
};

// Where a value lies in the file.
struct FileRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct LmdbEntry {
  std::string_view key;
  std::string_view value;
};

// Used by one thread, inside the callback that got it. Views it returns die with the next change or
// with the callback. Keys are 1 to 511 bytes, in byte order.
class LmdbTxn {
 public:
  LmdbTxn(MDB_txn* txn, MDB_dbi dbi, const LmdbFile& file) : txn_(txn), dbi_(dbi), file_(file) {}
  LmdbTxn(const LmdbTxn&) = delete;
  LmdbTxn& operator=(const LmdbTxn&) = delete;

  base::Result<std::optional<std::string_view>> Get(std::string_view key);
  // Values that may be large and cold are read beside the map: a bad sector is then kIo instead of
  // a SIGBUS, and the disk is asked for all of them at once. Only before the first change.
  base::Result<std::optional<FileRange>> Locate(std::string_view key);
  void Prefetch(FileRange range) const;
  base::Result<> ReadAt(FileRange range, std::byte* out) const;

  base::Result<> Put(std::string_view key, std::string_view value);
  // The entry with the greatest key that is < `key`.
  base::Result<std::optional<LmdbEntry>> LastBelow(std::string_view key);
  // Entries with first <= key < last in order, until `visit` returns false or fails.
  struct Range {
    std::string_view first;
    std::string_view last;
  };
  base::Result<> Scan(Range range,
                      const std::function<base::Result<bool>(const LmdbEntry&)>& visit);
  base::Result<> DeleteRange(Range range);
  base::Result<bool> Empty();

  // An earlier call failed because the map is full; the environment resizes it and runs again.
  bool map_full() const { return map_full_; }

 private:
  tl::unexpected<base::Error> Failed(int code, std::string_view doing);
  base::Result<> CheckBeforeFree(std::string_view value) const;

  MDB_txn* const txn_;
  const MDB_dbi dbi_;
  const LmdbFile& file_;
  bool map_full_ = false;
};

}  // namespace freshet::checkpoint
