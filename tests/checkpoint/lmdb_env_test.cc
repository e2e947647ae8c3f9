// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_env.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <thread>

#include "tests/checkpoint/testing.h"

namespace freshet::checkpoint {
namespace {

using base::ErrorCode;
using base::Result;
using testing::TempDir;

LmdbOptions Small(const std::string& directory) {
  return {.directory = directory,
          .content = "things",
          .format = 1,
          .initial_map_bytes = 1 << 20,
          .max_map_bytes = 16 << 20};
}

std::unique_ptr<LmdbEnv> OpenEnv(LmdbOptions options) {
  auto env = LmdbEnv::Open(std::move(options));
  EXPECT_TRUE(env) << env.error().message;
  return env ? std::move(*env) : nullptr;
}

Result<> Put(LmdbEnv& env, const std::string& key, const std::string& value, uint64_t announced) {
  return env.Write(announced, [&](LmdbTxn& txn) { return txn.Put(key, value); });
}

// Empty when missing.
std::string Get(LmdbEnv& env, const std::string& key) {
  std::string out;
  const auto read = env.Read([&](LmdbTxn& txn) -> Result<> {
    const auto value = txn.Get(key);
    if (value && *value) out = std::string(**value);
    return {};
  });
  EXPECT_TRUE(read);
  return out;
}

std::string Key(uint64_t i) { return fmt::format("key{}", i); }

TEST(LmdbEnv, SecondProcessIsAConflictThatNamesTheDirectory) {
  const TempDir dir;
  const auto env = OpenEnv(Small(dir.path()));
  const pid_t child = fork();
  if (child == 0) {
    const auto second = LmdbEnv::Open(Small(dir.path()));
    const bool right = !second && second.error().code == ErrorCode::kConflict &&
                       second.error().message.find(dir.path()) != std::string::npos;
    _exit(right ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(LmdbEnv, OtherContentOrFormatIsRefusedWithBothNamed) {
  const TempDir dir;
  OpenEnv(Small(dir.path())).reset();
  LmdbOptions other = Small(dir.path());
  other.format = 2;
  const auto newer = LmdbEnv::Open(other);
  ASSERT_FALSE(newer);
  EXPECT_EQ(newer.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(newer.error().message.find("things format 1"), std::string::npos);
  EXPECT_NE(newer.error().message.find("things format 2"), std::string::npos);
  other = Small(dir.path());
  other.content = "images";
  EXPECT_EQ(LmdbEnv::Open(other).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(LmdbEnv::Open(Small(dir.path())));
}

TEST(LmdbEnv, ForeignFileIsCorrupt) {
  const TempDir dir;
  testing::WriteFile(dir.path() + "/data.mdb", std::string(20000, 'x'));
  const auto env = LmdbEnv::Open(Small(dir.path()));
  ASSERT_FALSE(env);
  EXPECT_EQ(env.error().code, ErrorCode::kCorrupt);
}

TEST(LmdbEnv, LostFileIsNotTakenForANewOne) {
  const TempDir dir;
  const std::string file = dir.path() + "/data.mdb";
  OpenEnv(Small(dir.path())).reset();
  std::filesystem::remove(file);
  EXPECT_EQ(LmdbEnv::Open(Small(dir.path())).error().code, ErrorCode::kCorrupt);
  testing::WriteFile(file, "");
  EXPECT_EQ(LmdbEnv::Open(Small(dir.path())).error().code, ErrorCode::kCorrupt);
}

TEST(LmdbEnv, ImpossibleDirectoryIsAnErrorThatNamesIt) {
  const TempDir dir;
  testing::WriteFile(dir.path() + "/file", "");
  const auto env = LmdbEnv::Open(Small(dir.path() + "/file/store"));
  ASSERT_FALSE(env);
  EXPECT_EQ(env.error().code, ErrorCode::kIo);
  EXPECT_NE(env.error().message.find("/file/store"), std::string::npos);
}

TEST(LmdbEnv, MapGrowsWhetherOrNotTheSizeWasAnnounced) {
  for (const uint64_t announced : {0, 65536}) {
    const TempDir dir;
    const auto env = OpenEnv(Small(dir.path()));
    for (int i = 0; i < 100; ++i) {
      const auto put = Put(*env, Key(i), std::string(65536, 'a' + i % 26), announced);
      ASSERT_TRUE(put) << i << put.error().message;
    }
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(Get(*env, Key(i)), std::string(65536, 'a' + i % 26));
    }
  }
}

TEST(LmdbEnv, GreatestSizeIsResourceExhaustedAndNothingIsLost) {
  const TempDir dir;
  const auto env = OpenEnv(Small(dir.path()));
  int stored = 0;
  Result<> put;
  const std::string value(1 << 20, 'v');
  for (; stored < 30; ++stored) {
    put = Put(*env, Key(10 + stored), value, value.size());
    if (!put) break;
  }
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, ErrorCode::kResourceExhausted);
  EXPECT_GT(stored, 10);
  EXPECT_TRUE(env->writable());
  EXPECT_EQ(Get(*env, "key10"), value);
  EXPECT_EQ(Get(*env, Key(10 + stored)), "");
  // What is removed makes room, after the transaction that removed it.
  ASSERT_TRUE(env->Write(0, [](LmdbTxn& txn) { return txn.DeleteRange({"key10", "key15"}); }));
  ASSERT_TRUE(Put(*env, "a", "small", 0));
  EXPECT_TRUE(Put(*env, "key", value, value.size()));
}

TEST(LmdbEnv, FailedWorkChangesNothing) {
  const TempDir dir;
  const auto env = OpenEnv(Small(dir.path()));
  const auto written = env->Write(0, [](LmdbTxn& txn) -> Result<> {
    if (auto put = txn.Put("key", "value"); !put) return put;
    return base::Fail(ErrorCode::kConflict, "no");
  });
  EXPECT_EQ(written.error().code, ErrorCode::kConflict);
  EXPECT_EQ(Get(*env, "key"), "");
  EXPECT_TRUE(env->writable());
}

TEST(LmdbEnv, ScanAndDeleteKeepToTheirRange) {
  const TempDir dir;
  const auto env = OpenEnv(Small(dir.path()));
  for (const char* key : {"a", "b1", "b2", "c"}) ASSERT_TRUE(Put(*env, key, key, 0));
  std::string seen;
  ASSERT_TRUE(env->Read([&](LmdbTxn& txn) {
    return txn.Scan({"b", "c"}, [&](const LmdbEntry& entry) -> Result<bool> {
      seen += entry.key;
      return true;
    });
  }));
  EXPECT_EQ(seen, "b1b2");
  ASSERT_TRUE(env->Write(0, [](LmdbTxn& txn) -> Result<> {
    EXPECT_EQ((*txn.LastBelow("b2"))->key, "b1");
    EXPECT_EQ((*txn.LastBelow("zz"))->key, "c");
    EXPECT_EQ(*txn.LastBelow("!"), std::nullopt);
    return txn.DeleteRange({"b", "c"});
  }));
  EXPECT_EQ(Get(*env, "a") + Get(*env, "b1") + Get(*env, "b2") + Get(*env, "c"), "ac");
}

TEST(LmdbEnv, ReadersSeeWholeStatesBesideAWriterThatGrowsTheMap) {
  const TempDir dir;
  const auto env = OpenEnv(Small(dir.path()));
  ASSERT_TRUE(Put(*env, "a", "0", 0));
  std::atomic<bool> done{false};
  std::thread reader([&] {
    uint64_t before = 0;
    while (!done) {
      const auto read = env->Read([&](LmdbTxn& txn) -> Result<> {
        const uint64_t now = std::stoull(std::string(**txn.Get("a")));
        EXPECT_GE(now, before);
        for (uint64_t i = before; i < now; ++i) EXPECT_TRUE(*txn.Get(Key(i + 1)));
        before = now;
        return {};
      });
      EXPECT_TRUE(read);
    }
  });
  for (int i = 1; i <= 200; ++i) {
    EXPECT_TRUE(env->Write(0, [&](LmdbTxn& txn) -> Result<> {
      if (auto put = txn.Put(Key(i), std::string(30000, 'x')); !put) return put;
      return txn.Put("a", std::to_string(i));
    }));
  }
  done = true;
  reader.join();
}

// A disk of its own, if this process may have one.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& path) : path_(path) {
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, "size=4m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  const std::string path_;
  bool mounted_;
};

TEST(LmdbEnv, FullDiskIsNoticedBeforeAnythingIsWritten) {
  const TempDir dir;
  const SmallDisk disk(dir.path());
  if (!disk.mounted()) {
    std::puts("passed over: this process may not mount a small disk");
    return;
  }
  const auto env = OpenEnv(Small(dir.path()));
  const std::string value(500 << 10, 'v');
  ASSERT_TRUE(Put(*env, "first", value, value.size()));
  testing::WriteFile(dir.path() + "/other", std::string(8 << 20, 'x'));
  const auto put = Put(*env, "second", value, value.size());
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(put.error().message.find("no space left"), std::string::npos) << put.error().message;
  EXPECT_TRUE(env->writable());
  EXPECT_EQ(Get(*env, "first"), value);
  EXPECT_EQ(Get(*env, "second"), "");
  std::filesystem::remove(dir.path() + "/other");
  ASSERT_TRUE(Put(*env, "second", value, value.size()));
  EXPECT_EQ(Get(*env, "second"), value);
}

}  // namespace
}  // namespace freshet::checkpoint
