// SPDX-License-Identifier: Apache-2.0
// The parts of LMDB's file format (data version 1, 64-bit, little-endian) that are checked before
// LMDB, which trusts every number in its file, follows them.
#pragma once

#include <cstdint>

namespace freshet::checkpoint {

inline constexpr uint32_t kLmdbMagic = 0xBEEFC0DE;
inline constexpr uint32_t kLmdbVersion = 1;

inline constexpr uint16_t kBranchPage = 0x01;
inline constexpr uint16_t kLeafPage = 0x02;
inline constexpr uint16_t kOverflowPage = 0x04;  // a large value; its pages follow one another
inline constexpr uint16_t kMetaPage = 0x08;

// Two roots, before the first commit; and with the one page of a first, small commit.
inline constexpr uint64_t kNewFileBytes = 2 * 4096;
inline constexpr uint64_t kFirstCommitBytes = 3 * 4096;

struct PageHeader {
  uint64_t number = 0;
  uint16_t unused = 0;
  uint16_t flags = 0;
  uint16_t lower = 0;  // end of the node offsets
  uint16_t upper = 0;  // start of the nodes

  uint32_t OverflowPages() const { return lower | static_cast<uint32_t>(upper) << 16; }
};
static_assert(sizeof(PageHeader) == 16);

// A branch node's child page, or a leaf node's value size, is spread over low, high and flags.
struct NodeHeader {
  uint16_t low = 0;
  uint16_t high = 0;
  uint16_t flags = 0;
  uint16_t key_bytes = 0;

  uint32_t ValueBytes() const { return low | static_cast<uint32_t>(high) << 16; }
  uint64_t Child() const { return ValueBytes() | static_cast<uint64_t>(flags) << 32; }
};
static_assert(sizeof(NodeHeader) == 8);
inline constexpr uint16_t kLargeValueNode = 0x01;  // the node holds the number of an overflow page

struct TreeRoot {
  uint32_t page_bytes = 0;  // in the free list's root only
  uint16_t flags = 0;
  uint16_t depth = 0;
  uint64_t branch_pages = 0;
  uint64_t leaf_pages = 0;
  uint64_t overflow_pages = 0;
  uint64_t entries = 0;
  uint64_t root = 0;
};
static_assert(sizeof(TreeRoot) == 48);
inline constexpr uint64_t kEmptyTree = ~uint64_t{0};
inline constexpr uint16_t kFreeTreeFlags = 0x08;  // integer keys
inline constexpr uint16_t kMainTreeFlags = 0;

// Pages 0 and 1; transaction n writes page n % 2.
struct Meta {
  uint32_t magic = 0;
  uint32_t version = 0;
  uint64_t address = 0;
  uint64_t map_bytes = 0;
  TreeRoot free;
  TreeRoot main;
  uint64_t last_page = 0;
  uint64_t txn = 0;
};
static_assert(sizeof(Meta) == 136);

}  // namespace freshet::checkpoint
