// SPDX-License-Identifier: Apache-2.0
// What the tests of this folder share: a directory that goes away, and images that can be told
// apart.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/random.h"
#include "protocol/image.h"

namespace freshet::checkpoint::testing {

// In memory where possible: these tests kill processes, not machines.
class TempDir {
 public:
  TempDir() {
    path_ = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    path_ += "/freshet-checkpoint-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~TempDir() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct ImageSpec {
  uint16_t partition = 0;
  protocol::Stamp stamp = {};
  protocol::Stamp base = {};  // default: whole
  std::vector<size_t> block_bytes = {100, 5000};
};

inline protocol::Stamp MakeStamp(uint64_t tenure, uint64_t version) {
  return {protocol::Tenure(tenure), version};
}

// The bytes are a function of the spec, so that a reader can tell what was written.
inline protocol::Image MakeImage(const ImageSpec& spec) {
  protocol::Image image;
  image.header.partition = protocol::PartitionId(spec.partition);
  image.header.stamp = spec.stamp;
  image.header.base = spec.base;
  image.header.rows = spec.block_bytes.size();
  auto& applied = image.header.applied.Mutable(protocol::LogId(1));
  applied.Add(protocol::Span{0, spec.stamp.version + 1});
  applied.Add(protocol::Span{spec.stamp.version + 7, spec.stamp.version + 9});
  base::Random random(base::Mix64(spec.partition) ^ base::Mix64(spec.stamp.tenure.value() << 32) ^
                      spec.stamp.version);
  for (const size_t bytes : spec.block_bytes) {
    auto block = protocol::Buffer::Allocate(bytes);
    for (size_t at = 0; at < bytes; at += 8) {
      const uint64_t word = random.Next();
      std::memcpy(block.mutable_data() + at, &word, std::min<size_t>(8, bytes - at));
    }
    image.blocks.push_back(std::move(block));
  }
  return image;
}

inline bool Same(const protocol::Image& a, const protocol::Image& b) {
  if (a.header != b.header || a.blocks.size() != b.blocks.size()) return false;
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    if (a.blocks[i].size() != b.blocks[i].size()) return false;
    if (std::memcmp(a.blocks[i].data(), b.blocks[i].data(), a.blocks[i].size()) != 0) return false;
  }
  return true;
}

inline bool Same(const std::vector<protocol::Image>& a, const std::vector<protocol::Image>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!Same(a[i], b[i])) return false;
  }
  return true;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace freshet::checkpoint::testing
