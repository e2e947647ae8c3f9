// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "cli/json.h"

namespace freshet::cli {

// The settings of a cluster as its master understands them. They are declared in one place, the
// master; so the master itself is asked, with --check-config, before anything is started.
class ClusterConfig {
 public:
  struct Source {
    std::string file;
    std::string dir;  // beats the file; empty: what the file says
  };
  // What is wrong, in the master's words: kInvalidArgument, kNotFound, ..
  static base::Result<ClusterConfig> Check(const Source& source);
  // A commented file with every setting.
  static base::Result<std::string> Example();

  // All settings, one a line, as a file that means the same wherever and whenever it is read.
  const std::string& text() const { return text_; }
  // Null if there is no such setting.
  Json Value(const std::string& key) const;
  // Absolute.
  const std::string& dir() const { return dir_; }

 private:
  std::string text_;
  std::string dir_;
  std::map<std::string, Json> values_;
};

}  // namespace freshet::cli
