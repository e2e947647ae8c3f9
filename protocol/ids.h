// SPDX-License-Identifier: Apache-2.0
// The numbers everything is named by. See the glossary in docs/architecture.md.
#pragma once

#include <cstdint>

#include "base/strong_id.h"

namespace freshet::protocol {

using base::StrongId;

using PartitionId = StrongId<struct PartitionTag, uint16_t>;
using TableId = StrongId<struct TableTag, uint16_t>;
using LogId = StrongId<struct LogTag, uint16_t>;
// A process, as the master counted it when it registered; 0 = none; never reused in a cluster.
using Incarnation = StrongId<struct IncarnationTag, uint64_t>;
// Raised durably with every change of the instance that serves a partition; 0 = never served.
using Tenure = StrongId<struct TenureTag, uint64_t>;
using ViewNumber = StrongId<struct ViewTag, uint64_t>;
using LeaseId = StrongId<struct LeaseTag, uint64_t>;
// One attempt to move one partition; 0 = none.
using MigrationId = StrongId<struct MigrationTag, uint64_t>;
using RequestId = StrongId<struct RequestTag, uint64_t>;
// Who may talk to whom: drawn once when the cluster is created.
using ClusterId = StrongId<struct ClusterTag, uint64_t>;

using Key = uint64_t;
using Offset = uint64_t;

inline constexpr uint32_t kMaxPartitions = 16384;
inline constexpr uint32_t kMaxLogs = 1024;
// Far above any log, and low enough that sums and rounding of offsets cannot overflow.
inline constexpr Offset kMaxOffset = uint64_t{1} << 62;

}  // namespace freshet::protocol
