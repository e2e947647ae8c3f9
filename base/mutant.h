// SPDX-License-Identifier: Apache-2.0
// Mutation switches: rules of docs/exactly-once.md that a second build of the brains, for the simulator's
// tests only, can break one at a time, to show that its checkers notice. Everywhere else MUTANT(name) is
// the constant false and no code.
#pragma once

#ifdef FRESHET_MUTANTS

#include <cstdint>

namespace freshet::base {

enum class Mutant : uint8_t {
  kNone,
  kRowsWithoutSet,         // G1: rows are restored, the applied set is not
  kTwoTransactions,        // G1: rows and applied set are written one after the other
  kTrustFinished,          // G14: what a worker calls finished is never leased again
  kOldIncarnation,         // G9: reports of a process that was replaced count
  kVolatileFloor,          // G18: what is applied is called durable
  kApplyOverlap,           // G5: a push that is partly applied is applied again
  kNoCover,                // G5: a push counts for partitions that it does not name
  kAdoptWatermark,         // G2: a restored partition takes its neighbours' watermark
  kSkipUnreported,         // G15, G18: partitions without a report are left out
  kViewsOutOfOrder,        // G7: an older view is followed
  kRestartKeepsTenure,     // G6: a new process serves under the old tenure
  kEndByApplied,           // G19: the stream ends when everything is applied
  kNoCuts,                 // G16: leases are not cut where applied sets end
  kNoEmptyPushes,          // G4: partitions without rows are not pushed to
  kLateHello,              // a hello of an ended child displaces the one that runs
  kMoveWithoutSet,         // G1: a migration leaves the applied set behind
  kPreparedBeforeDurable,  // G11: the target says PREPARED before its image is durable
  kUnfreezeAlone,          // G12: the source takes pushes again without a view that says so
  kPreparedNextTenure,     // G11: the prepared image is stamped with the next tenure
  kViewOnWrongOwnerOnly,   // G17: neither leases nor retries bring the view
  kNoViewOnRetry,          // G17: retries do not bring the view
  kNoViewNoDeadline,       // G17, and without the deadline that ends such a call
  kOldPreparedReport,      // G21: the set of an older intent counts as the first report
  kDrainAtOnce,            // a server leaves before everything is durable
  kServeOldRows,           // G8: a partition that comes back is served with the rows it had before
  kDropAnyImage,           // G13: whatever image is there is removed with the partition
  kCopyAnyMigration,       // G10: a source answers whatever migration asks for the partition
  kCopyOutlivesMigration,  // G10: a difference goes onto the copy of an earlier migration
  kLatePrepared,           // G11: PREPARED of another migration is committed
  kLatePreparedUnchecked,  // G11, and without what else a commit compares (G12)
  kCount
};

// Set between two runs of the simulator, which is one thread.
inline Mutant active_mutant = Mutant::kNone;

}  // namespace freshet::base

#define MUTANT(name) (::freshet::base::active_mutant == ::freshet::base::Mutant::name)

#else

#define MUTANT(name) false

#endif
