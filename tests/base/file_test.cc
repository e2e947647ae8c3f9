// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "tests/base/temp_dir.h"

namespace freshet::base {
namespace {

using ::testing::HasSubstr;

TEST(FileTest, WhatWasWrittenIsRead) {
  const TempDir dir;
  const std::string path = dir / "a";
  std::string content(300'000, 'x');
  content += '\0';
  ASSERT_TRUE(WriteFileAtomic(path, content));
  EXPECT_EQ(ReadFile(path, 1 << 20), content);
  ASSERT_TRUE(WriteFileAtomic(path, "short"));
  EXPECT_EQ(ReadFile(path, 5), "short");
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(FileTest, AFileLongerThanAllowedIsRefused) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileAtomic(dir / "a", "123456"));
  const auto content = ReadFile(dir / "a", 5);
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().code, ErrorCode::kResourceExhausted);
  EXPECT_FALSE(ReadFile("/dev/zero", 1000)) << "an endless one is, too";
}

TEST(FileTest, ErrorsNameThePathAndARemedy) {
  const TempDir dir;
  const auto missing = ReadFile(dir / "missing", 10);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr(dir / "missing"));
  EXPECT_THAT(missing.error().message, HasSubstr("check the path"));
  EXPECT_EQ(ReadFile(dir.path(), 10).error().code, ErrorCode::kIo);
  EXPECT_EQ(WriteFileAtomic(dir / "no/such/dir", "x").error().code, ErrorCode::kNotFound);
}

TEST(FileTest, AFailedWriteLeavesTheOldContent) {
  const TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir / "target"));
  const auto written = WriteFileAtomic(dir / "target", "x");
  ASSERT_FALSE(written) << "a directory cannot be replaced by a file";
  EXPECT_TRUE(std::filesystem::is_directory(dir / "target"));
  EXPECT_FALSE(std::filesystem::exists(dir / "target.tmp"));
}

TEST(FileTest, DirectoriesAreMadeOnce) {
  const TempDir dir;
  EXPECT_TRUE(MakeDirectories(dir / "a/b/c"));
  EXPECT_TRUE(MakeDirectories(dir / "a/b/c"));
  EXPECT_TRUE(SyncDirectory(dir / "a/b/c"));
  ASSERT_TRUE(WriteFileAtomic(dir / "file", "x"));
  EXPECT_FALSE(MakeDirectories(dir / "file"));
  EXPECT_FALSE(MakeDirectories(dir / "file/below"));
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
}

TEST(LockFileTest, TheSecondIsToldWhoHoldsIt) {
  const TempDir dir;
  auto first = LockFile::Acquire(dir / "lock");
  ASSERT_TRUE(first);
  const auto second = LockFile::Acquire(dir / "lock");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(::getpid())));
}

TEST(LockFileTest, ItIsFreeWhenTheHolderIsGone) {
  const TempDir dir;
  {
    auto first = LockFile::Acquire(dir / "lock");
    ASSERT_TRUE(first);
    const LockFile moved = std::move(*first);
    EXPECT_FALSE(LockFile::Acquire(dir / "lock")) << "moving keeps it";
  }
  EXPECT_TRUE(LockFile::Acquire(dir / "lock"));
}

TEST(LockFileTest, AKilledHolderLeavesNoLock) {
  const TempDir dir;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto lock = LockFile::Acquire(dir / "lock");
    const char ok = lock ? 'y' : 'n';
    if (::write(ready[1], &ok, 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char ok = 0;
  ASSERT_EQ(::read(ready[0], &ok, 1), 1);
  EXPECT_EQ(ok, 'y');
  const auto refused = LockFile::Acquire(dir / "lock");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(LockFile::Acquire(dir / "lock"));
  ::close(ready[0]);
  ::close(ready[1]);
}

}  // namespace
}  // namespace freshet::base
