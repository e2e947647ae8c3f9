// SPDX-License-Identifier: Apache-2.0
// A writer is killed with SIGKILL at random moments; what it had acknowledged must be there, whole.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <map>

#include "checkpoint/lmdb_image_store.h"
#include "tests/checkpoint/testing.h"

namespace freshet::checkpoint {
namespace {

using protocol::Image;
using protocol::PartitionId;
using protocol::Stamp;
using testing::MakeImage;
using testing::MakeStamp;
using testing::Same;
using testing::TempDir;

constexpr uint16_t kPartitions = 6;

// Versions count up by one; every fifth image is whole, at a partition's own turn.
Image ImageOf(uint16_t partition, uint64_t version) {
  const bool whole = (version + partition) % 5 == 0 || version == 1;
  return MakeImage({.partition = partition,
                    .stamp = MakeStamp(1, version),
                    .base = whole ? MakeStamp(0, 0) : MakeStamp(1, version - 1),
                    .block_bytes = {64 * version % 9000, 262144, 262144, 262144, 5000}});
}

// What the writer says through the pipe, before and after each save.
struct Word {
  uint16_t partition;
  uint16_t count;  // of partitions from this one on
  uint32_t acked;  // 0 = begins
  uint64_t version;
};

[[noreturn]] void RunWriter(const std::string& directory, int out) {
  auto store = LmdbImageStore::Open({.directory = directory});
  if (!store) _exit(1);
  std::map<uint16_t, uint64_t> versions;
  const auto stored_list = (*store)->List();
  if (!stored_list) _exit(1);
  for (const StoredImage& stored : *stored_list) {
    versions[stored.partition.value()] = stored.stamp.version;
  }
  for (uint16_t turn = 0;; turn = (turn + 1) % kPartitions) {
    const uint64_t version = versions[turn] + 1;
    // Alone, or with the next partition in one transaction if that has as many versions.
    std::vector<Image> images = {ImageOf(turn, version)};
    const uint16_t next = turn + 1;
    if (next < kPartitions && versions[next] + 1 == version) {
      images.push_back(ImageOf(next, version));
    }
    Word word{turn, static_cast<uint16_t>(images.size()), 0, version};
    if (write(out, &word, sizeof(word)) != sizeof(word)) _exit(1);
    if (images.size() == 1) {
      if (!(*store)->Save(images[0])) _exit(1);
    } else {
      const auto saved = (*store)->SaveAll(images);
      if (!saved || *saved != std::vector<char>{1, 1}) _exit(1);
      versions[next] = version;
    }
    versions[turn] = version;
    word.acked = 1;
    if (write(out, &word, sizeof(word)) != sizeof(word)) _exit(1);
  }
}

struct Heard {
  std::map<uint16_t, uint64_t> begun;
  std::map<uint16_t, uint64_t> acked;
  std::vector<Word> open;  // the save that was begun and not acknowledged, if any

  void Take(const Word& word) {
    for (uint16_t i = 0; i < word.count; ++i) {
      (word.acked ? acked : begun)[word.partition + i] = word.version;
    }
    open.clear();
    if (!word.acked) open.push_back(word);
  }
};

// Starts a writer, kills it after a random number of words and a random while, hears the rest.
void WriteAndKill(const std::string& directory, base::Random& random, Heard* heard) {
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  const pid_t writer = fork();
  ASSERT_GE(writer, 0);
  if (writer == 0) {
    close(pipes[0]);
    RunWriter(directory, pipes[1]);
  }
  close(pipes[1]);
  Word word;
  for (uint64_t words = 1 + random.Below(20); words > 0; --words) {
    ASSERT_EQ(read(pipes[0], &word, sizeof(word)), static_cast<ssize_t>(sizeof(word)));
    heard->Take(word);
  }
  // Let it get somewhere into a save; words that come meanwhile stay in the pipe.
  for (uint64_t i = random.Below(4000); i > 0; --i) getppid();
  kill(writer, SIGKILL);
  while (read(pipes[0], &word, sizeof(word)) == static_cast<ssize_t>(sizeof(word))) {
    heard->Take(word);
  }
  close(pipes[0]);
  int status = 0;
  ASSERT_EQ(waitpid(writer, &status, 0), writer);
  ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed by itself";
}

TEST(LmdbImageStoreKill, AcknowledgedImagesSurviveAndAllAreWhole) {
  const TempDir dir;
  base::Random random(7);
  Heard heard;
  int cut_short = 0;
  int open_survived = 0;
  for (int round = 0; round < 25; ++round) {
    ASSERT_NO_FATAL_FAILURE(WriteAndKill(dir.path(), random, &heard));
    const auto store = LmdbImageStore::Open({.directory = dir.path()});
    ASSERT_TRUE(store) << store.error().message;
    const auto damages = (*store)->Verify();
    ASSERT_TRUE(damages && damages->empty());
    std::map<uint16_t, uint64_t> found;
    for (uint16_t partition = 0; partition < kPartitions; ++partition) {
      const auto chain = (*store)->Load(PartitionId(partition));
      if (!chain) {
        ASSERT_EQ(heard.acked.count(partition), 0u) << chain.error().message;
        continue;
      }
      for (const Image& image : *chain) {
        ASSERT_TRUE(Same(image, ImageOf(partition, image.header.stamp.version)));
      }
      found[partition] = chain->back().header.stamp.version;
      ASSERT_GE(found[partition], heard.acked[partition]);
      ASSERT_LE(found[partition], heard.begun[partition]);
    }
    // A save of two partitions is there for both or for none.
    for (const Word& word : heard.open) {
      ++cut_short;
      const bool stored = found[word.partition] == word.version;
      open_survived += stored;
      ASSERT_TRUE(word.count == 1 || (found[word.partition + 1] == word.version) == stored);
    }
    // The next writer goes on from what was found.
    heard = {found, found, {}};
  }
  EXPECT_GT(cut_short, 5);
  std::printf("killed 25 times, %d inside a save, %d of those stored\n", cut_short, open_survived);
}

}  // namespace
}  // namespace freshet::checkpoint
