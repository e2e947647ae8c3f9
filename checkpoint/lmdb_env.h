// SPDX-License-Identifier: Apache-2.0
// LmdbEnv: one LMDB database in one directory, owned by one process, with its traps closed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "base/result.h"
#include "checkpoint/lmdb_txn.h"

namespace freshet::checkpoint {

struct LmdbOptions {
  std::string directory;  // created if missing, with its parents; never on a network file system
  std::string
      content;  // what is stored here, e.g. "images"; a directory of other content is refused
  uint32_t format = 1;  // of the content; a directory of another format is refused
  // Address space at first, and at most: the map doubles when it is full.
  uint64_t initial_map_bytes = 64ull << 20;
  uint64_t max_map_bytes = 4ull << 40;
};

// Thread safe: one writer at a time, readers beside it. A transaction lives only inside a callback,
// so none outlives the moment the map is resized. Every commit is durable when it returns (default
// sync flags: fdatasync of the data, then of the root). Disk full is noticed before anything is
// written: kResourceExhausted, nothing changed, try again when there is room. If a commit fails
// nobody knows what the disk holds (the kernel forgets a failed write-back), so the database
// refuses to write from then on (kIo) until the process is restarted; what was durable before stays
// readable.
class LmdbEnv {
 public:
  // Says what the database holds.
  static constexpr std::string_view kContentKey = "!content";

  using Work = std::function<base::Result<>(LmdbTxn&)>;

  // kConflict: another process has it open. kInvalidArgument: other content or format.
  static base::Result<std::unique_ptr<LmdbEnv>> Open(LmdbOptions options);
  ~LmdbEnv();
  LmdbEnv(const LmdbEnv&) = delete;
  LmdbEnv& operator=(const LmdbEnv&) = delete;

  // Runs `work` on one state of the database; values it sees are valid only inside.
  base::Result<> Read(const Work& work);

  // Runs `work` and commits, or changes nothing if it fails. `work` may be run more than once, so
  // it must not keep results of a former run. `bytes` = what it is going to put, roughly.
  base::Result<> Write(uint64_t bytes, const Work& work);

  // False once a commit has failed.
  bool writable() const { return !dead_.load(); }
  const std::string& file() const { return file_.path; }

 private:
  explicit LmdbEnv(LmdbOptions options);

  base::Result<> Lock();
  base::Result<> CheckPresence();
  base::Result<> OpenDatabase();
  base::Result<> CheckContent();
  base::Result<> MarkUsed();
  base::Result<> FindMap();
  // Room in the map and on the disk for `bytes` more; no transaction may be live in this thread.
  base::Result<> MakeRoom(uint64_t bytes);
  base::Result<> ReserveDisk(uint64_t used_bytes, uint64_t bytes);
  base::Result<> GrowMap(uint64_t needed_bytes);
  base::Result<> WriteOnce(const Work& work, bool* map_full);

  const LmdbOptions options_;
  LmdbFile file_;  // its map changes only under map_mutex_, exclusive
  int lock_fd_ = -1;
  bool used_ = false;
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
  std::atomic<bool> dead_{false};

  std::shared_mutex map_mutex_;  // shared by whoever has a transaction, exclusive to resize the map
  std::mutex write_mutex_;       // taken before map_mutex_; guards the members below
  uint64_t reserved_bytes_ = 0;  // of the file, from its start
  std::string dead_reason_;
};

}  // namespace freshet::checkpoint
