// SPDX-License-Identifier: Apache-2.0
// DurableCell: one small blob in its own directory, replaced atomically and durably.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace freshet::checkpoint {

class LmdbEnv;

struct DurableCellOptions {
  std::string directory;  // owned by one process at a time
  std::string name;       // what is in it, e.g. "master"; a directory of another cell is refused
};

// Thread safe; both calls block. After a failed commit it refuses to write (kIo) until the process
// is restarted; the cell then holds the old or the new blob, whole.
class DurableCell {
 public:
  static constexpr size_t kMaxBytes = 64 << 20;

  // kConflict: another process has the directory.
  static base::Result<std::unique_ptr<DurableCell>> Open(DurableCellOptions options);
  ~DurableCell();

  // The blob written last. kNotFound: none yet. kCorrupt: it is not what was written.
  base::Result<std::string> Read();
  // Durable when it returns. Any error but kIo: nothing changed.
  base::Result<> Write(std::string_view blob);

 private:
  explicit DurableCell(std::unique_ptr<LmdbEnv> env);

  const std::unique_ptr<LmdbEnv> env_;
};

}  // namespace freshet::checkpoint
