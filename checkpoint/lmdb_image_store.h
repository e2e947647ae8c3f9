// SPDX-License-Identifier: Apache-2.0
// LmdbImageStore: partition images in one LMDB directory, as packed blocks with checksums.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/image_store.h"

namespace freshet::checkpoint {

class LmdbEnv;
class LmdbTxn;
struct FileRange;
struct ImageRecord;
struct RecordPlace;

struct ImageStoreOptions {
  std::string directory;
  uint64_t max_bytes = 4ull << 40;  // of the file; reaching it is kResourceExhausted
};

// Something that cannot be what was written.
struct Damage {
  protocol::PartitionId partition;
  std::string what;  // image, block and file
};

// Owns the directory (one process at a time) and everything in it. Thread safe: loads run beside a
// save, saves one after another; a call holds a block or an image in memory, and a save what it
// writes. Every block is checked when it is read. Once a commit has failed it refuses to write
// (kIo) until the process is restarted: whether that last image is stored is known only then; it is
// whole or not there.
class LmdbImageStore final : public ImageStore {
 public:
  // kConflict: in use by another process. kInvalidArgument: another format. kCorrupt: the file
  // cannot be trusted as a whole (one image that is damaged does not show here, but in Load).
  static base::Result<std::unique_ptr<LmdbImageStore>> Open(ImageStoreOptions options);
  ~LmdbImageStore() override;

  base::Result<std::vector<StoredImage>> List() override;
  base::Result<std::vector<protocol::Image>> Load(protocol::PartitionId partition) override;
  base::Result<uint32_t> Repair(protocol::PartitionId partition) override;
  base::Result<> Save(const protocol::Image& image) override;
  base::Result<std::vector<char>> SaveAll(const std::vector<protocol::Image>& images) override;
  base::Result<> Remove(protocol::PartitionId partition, protocol::Tenure below) override;
  base::Result<ImageFileInfo> Export(protocol::PartitionId partition,
                                     const std::string& path) override;

  // The images before the first damaged one: an older state, valid with its own applied sets.
  struct IntactPrefix {
    std::vector<protocol::Image> images;  // empty: not even the base is intact
    uint32_t lost = 0;                    // images from the first damaged one on
    std::string damage;                   // empty: nothing is lost
  };
  base::Result<IntactPrefix> LoadIntact(protocol::PartitionId partition);
  // Reads and checks everything that is stored.
  base::Result<std::vector<Damage>> Verify();

  // False once a commit has failed: the process should end and be restarted.
  bool writable() const;

 private:
  using VisitRecord = std::function<base::Result<>(const RecordPlace&, std::string_view value)>;
  enum class Keep : uint8_t { kBlocks, kNothing };

  explicit LmdbImageStore(std::unique_ptr<LmdbEnv> env);

  base::Result<ImageRecord> FindRecord(LmdbTxn& txn, protocol::PartitionId partition,
                                       uint32_t number) const;
  base::Result<> ScanRecords(LmdbTxn& txn, const VisitRecord& visit) const;
  // kNotFound: the partition has no image.
  base::Result<ImageRecord> FindLastRecord(LmdbTxn& txn, protocol::PartitionId partition) const;
  // Every key is one of ours, and every intact record is where it belongs: none got lost.
  base::Result<> CheckKeys() const;
  base::Result<protocol::Image> ReadImage(LmdbTxn& txn, const ImageRecord& record, Keep keep) const;
  base::Result<std::vector<FileRange>> LocateBlocks(LmdbTxn& txn, const ImageRecord& record) const;
  base::Result<IntactPrefix> ReadPrefix(LmdbTxn& txn, protocol::PartitionId partition,
                                        Keep keep) const;
  // False: refused by conflict, which `conflict` tells.
  base::Result<bool> SaveIn(LmdbTxn& txn, const protocol::Image& image, std::string* conflict);
  base::Result<> DeleteFrom(LmdbTxn& txn, protocol::PartitionId partition, uint32_t number);
  base::Error Damaged(protocol::PartitionId partition, uint32_t number,
                      const std::string& what) const;

  const std::unique_ptr<LmdbEnv> env_;
};

}  // namespace freshet::checkpoint
