// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "base/file.h"
#include "base/result.h"

namespace freshet::cli {

// The directory of one run of `freshet train`: made empty, locked against a second run as long as
// this object lives. What a former run left in it is kept as DIR.previous; nothing that was not
// written by `freshet train` is ever moved or removed (train.marker tells).
class TrainDirectory {
 public:
  // Tells people what it moves. kConflict: a cluster runs there, or it holds something else;
  // kIo: it cannot be written.
  static base::Result<TrainDirectory> Prepare(const std::string& dir,
                                              const std::function<void(const std::string&)>& say);

  // Absolute.
  const std::string& path() const { return path_; }
  std::string logs() const { return path_ + "/logs"; }
  std::string config_file() const { return path_ + "/cluster.yaml"; }

 private:
  TrainDirectory(std::string path, base::LockFile lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  base::LockFile lock_;
};

}  // namespace freshet::cli
