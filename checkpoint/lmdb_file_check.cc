// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/lmdb_file_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include "checkpoint/lmdb_format.h"
#include "checkpoint/lmdb_txn.h"

namespace freshet::checkpoint {

using base::Error;
using base::ErrorCode;
using base::Fail;
using base::Result;

namespace {

constexpr uint64_t kMetaPages = 2;
constexpr uint16_t kMaxDepth = 32;
// Pages that were taken and freed by one transaction are counted, but never written.
constexpr uint64_t kMaxUnwrittenPages = 1 << 22;

template <class T>
T ReadStruct(const char* from) {
  T out;
  std::memcpy(&out, from, sizeof(out));
  return out;
}

class FileCheck {
 public:
  FileCheck(int fd, uint64_t file_bytes, const std::string& path)
      : fd_(fd), file_bytes_(file_bytes), path_(path) {}

  Result<> Run();

 private:
  enum class Tree : uint8_t { kFree, kMain };

  tl::unexpected<Error> Damaged(const std::string& what) const {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{} is damaged ({}): restore it from a copy, or move it away to start "
                            "without it",
                            path_, what));
  }
  Result<> Read(uint64_t offset, char* out, size_t bytes) const;
  Result<> ReadMetas();
  Result<> CheckTree(Tree tree, const TreeRoot& root);
  Result<> CheckPage(Tree tree, uint64_t number, uint16_t levels);
  Result<> CheckNode(Tree tree, std::string_view page, size_t offset, uint16_t levels, bool first);
  Result<> CheckLeafNode(Tree tree, std::string_view key, const NodeHeader& node,
                         std::string_view rest);
  Result<> CheckFreeList(std::string_view ids);
  Result<> TakePages(uint64_t first, uint64_t pages);

  const int fd_;
  const uint64_t file_bytes_;
  const std::string& path_;
  uint64_t page_bytes_ = 0;
  Meta meta_;
  std::vector<bool> taken_;
  // While a tree is walked in the order of its keys:
  std::string last_key_;
  std::string least_key_;  // of what comes next, by the branches above it
  uint64_t entries_ = 0;
  uint64_t branch_pages_ = 0;
  uint64_t leaf_pages_ = 0;
};

Result<> FileCheck::Read(uint64_t offset, char* out, size_t bytes) const {
  while (bytes > 0) {
    const ssize_t got = pread(fd_, out, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return tl::unexpected<Error>(LmdbError(errno, path_, "checking it"));
    if (got == 0) return Damaged("it is too short");
    offset += static_cast<uint64_t>(got);
    out += got;
    bytes -= static_cast<size_t>(got);
  }
  return {};
}

Result<> FileCheck::ReadMetas() {
  Meta metas[kMetaPages];
  page_bytes_ = 0;
  for (uint64_t i = 0; i < kMetaPages; ++i) {
    char page[sizeof(PageHeader) + sizeof(Meta)];
    if (auto read = Read(i * page_bytes_, page, sizeof(page)); !read) return read;
    const auto header = ReadStruct<PageHeader>(page);
    metas[i] = ReadStruct<Meta>(page + sizeof(PageHeader));
    const Meta& meta = metas[i];
    const uint64_t page_bytes = meta.free.page_bytes;
    if (meta.magic != kLmdbMagic || meta.version != kLmdbVersion || header.number != i ||
        header.flags != kMetaPage || meta.free.flags != kFreeTreeFlags ||
        meta.main.flags != kMainTreeFlags || page_bytes < 512 || page_bytes > 65536 ||
        (page_bytes & (page_bytes - 1)) != 0 || (i == 1 && page_bytes != page_bytes_)) {
      return Damaged(fmt::format("root {} is not one", i));
    }
    page_bytes_ = page_bytes;
  }
  // Transactions write the roots in turn, so that their numbers follow one another.
  const uint64_t even = metas[0].txn;
  const uint64_t odd = metas[1].txn;
  const bool fresh = even == 0 && odd == 0;
  const bool in_turn = even % 2 == 0 && odd % 2 == 1 && (even + 1 == odd || odd + 1 == even);
  if (!fresh && !in_turn) return Damaged("its roots are not of two successive transactions");
  meta_ = metas[odd > even ? 1 : 0];
  if (meta_.last_page < kMetaPages - 1 ||
      meta_.last_page > file_bytes_ / page_bytes_ + kMaxUnwrittenPages) {
    return Damaged("its root counts other pages than it has");
  }
  return {};
}

Result<> FileCheck::TakePages(uint64_t first, uint64_t pages) {
  if (first < kMetaPages || first > meta_.last_page || pages > meta_.last_page - first + 1) {
    return Damaged(fmt::format("page {} is outside", first));
  }
  for (uint64_t page = first; page < first + pages; ++page) {
    if (taken_[page]) return Damaged(fmt::format("page {} is used twice", page));
    taken_[page] = true;
  }
  return {};
}

Result<> FileCheck::CheckFreeList(std::string_view ids) {
  const auto count = ids.size() < 8 ? UINT64_MAX : ReadStruct<uint64_t>(ids.data());
  if (count > ids.size() / 8 - 1) return Damaged("a list of free pages is too short");
  for (uint64_t i = 1; i <= count; ++i) {
    if (auto r = TakePages(ReadStruct<uint64_t>(ids.data() + 8 * i), 1); !r) return r;
  }
  return {};
}

Result<> FileCheck::CheckLeafNode(Tree tree, std::string_view key, const NodeHeader& node,
                                  std::string_view rest) {
  std::string sortable(key);
  if (tree == Tree::kFree) {
    if (key.size() != 8) return Damaged("a key of the free list is not one");
    std::reverse(sortable.begin(), sortable.end());
  }
  if (entries_ > 0 && sortable <= last_key_) return Damaged("its keys are out of order");
  if (sortable < least_key_) return Damaged("its keys are not where its branches say");
  last_key_ = std::move(sortable);
  ++entries_;
  const uint64_t bytes = node.ValueBytes();
  if ((node.flags & ~kLargeValueNode) != 0) return Damaged("a value is of an unknown kind");
  if ((node.flags & kLargeValueNode) == 0) {
    if (bytes > rest.size()) return Damaged("a value leaves its page");
    return tree == Tree::kFree ? CheckFreeList(rest.substr(0, bytes)) : Result<>();
  }
  if (rest.size() < 8) return Damaged("a value leaves its page");
  const auto first = ReadStruct<uint64_t>(rest.data());
  const uint64_t pages = (sizeof(PageHeader) + bytes + page_bytes_ - 1) / page_bytes_;
  if (auto r = TakePages(first, pages); !r) return r;
  const uint64_t offset = first * page_bytes_;
  if (offset + sizeof(PageHeader) + bytes > file_bytes_) return Damaged("it is too short");
  if (tree != Tree::kFree) return {};
  std::vector<char> ids(bytes);
  if (auto r = Read(offset + sizeof(PageHeader), ids.data(), bytes); !r) return r;
  return CheckFreeList({ids.data(), ids.size()});
}

Result<> FileCheck::CheckNode(Tree tree, std::string_view page, size_t offset, uint16_t levels,
                              bool first) {
  if (offset + sizeof(NodeHeader) > page.size()) return Damaged("a node leaves its page");
  const auto node = ReadStruct<NodeHeader>(page.data() + offset);
  std::string_view rest = page.substr(offset + sizeof(NodeHeader));
  if (node.key_bytes > rest.size()) return Damaged("a key leaves its page");
  const std::string_view key = rest.substr(0, node.key_bytes);
  rest.remove_prefix(node.key_bytes);
  if (levels == 0) return CheckLeafNode(tree, key, node, rest);
  if (!first) {  // the first child of a branch needs no key
    std::string sortable(key);
    if (tree == Tree::kFree) std::reverse(sortable.begin(), sortable.end());
    if (sortable <= last_key_) return Damaged("its branches are out of order");
    least_key_ = std::move(sortable);
  }
  return CheckPage(tree, node.Child(), static_cast<uint16_t>(levels - 1));
}

Result<> FileCheck::CheckPage(Tree tree, uint64_t number, uint16_t levels) {
  if (auto r = TakePages(number, 1); !r) return r;
  std::vector<char> bytes(page_bytes_);
  if (auto r = Read(number * page_bytes_, bytes.data(), bytes.size()); !r) return r;
  const auto header = ReadStruct<PageHeader>(bytes.data());
  const size_t nodes = header.lower < sizeof(header) ? 0 : (header.lower - sizeof(header)) / 2;
  if (header.number != number || header.flags != (levels == 0 ? kLeafPage : kBranchPage) ||
      header.lower % 2 != 0 || header.lower > header.upper || header.upper > page_bytes_ ||
      nodes == 0) {
    return Damaged(fmt::format("page {} is not what leads to it says", number));
  }
  ++(levels == 0 ? leaf_pages_ : branch_pages_);
  for (size_t i = 0; i < nodes; ++i) {
    const size_t offset = ReadStruct<uint16_t>(bytes.data() + sizeof(header) + 2 * i);
    if (offset < header.upper) return Damaged(fmt::format("a node leaves page {}", number));
    const auto checked = CheckNode(tree, {bytes.data(), bytes.size()}, offset, levels, i == 0);
    if (!checked) return checked;
  }
  return {};
}

Result<> FileCheck::CheckTree(Tree tree, const TreeRoot& root) {
  last_key_.clear();
  least_key_.clear();
  entries_ = branch_pages_ = leaf_pages_ = 0;
  if (root.depth > kMaxDepth || (root.depth == 0) != (root.root == kEmptyTree)) {
    return Damaged("the root of a tree is not one");
  }
  if (root.depth > 0) {
    const auto checked = CheckPage(tree, root.root, static_cast<uint16_t>(root.depth - 1));
    if (!checked) return checked;
  }
  if (entries_ != root.entries || branch_pages_ != root.branch_pages ||
      leaf_pages_ != root.leaf_pages) {
    return Damaged(fmt::format("{} entries where {} were counted", entries_, root.entries));
  }
  return {};
}

Result<> FileCheck::Run() {
  if (auto r = ReadMetas(); !r) return r;
  taken_.assign(meta_.last_page + 1, false);
  if (auto r = CheckTree(Tree::kMain, meta_.main); !r) return r;
  return CheckTree(Tree::kFree, meta_.free);
}

// Runs `check` with the open file and its size; a missing file passes.
Result<> WithFile(const std::string& path, const std::function<Result<>(int, uint64_t)>& check) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return {};
  if (fd < 0) return tl::unexpected<Error>(LmdbError(errno, path, "opening it"));
  struct stat info;
  Result<> checked;
  if (fstat(fd, &info) != 0) {
    checked = tl::unexpected<Error>(LmdbError(errno, path, "opening it"));
  } else {
    checked = check(fd, static_cast<uint64_t>(info.st_size));
  }
  close(fd);
  return checked;
}

// Each root is not written yet or looks like one.
bool HasOnlyNewRoots(int fd) {
  for (const off_t offset : {off_t{0}, off_t{kNewFileBytes / 2}}) {
    char start[sizeof(PageHeader) + 4] = {};
    if (pread(fd, start, sizeof(start), offset) < 0) return false;
    const auto magic = ReadStruct<uint32_t>(start + sizeof(PageHeader));
    if (magic != 0 && magic != kLmdbMagic) return false;
  }
  return true;
}

}  // namespace

Result<> CheckLmdbFile(const std::string& path) {
  return WithFile(path, [&](int fd, uint64_t bytes) { return FileCheck(fd, bytes, path).Run(); });
}

Result<> RemoveUnfinishedLmdbFile(const std::string& path) {
  return WithFile(path, [&](int fd, uint64_t bytes) -> Result<> {
    if (bytes > kFirstCommitBytes || !HasOnlyNewRoots(fd)) return {};
    const auto checked = FileCheck(fd, bytes, path).Run();
    if (checked || checked.error().code != ErrorCode::kCorrupt) return checked;
    if (unlink(path.c_str()) == 0) return {};
    return tl::unexpected<Error>(LmdbError(errno, path, "creating it anew"));
  });
}

}  // namespace freshet::checkpoint
