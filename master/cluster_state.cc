// SPDX-License-Identifier: Apache-2.0
#include "master/cluster_state.h"

#include <fmt/format.h>

namespace freshet::master {

base::Result<ClusterState> DecodeClusterState(const protocol::Buffer& bytes,
                                              const std::string& what) {
  // The format comes first in every version, so that it can be named.
  protocol::BodyReader reader(bytes);
  size_t fields = 0;
  uint64_t format = 0;
  if (reader.ok() && reader.BeginArray(&fields) && reader.Uint(&format) &&
      format != ClusterState::kFormat) {
    return base::Fail(base::ErrorCode::kConflict,
                      fmt::format("{} is of format {}, this freshet reads format {}: use the "
                                  "version that wrote it, or a new directory",
                                  what, format, ClusterState::kFormat));
  }
  return protocol::DecodeStruct<ClusterState>(bytes, what);
}

}  // namespace freshet::master
