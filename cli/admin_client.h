// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "cli/json.h"

namespace freshet::cli {

inline constexpr std::chrono::milliseconds kAdminDeadline{10'000};

// The code of that name, as the master writes it; kFailed if there is none.
base::ErrorCode CodeByName(const std::string& name);

// Asks the master of the cluster in a directory, over HTTP on its socket DIR/admin.sock; a connection
// per call. Blocks until the answer or the deadline. Errors: kUnreachable if nobody answers there,
// kTimeout, else what the master says.
class AdminClient {
 public:
  explicit AdminClient(std::string cluster_dir);

  base::Result<Json> Get(const std::string& target,
                         std::chrono::milliseconds deadline = kAdminDeadline) const;
  base::Result<Json> Post(const std::string& target,
                          std::chrono::milliseconds deadline = kAdminDeadline) const;
  // With a JSON body.
  base::Result<Json> Post(const std::string& target, const Json& body,
                          std::chrono::milliseconds deadline = kAdminDeadline) const;
  // Whether a process listens there, whatever it would say.
  bool SomebodyListens() const;

  const std::string& socket_path() const { return socket_path_; }

 private:
  std::string cluster_dir_;
  std::string socket_path_;
};

}  // namespace freshet::cli
