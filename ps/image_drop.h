// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/runtime.h"
#include "checkpoint/image_store.h"

namespace freshet::ps {

// Rule G13: an image of a tenure below `below` is of no use to anyone once another PS owns the partition.
// It is removed in the background, behind everything that is being written and before what is written
// from now on, so that a partition that comes back keeps the image it came back with.
void DropImage(base::Runtime runtime, checkpoint::ImageStore& store,
               protocol::PartitionId partition, protocol::Tenure below);

}  // namespace freshet::ps
