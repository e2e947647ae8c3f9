// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_env.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lmdb.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "checkpoint/lmdb_file_check.h"
#include "checkpoint/lmdb_format.h"

namespace freshet::checkpoint {

using base::Error;
using base::ErrorCode;
using base::Fail;
using base::Result;

namespace {

constexpr mdb_mode_t kMode = 0600;

// Room beside the values: tree pages, value headers, the list of freed pages.
uint64_t WithOverhead(uint64_t bytes) { return bytes + bytes / 16 + (512 << 10); }

struct AbortTxn {
  void operator()(MDB_txn* txn) const { mdb_txn_abort(txn); }
};
using Txn = std::unique_ptr<MDB_txn, AbortTxn>;

Result<> SyncDirectory(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int rc = fd < 0 ? -1 : fsync(fd);
  const int error = errno;
  if (fd >= 0) close(fd);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(error, directory, "making it durable"));
  return {};
}

std::string ContentRecord(const LmdbOptions& options) {
  return fmt::format("freshet {} format {}", options.content, options.format);
}

}  // namespace

LmdbEnv::LmdbEnv(LmdbOptions options)
    : options_(std::move(options)), file_{.path = options_.directory + "/data.mdb"} {}

LmdbEnv::~LmdbEnv() {
  if (env_ != nullptr) mdb_env_close(env_);
  if (lock_fd_ >= 0) close(lock_fd_);
}

Result<std::unique_ptr<LmdbEnv>> LmdbEnv::Open(LmdbOptions options) {
  std::unique_ptr<LmdbEnv> env(new LmdbEnv(std::move(options)));
  if (auto locked = env->Lock(); !locked) return tl::unexpected<Error>(locked.error());
  if (auto there = env->CheckPresence(); !there) return tl::unexpected<Error>(there.error());
  if (auto sound = CheckLmdbFile(env->file()); !sound) return tl::unexpected<Error>(sound.error());
  if (auto opened = env->OpenDatabase(); !opened) return tl::unexpected<Error>(opened.error());
  if (auto checked = env->CheckContent(); !checked) return tl::unexpected<Error>(checked.error());
  return env;
}

Result<> LmdbEnv::Lock() {
  const std::string& directory = options_.directory;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return tl::unexpected<Error>(LmdbError(error.value(), directory, "creating it"));
  const std::string path = directory + "/LOCK";
  lock_fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kMode);
  if (lock_fd_ < 0) return tl::unexpected<Error>(LmdbError(errno, path, "opening it"));
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return tl::unexpected<Error>(LmdbError(errno, path, "locking it"));
  return Fail(
      ErrorCode::kConflict,
      fmt::format("{} is in use by another process: stop it, or use another directory", directory));
}

// The lock file remembers that the database was once durable, so that a lost one is not taken for a
// new one: a new one would start its owner's numbers again.
Result<> LmdbEnv::CheckPresence() {
  struct stat lock;
  if (fstat(lock_fd_, &lock) != 0) {
    return tl::unexpected<Error>(LmdbError(errno, options_.directory, "opening it"));
  }
  used_ = lock.st_size > 0;
  std::error_code error;
  const uint64_t bytes = std::filesystem::file_size(file_.path, error);
  if (!used_) return RemoveUnfinishedLmdbFile(file_.path);
  if (!error && bytes > kNewFileBytes) return {};
  return Fail(ErrorCode::kCorrupt,
              fmt::format("{} was lost: restore it from a copy, or remove {} to start without it",
                          file_.path, options_.directory));
}

Result<> LmdbEnv::MarkUsed() {
  // The names of the files must survive as well.
  const auto parent = std::filesystem::path(options_.directory + "/..").lexically_normal();
  if (auto synced = SyncDirectory(options_.directory); !synced) return synced;
  if (auto synced = SyncDirectory(parent.string()); !synced) return synced;
  constexpr std::string_view kUsed = "used\n";
  if (pwrite(lock_fd_, kUsed.data(), kUsed.size(), 0) != static_cast<ssize_t>(kUsed.size()) ||
      fsync(lock_fd_) != 0) {
    return tl::unexpected<Error>(LmdbError(errno, options_.directory, "marking it as used"));
  }
  used_ = true;
  return {};
}

Result<> LmdbEnv::OpenDatabase() {
  struct stat info;
  const uint64_t file_bytes =
      stat(file_.path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
  file_.map_bytes = std::max(options_.initial_map_bytes, file_bytes + file_bytes / 4);

  int rc = mdb_env_create(&env_);
  if (rc == 0) rc = mdb_env_set_mapsize(env_, file_.map_bytes);
  // No sync flag, and no MDB_WRITEMAP (SIGBUS on a full disk): a commit is durable when it returns.
  if (rc == 0) rc = mdb_env_open(env_, options_.directory.c_str(), MDB_NOTLS, kMode);
  int dead_readers = 0;
  if (rc == 0) rc = mdb_reader_check(env_, &dead_readers);
  MDB_envinfo env_info;
  MDB_stat env_stat;
  if (rc == 0) rc = mdb_env_info(env_, &env_info);
  if (rc == 0) rc = mdb_env_stat(env_, &env_stat);
  if (rc == 0) rc = mdb_env_get_fd(env_, &file_.fd);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "opening it"));
  file_.map_bytes = env_info.me_mapsize;
  file_.page_bytes = env_stat.ms_psize;

  MDB_txn* raw = nullptr;
  rc = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &raw);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "opening it"));
  const Txn txn(raw);
  rc = mdb_dbi_open(raw, nullptr, 0, &dbi_);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "opening it"));
  return {};
}

Result<> LmdbEnv::CheckContent() {
  const std::string expected = ContentRecord(options_);
  std::string found;
  bool empty = false;
  const auto read = Read([&](LmdbTxn& txn) -> Result<> {
    const auto is_empty = txn.Empty();
    if (!is_empty) return tl::unexpected<Error>(is_empty.error());
    empty = *is_empty;
    const auto record = txn.Get(kContentKey);
    if (!record) return tl::unexpected<Error>(record.error());
    if (*record) found.assign((*record)->substr(0, 200));
    return {};
  });
  if (!read) return read;
  if (empty) {
    const auto written =
        Write(expected.size(), [&](LmdbTxn& txn) { return txn.Put(kContentKey, expected); });
    if (!written) return written;
  } else if (!found.starts_with("freshet ")) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{} was not written by freshet, or is damaged: use another directory",
                            file_.path));
  } else if (found != expected) {
    return Fail(ErrorCode::kInvalidArgument,
                fmt::format("{} holds \"{}\", this program reads \"{}\": use the release that "
                            "wrote it, or another directory",
                            file_.path, found, expected));
  }
  if (!used_) {
    if (auto marked = MarkUsed(); !marked) return marked;
  }
  return FindMap();
}

// LMDB does not say where its map is, but the content record's page knows its own number.
Result<> LmdbEnv::FindMap() {
  MDB_txn* raw = nullptr;
  const int rc = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &raw);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "reading"));
  const Txn ends(raw);
  LmdbTxn txn(raw, dbi_, file_);
  const auto record = txn.Get(kContentKey);
  if (!record) return tl::unexpected<Error>(record.error());
  CHECK(*record);
  const auto at = reinterpret_cast<uintptr_t>((*record)->data());
  const char* page = (*record)->data() - at % file_.page_bytes;
  PageHeader header;
  std::memcpy(&header, page, sizeof(header));
  file_.map = page - header.number * file_.page_bytes;
  return {};
}

Result<> LmdbEnv::Read(const Work& work) {
  const std::shared_lock map(map_mutex_);
  MDB_txn* raw = nullptr;
  const int rc = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &raw);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "reading"));
  const Txn ends(raw);
  LmdbTxn txn(raw, dbi_, file_);
  return work(txn);
}

Result<> LmdbEnv::Write(uint64_t bytes, const Work& work) {
  const std::lock_guard writer(write_mutex_);
  for (;;) {
    if (dead_) {
      return Fail(ErrorCode::kIo,
                  fmt::format("{} takes no more writes since one failed ({}): check the disk, then "
                              "restart this process",
                              file_.path, dead_reason_));
    }
    if (auto room = MakeRoom(bytes); !room) return room;
    bool map_full = false;
    const auto written = WriteOnce(work, &map_full);
    if (!map_full) return written;
    if (auto grown = GrowMap(file_.map_bytes * 2); !grown) return grown;
  }
}

Result<> LmdbEnv::WriteOnce(const Work& work, bool* map_full) {
  const std::shared_lock map(map_mutex_);
  MDB_txn* raw = nullptr;
  int rc = mdb_txn_begin(env_, nullptr, 0, &raw);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "writing"));
  Txn ends(raw);
  LmdbTxn txn(raw, dbi_, file_);
  const auto worked = work(txn);
  *map_full = txn.map_full();
  if (!worked || *map_full) return worked;
  rc = mdb_txn_commit(ends.release());
  if (rc == 0) return {};
  // The only failure of a commit that is known to come before anything is written.
  *map_full = rc == MDB_MAP_FULL;
  Error error = LmdbError(rc, file_.path, "committing");
  if (!*map_full) {
    error.code = ErrorCode::kIo;  // whatever the cause: it can only be tried again after a restart
    dead_ = true;
    dead_reason_ = error.message;
  }
  return tl::unexpected<Error>(std::move(error));
}

Result<> LmdbEnv::MakeRoom(uint64_t bytes) {
  MDB_envinfo info;
  const int rc = mdb_env_info(env_, &info);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "writing"));
  const uint64_t used = (info.me_last_pgno + 1) * file_.page_bytes;
  const uint64_t wanted = WithOverhead(bytes);
  // Pages freed earlier may do, so a map at its limit is tried before it is refused.
  if (used + wanted > file_.map_bytes && file_.map_bytes < options_.max_map_bytes) {
    if (auto grown = GrowMap(used + wanted); !grown) return grown;
  }
  return ReserveDisk(used, wanted);
}

Result<> LmdbEnv::ReserveDisk(uint64_t used_bytes, uint64_t bytes) {
  if (used_bytes + bytes <= reserved_bytes_) return {};
  int rc = 0;
  if (fallocate(file_.fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(used_bytes),
                static_cast<off_t>(bytes)) != 0) {
    rc = errno;
  }
  if (rc == EOPNOTSUPP) {
    struct statvfs disk;
    rc = fstatvfs(file_.fd, &disk) == 0 && disk.f_bavail < bytes / disk.f_frsize ? ENOSPC : 0;
  } else if (rc == 0) {
    reserved_bytes_ = used_bytes + bytes;
  }
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "reserving room"));
  return {};
}

Result<> LmdbEnv::GrowMap(uint64_t needed_bytes) {
  uint64_t size = file_.map_bytes;
  while (size < needed_bytes && size < options_.max_map_bytes) size *= 2;
  size = std::min(size, options_.max_map_bytes) / file_.page_bytes * file_.page_bytes;
  if (size <= file_.map_bytes) {
    return tl::unexpected<Error>(LmdbError(MDB_MAP_FULL, file_.path, "growing"));
  }
  const std::unique_lock map(map_mutex_);
  const int rc = mdb_env_set_mapsize(env_, size);
  if (rc != 0) return tl::unexpected<Error>(LmdbError(rc, file_.path, "growing"));
  file_.map_bytes = size;
  return file_.map == nullptr ? Result<>() : FindMap();
}

}  // namespace freshet::checkpoint
