// SPDX-License-Identifier: Apache-2.0
#include "ps/image_drop.h"

#include <limits>

#include "base/log.h"
#include "base/mutant.h"

namespace freshet::ps {

using protocol::PartitionId;
using protocol::Tenure;

void DropImage(base::Runtime runtime, checkpoint::ImageStore& store, PartitionId partition,
               Tenure below) {
  if (MUTANT(kDropAnyImage) || MUTANT(kDropAnyImageLate)) {
    below = Tenure(std::numeric_limits<Tenure::Value>::max());
  }
  const auto drop = [runtime, &store, partition, below] {
    runtime.executor.Run(
        [&store, partition, below] {
          if (auto removed = store.Remove(partition, below); !removed) {
            FRESHET_LOG_WARN("image of partition {} not removed: {}", partition.value(),
                             removed.error().message);
          }
        },
        [] {});
  };
  if (MUTANT(kDropImageLate) || MUTANT(kDropAnyImageLate)) {
    runtime.timers.After(std::chrono::seconds(1), drop);
    return;
  }
  drop();
}

}  // namespace freshet::ps
