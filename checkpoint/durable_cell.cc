// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/durable_cell.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "checkpoint/checksum.h"
#include "checkpoint/lmdb_env.h"

namespace freshet::checkpoint {

using base::ErrorCode;
using base::Fail;
using base::Result;

namespace {

// The value is the blob's checksum, then the blob.
constexpr char kKey[] = "cell";
constexpr uint32_t kFormat = 1;

}  // namespace

DurableCell::DurableCell(std::unique_ptr<LmdbEnv> env) : env_(std::move(env)) {}
DurableCell::~DurableCell() = default;

Result<std::unique_ptr<DurableCell>> DurableCell::Open(DurableCellOptions options) {
  auto env = LmdbEnv::Open({.directory = std::move(options.directory),
                            .content = "cell " + options.name,
                            .format = kFormat,
                            .initial_map_bytes = 16 << 20,
                            .max_map_bytes = 8 * kMaxBytes});
  if (!env) return tl::unexpected<base::Error>(env.error());
  return std::unique_ptr<DurableCell>(new DurableCell(std::move(*env)));
}

Result<std::string> DurableCell::Read() {
  std::string blob;
  const auto read = env_->Read([&](LmdbTxn& txn) -> Result<> {
    const auto value = txn.Get(kKey);
    if (!value) return tl::unexpected<base::Error>(value.error());
    if (!*value) {
      return Fail(ErrorCode::kNotFound, fmt::format("nothing was written to {} yet", env_->file()));
    }
    uint64_t checksum = 0;
    const std::string_view bytes = **value;
    if (bytes.size() >= sizeof(checksum)) {
      std::memcpy(&checksum, bytes.data(), sizeof(checksum));
      blob = bytes.substr(sizeof(checksum));
      if (checksum == Checksum(blob)) return {};
    }
    return Fail(
        ErrorCode::kCorrupt,
        fmt::format("{} is damaged: its checksum is wrong; restore it from a copy", env_->file()));
  });
  if (!read) return tl::unexpected<base::Error>(read.error());
  return blob;
}

Result<> DurableCell::Write(std::string_view blob) {
  if (blob.size() > kMaxBytes) {
    return Fail(ErrorCode::kResourceExhausted,
                fmt::format("{} bytes for {}, more than {}", blob.size(), env_->file(), kMaxBytes));
  }
  const uint64_t checksum = Checksum(blob);
  std::string value(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  value += blob;
  return env_->Write(value.size(), [&](LmdbTxn& txn) { return txn.Put(kKey, value); });
}

}  // namespace freshet::checkpoint
