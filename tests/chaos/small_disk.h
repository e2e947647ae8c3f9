// SPDX-License-Identifier: Apache-2.0
// SmallDisk: a tmpfs of its own that can be filled to the last byte. Needs the right to mount; gone when
// the object goes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace freshet::chaos {

class SmallDisk {
 public:
  // `path`: an empty directory.
  static base::Result<SmallDisk> Mount(const std::string& path, uint64_t bytes);
  SmallDisk(SmallDisk&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  SmallDisk& operator=(SmallDisk&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~SmallDisk();

  base::Result<> Fill();
  void Free();

 private:
  explicit SmallDisk(std::string path) : path_(std::move(path)) {}
  std::string FillerPath() const { return path_ + "/filler"; }

  std::string path_;
};

}  // namespace freshet::chaos
