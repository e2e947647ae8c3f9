// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/memory_keeper.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace freshet::benchmarks {
namespace {

constexpr uint64_t kPieceBytes = 100 << 20;
constexpr useconds_t kBetweenPiecesUs = 500'000;

// The child.
[[noreturn]] void Keep(uint64_t bytes, int begin, int ready) {
  std::vector<void*> pieces((bytes + kPieceBytes - 1) / kPieceBytes);
  for (void*& piece : pieces) {
    piece = mmap(nullptr, kPieceBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (piece == MAP_FAILED) _exit(1);
    std::memset(piece, 1, kPieceBytes);
  }
  char byte = 0;
  (void)!write(ready, "", 1);
  (void)!read(begin, &byte, 1);
  for (void* piece : pieces) {
    munmap(piece, kPieceBytes);
    usleep(kBetweenPiecesUs);
  }
  _exit(0);
}

}  // namespace

MemoryKeeper::MemoryKeeper(uint64_t bytes) {
  if (bytes == 0) return;
  int to_child[2];
  int to_parent[2];
  CHECK(pipe2(to_child, O_CLOEXEC) == 0 && pipe2(to_parent, O_CLOEXEC) == 0);
  pid_ = fork();
  CHECK(pid_ >= 0);
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Keep(bytes, to_child[0], to_parent[1]);
  }
  close(to_parent[1]);
  char byte = 0;
  CHECK(read(to_parent[0], &byte, 1) == 1);
  close(to_parent[0]);
  close(to_child[0]);
  begin_ = to_child[1];
}

MemoryKeeper::~MemoryKeeper() { End(); }

void MemoryKeeper::End() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);  // what is dead has given back all
  close(begin_);
  pid_ = 0;
}

void MemoryKeeper::Release(GiveBack how) {
  if (pid_ == 0) return;
  if (how == GiveBack::kAtOnce) {
    End();
  } else {
    CHECK(write(begin_, "", 1) == 1);
  }
}

}  // namespace freshet::benchmarks
