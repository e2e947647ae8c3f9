// SPDX-License-Identifier: Apache-2.0
// DataService: pulls and pushes of one PS, by rules G4 and G5. The hot path: no allocation per row, no
// lock. Belongs to the PS loop; borrows the slots and tables. A malformed request is answered with an
// error and changes nothing.
#pragma once

#include <vector>

#include "base/result.h"
#include "protocol/buffer_pool.h"
#include "protocol/codec.h"
#include "protocol/messages.h"
#include "ps/batch_ops.h"
#include "ps/slot.h"

namespace freshet::ps {

class DataService {
 public:
  DataService(Slots& slots, const TableSet& tables) : slots_(slots), tables_(tables) {}

  struct Pulled {
    protocol::PullReply reply;
    std::vector<protocol::Buffer> values;  // per table of the request
  };
  base::Result<Pulled> OnPull(const protocol::PullRequest& request, const protocol::Packet& packet);

  base::Result<protocol::PushReply> OnPush(const protocol::PushRequest& request,
                                           const protocol::Packet& packet);

  uint64_t rows_pulled() const { return rows_pulled_; }
  uint64_t rows_pushed() const { return rows_pushed_; }
  // Pushes that found no memory.
  uint64_t refused() const { return refused_; }

 private:
  // One table's frames of a request, checked.
  struct TableFrames {
    protocol::TableId table;
    uint32_t dim = 0;
    std::span<const uint32_t> counts;  // per covered partition
    std::span<const protocol::Key> keys;
    std::span<const float> gradients;  // push only
  };
  enum class WithGradients { kNo, kYes };

  base::Result<> CheckCover(const std::vector<uint16_t>& cover) const;
  // False: a table this PS does not know yet.
  base::Result<bool> CheckFrames(const std::vector<protocol::TableRows>& tables, size_t cover,
                                 const protocol::Packet& packet, WithGradients gradients);
  void JudgePush(const protocol::PushRequest& request, std::vector<uint8_t>* statuses);
  // Fills runs_ with the rows of the partitions whose status is kOk; returns their number.
  size_t BuildRuns(const TableFrames& frames, const std::vector<uint16_t>& cover,
                   const std::vector<uint8_t>& statuses);
  base::Result<> ReserveAll(const std::vector<uint16_t>& cover,
                            const std::vector<uint8_t>& statuses);

  Slots& slots_;
  const TableSet& tables_;
  protocol::BufferPool buffers_;     // of replies
  std::vector<TableFrames> frames_;  // scratch, reused
  std::vector<RowRun> runs_;         // scratch, reused
  uint64_t rows_pulled_ = 0;
  uint64_t rows_pushed_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace freshet::ps
