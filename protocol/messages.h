// SPDX-License-Identifier: Apache-2.0
// Everything that is said between processes. A message is one struct with one field list; its type
// number is fixed for ever. Arrays (keys, values) travel beside the body as frames of their own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/ids.h"
#include "protocol/span.h"
#include "protocol/table_schema.h"
#include "protocol/view.h"

namespace freshet::protocol {

// Numbers are never reused. Replies carry the request id of what they answer.
enum class MessageType : uint8_t {
  kErrorReply = 1,
  kRegisterRequest = 2,
  kRegisterReply = 3,
  kPsHeartbeat = 4,
  kWorkerHeartbeat = 5,
  kHeartbeatReply = 6,
  kViewRequest = 7,
  kViewReply = 8,  // also sent unasked (request id 0) when the view changes
  kLeaseRequest = 9,
  kLeaseReply = 10,
  kDeclareTablesRequest = 11,
  kDeclareTablesReply = 12,
  kPullRequest = 13,
  kPullReply = 14,
  kPushRequest = 15,
  kPushReply = 16,
  kCheckpointRequest = 17,
  kCheckpointReply = 18,
  kAuditRequest = 19,
  kAuditReply = 20,
  kBackupRequest = 21,
  kBackupReply = 22,
  kCopyRequest = 23,
  kCopyReply = 24,
  kMoveReport = 25,
  kMoveReportReply = 26
};

template <class E>
struct EnumRange;  // first and last value a peer may send

template <>
struct EnumRange<MessageType> {
  static constexpr auto first = MessageType::kErrorReply, last = MessageType::kMoveReportReply;
};
template <>
struct EnumRange<OptimizerKind> {
  static constexpr auto first = OptimizerKind::kSgd, last = OptimizerKind::kSum;
};
template <>
struct EnumRange<InitKind> {
  static constexpr auto first = InitKind::kZero, last = InitKind::kNormal;
};
template <>
struct EnumRange<TableKind> {
  static constexpr auto first = TableKind::kSparse, last = TableKind::kDense;
};
template <>
struct EnumRange<base::ErrorCode> {
  static constexpr auto first = base::ErrorCode::kFailed,
                        last = base::ErrorCode::kResourceExhausted;
};

struct ErrorReply {
  static constexpr MessageType kType = MessageType::kErrorReply;
  base::ErrorCode code = base::ErrorCode::kFailed;
  std::string message;
  static auto Fields(auto& self, auto&& f) { return f(self.code, self.message); }
};

enum class Role : uint8_t { kPs = 1, kWorker = 2 };
template <>
struct EnumRange<Role> {
  static constexpr auto first = Role::kPs, last = Role::kWorker;
};

// `process` is drawn once by the process, so that a repeated request is recognised.
struct RegisterRequest {
  static constexpr MessageType kType = MessageType::kRegisterRequest;
  Role role = Role::kPs;
  std::string name;     // "ps-0"; empty: the master chooses
  std::string address;  // where a PS listens
  uint64_t process = 0;
  int64_t pid = 0;
  static auto Fields(auto& self, auto&& f) {
    return f(self.role, self.name, self.address, self.process, self.pid);
  }
};

enum class LogPurpose : uint8_t { kTrain = 1, kEvaluate = 2 };
template <>
struct EnumRange<LogPurpose> {
  static constexpr auto first = LogPurpose::kTrain, last = LogPurpose::kEvaluate;
};

// One log of the job.
struct LogSpec {
  LogId log;
  std::string name;
  std::string path;
  std::string schema;  // name of a built-in schema, or a file
  uint32_t epochs = 1;
  LogPurpose purpose = LogPurpose::kTrain;
  bool follow = false;    // it may grow, and never ends
  uint64_t features = 0;  // fingerprint of what the schema makes of a record
  static auto Fields(auto& self, auto&& f) {
    return f(self.log, self.name, self.path, self.schema, self.epochs, self.purpose, self.follow,
             self.features);
  }
  bool operator==(const LogSpec&) const = default;
};

// What a worker needs to know to take part.
struct JobSpec {
  std::string name;
  std::string model;
  std::map<std::string, std::string> model_config;
  std::vector<LogSpec> logs;
  uint32_t batch_size = 512;
  uint32_t pull_ahead = 0;  // batches pulled before an earlier one of the worker is pushed
  uint64_t seed = 1;
  std::string dead_letter_dir;
  static auto Fields(auto& self, auto&& f) {
    return f(self.name, self.model, self.model_config, self.logs, self.batch_size, self.pull_ahead,
             self.seed, self.dead_letter_dir);
  }
  bool operator==(const JobSpec&) const = default;
};

struct RegisterReply {
  static constexpr MessageType kType = MessageType::kRegisterReply;
  ClusterId cluster;
  Incarnation incarnation;
  std::string name;
  View view;
  JobSpec job;
  uint64_t heartbeat_ms = 200;
  static auto Fields(auto& self, auto&& f) {
    return f(self.cluster, self.incarnation, self.name, self.view, self.job, self.heartbeat_ms);
  }
};

// Durable watermark of one log.
struct LogWatermark {
  LogId log;
  Offset watermark = 0;
  static auto Fields(auto& self, auto&& f) { return f(self.log, self.watermark); }
  bool operator==(const LogWatermark&) const = default;
};

// Rule G9. Most partitions of a PS share one applied set, so each distinct one is sent once.
struct PartitionReport {
  PartitionId partition;
  Tenure tenure;
  uint16_t applied_index = 0;  // into PsHeartbeat::applied
  uint16_t durable_index = 0;  // into PsHeartbeat::durable
  uint64_t bytes = 0;          // of memory
  uint64_t touched = 0;        // rows of pulls, and twice those of pushes, since it is served here
  static auto Fields(auto& self, auto&& f) {
    return f(self.partition, self.tenure, self.applied_index, self.durable_index, self.bytes,
             self.touched);
  }
};

struct PsStats {
  uint64_t rows = 0;
  uint64_t memory_bytes = 0;
  uint64_t rows_pulled = 0;  // since the process started
  uint64_t rows_pushed = 0;
  uint64_t images_saved = 0;
  uint64_t image_bytes = 0;
  uint64_t loading = 0;  // partitions not yet served
  uint64_t memory_limit_bytes = 0;
  uint64_t busy_us = 0;        // spent on pulls and pushes since the process started
  uint64_t out_of_memory = 0;  // pushes refused at the limit since the process started
  uint64_t processor_us = 0;   // the part of busy_us for which its loop had a processor
  static auto Fields(auto& self, auto&& f) {
    return f(self.rows, self.memory_bytes, self.rows_pulled, self.rows_pushed, self.images_saved,
             self.image_bytes, self.loading, self.memory_limit_bytes, self.busy_us,
             self.out_of_memory, self.processor_us);
  }
};

struct PsHeartbeat {
  static constexpr MessageType kType = MessageType::kPsHeartbeat;
  ViewNumber view;
  std::vector<AppliedSets> applied;
  std::vector<std::vector<LogWatermark>> durable;
  std::vector<PartitionReport> partitions;
  PsStats stats;
  static auto Fields(auto& self, auto&& f) {
    return f(self.view, self.applied, self.durable, self.partitions, self.stats);
  }
};

// Predictions made before learning, for spans that were learnt. Repeated until acknowledged; the
// master counts a span once.
struct ValidationChunk {
  LogId log;
  SpanSet spans;
  std::vector<uint16_t> buckets;
  std::vector<uint32_t> positive;
  std::vector<uint32_t> negative;
  double loss_sum = 0;
  static auto Fields(auto& self, auto&& f) {
    return f(self.log, self.spans, self.buckets, self.positive, self.negative, self.loss_sum);
  }
};

struct WorkerStats {
  uint64_t records = 0;  // since the process started
  uint64_t steps = 0;
  uint64_t conflicts = 0;
  uint64_t already_applied = 0;  // records of pushes that every partition already had
  uint64_t memory_bytes = 0;
  static auto Fields(auto& self, auto&& f) {
    return f(self.records, self.steps, self.conflicts, self.already_applied, self.memory_bytes);
  }
};

// A data shard: the span that the master leases to one worker (rule G16). No batch may cross a cut.
struct Lease {
  LeaseId id;
  LogId log;
  Span span;
  std::vector<Offset> cuts;  // inside the span, ascending
  static auto Fields(auto& self, auto&& f) { return f(self.id, self.log, self.span, self.cuts); }
  bool operator==(const Lease&) const = default;
};

struct WorkerHeartbeat {
  static constexpr MessageType kType = MessageType::kWorkerHeartbeat;
  ViewNumber view;
  std::vector<ValidationChunk> validation;
  WorkerStats stats;
  std::string fatal;           // not empty: this worker cannot do the job, and why
  std::optional<Lease> lease;  // held now: a restarted master takes it over
  static auto Fields(auto& self, auto&& f) {
    return f(self.view, self.validation, self.stats, self.fatal, self.lease);
  }
};

struct HeartbeatReply {
  static constexpr MessageType kType = MessageType::kHeartbeatReply;
  std::optional<View> view;  // when newer than the sender's
  static auto Fields(auto& self, auto&& f) { return f(self.view); }
};

struct ViewRequest {
  static constexpr MessageType kType = MessageType::kViewRequest;
  ViewNumber known;
  static auto Fields(auto& self, auto&& f) { return f(self.known); }
};

struct ViewReply {
  static constexpr MessageType kType = MessageType::kViewReply;
  View view;
  static auto Fields(auto& self, auto&& f) { return f(self.view); }
};

enum class LeaseEnd : uint8_t { kNone = 0, kFinished = 1, kGivenBack = 2 };
template <>
struct EnumRange<LeaseEnd> {
  static constexpr auto first = LeaseEnd::kNone, last = LeaseEnd::kGivenBack;
};

// Asks for a data shard and ends the one before. `sequence` grows with every new request of a process;
// a repeated one gets the same answer.
struct LeaseRequest {
  static constexpr MessageType kType = MessageType::kLeaseRequest;
  uint64_t sequence = 0;
  LeaseId ended;
  LeaseEnd how = LeaseEnd::kNone;
  bool wants_more = true;  // false: a draining worker only ends its lease
  static auto Fields(auto& self, auto&& f) {
    return f(self.sequence, self.ended, self.how, self.wants_more);
  }
};

enum class LeaseAnswer : uint8_t { kLease = 1, kWait = 2, kComplete = 3 };
template <>
struct EnumRange<LeaseAnswer> {
  static constexpr auto first = LeaseAnswer::kLease, last = LeaseAnswer::kComplete;
};

struct LeaseReply {
  static constexpr MessageType kType = MessageType::kLeaseReply;
  uint64_t sequence = 0;
  LeaseAnswer answer = LeaseAnswer::kWait;
  Lease lease;
  uint64_t wait_ms = 0;
  View view;  // rule G17
  static auto Fields(auto& self, auto&& f) {
    return f(self.sequence, self.answer, self.lease, self.wait_ms, self.view);
  }
};

struct DeclareTablesRequest {
  static constexpr MessageType kType = MessageType::kDeclareTablesRequest;
  std::vector<TableSchema> tables;
  static auto Fields(auto& self, auto&& f) { return f(self.tables); }
};

struct DeclareTablesReply {
  static constexpr MessageType kType = MessageType::kDeclareTablesReply;
  View view;
  static auto Fields(auto& self, auto&& f) { return f(self.view); }
};

// What a PS says per covered partition (rule G5).
enum class PartitionStatus : uint8_t {
  kOk = 1,              // push: applied now; pull: rows are in the reply
  kAlreadyApplied = 2,  // push: contained in the applied set
  kNotOwner = 3,        // refresh the view, ask the owner
  kRetry = 4,           // frozen or still loading
  kSpanConflict = 5,    // partial overlap; nothing was applied
  kOutOfMemory = 6,     // a bound was reached; nothing was applied
  kUnknownTable = 7     // the PS has not seen the table's declaration yet
};

struct TableRows {
  TableId table;
  uint32_t rows = 0;
  static auto Fields(auto& self, auto&& f) { return f(self.table, self.rows); }
};

// Frames per table: u32 counts[cover.size()], u64 keys[rows], grouped by partition in order of `cover`.
struct PullRequest {
  static constexpr MessageType kType = MessageType::kPullRequest;
  std::vector<uint16_t> cover;  // partitions, ascending
  std::vector<TableRows> tables;
  static auto Fields(auto& self, auto&& f) { return f(self.cover, self.tables); }
};

// One frame per table of the request: f32 values[rows][dim] in the order of the keys; rows of
// partitions without kOk are zero.
struct PullReply {
  static constexpr MessageType kType = MessageType::kPullReply;
  ViewNumber view;
  std::vector<uint8_t> statuses;  // PartitionStatus per covered partition
  static auto Fields(auto& self, auto&& f) { return f(self.view, self.statuses); }
};

// Rule G4. Frames per table: as PullRequest, then f32 gradients[rows][dim].
struct PushRequest {
  static constexpr MessageType kType = MessageType::kPushRequest;
  LogId log;
  Span span;
  std::vector<uint16_t> cover;
  std::vector<TableRows> tables;
  static auto Fields(auto& self, auto&& f) {
    return f(self.log, self.span, self.cover, self.tables);
  }
};

struct PushReply {
  static constexpr MessageType kType = MessageType::kPushReply;
  ViewNumber view;
  std::vector<uint8_t> statuses;
  static auto Fields(auto& self, auto&& f) { return f(self.view, self.statuses); }
};

// Makes everything that was applied before it durable, then answers.
struct CheckpointRequest {
  static constexpr MessageType kType = MessageType::kCheckpointRequest;
  static auto Fields(auto&, auto&& f) { return f(); }
};

struct CheckpointReply {
  static constexpr MessageType kType = MessageType::kCheckpointReply;
  uint64_t images = 0;
  uint64_t bytes = 0;
  static auto Fields(auto& self, auto&& f) { return f(self.images, self.bytes); }
};

struct AuditRequest {
  static constexpr MessageType kType = MessageType::kAuditRequest;
  static auto Fields(auto&, auto&& f) { return f(); }
};

// The audit rows of one partition and the applied sets that belong to them, read in one turn.
struct PartitionAudit {
  PartitionId partition;
  Tenure tenure;
  AppliedSets applied;
  std::vector<uint64_t> keys;
  std::vector<uint64_t> counters;  // [keys.size()][kAuditCounters]
  static auto Fields(auto& self, auto&& f) {
    return f(self.partition, self.tenure, self.applied, self.keys, self.counters);
  }
};

struct AuditReply {
  static constexpr MessageType kType = MessageType::kAuditReply;
  std::vector<PartitionAudit> partitions;
  static auto Fields(auto& self, auto&& f) { return f(self.partitions); }
};

// Asks for copies of the images of some partitions in a directory that this PS can write to. Repeated
// until the answer says how it ended; a PS that does not know the round yet begins it.
struct BackupRequest {
  static constexpr MessageType kType = MessageType::kBackupRequest;
  uint64_t round = 0;           // of one backup, drawn by the master
  std::string dir;              // it exists
  std::vector<uint16_t> cover;  // partitions, ascending
  static auto Fields(auto& self, auto&& f) { return f(self.round, self.dir, self.cover); }
};

enum class BackupState : uint8_t { kRunning = 1, kEnded = 2, kFailed = 3 };
template <>
struct EnumRange<BackupState> {
  static constexpr auto first = BackupState::kRunning, last = BackupState::kFailed;
};

// One partition's images in one file. The checksum is of everything in it.
struct BackupFile {
  PartitionId partition;
  std::string name;
  Tenure tenure;  // with `version`: the stamp of the newest image in it
  uint64_t version = 0;
  uint64_t bytes = 0;
  uint64_t checksum = 0;
  std::vector<LogWatermark> watermarks;
  static auto Fields(auto& self, auto&& f) {
    return f(self.partition, self.name, self.tenure, self.version, self.bytes, self.checksum,
             self.watermarks);
  }
  bool operator==(const BackupFile&) const = default;
};

struct BackupReply {
  static constexpr MessageType kType = MessageType::kBackupReply;
  uint64_t round = 0;
  BackupState state = BackupState::kRunning;
  uint64_t done = 0;              // partitions copied, or not here any more
  uint64_t bytes = 0;             // written so far
  std::vector<BackupFile> files;  // when it has ended; a covered partition without one has left
  base::ErrorCode code = base::ErrorCode::kFailed;  // when it has failed
  std::string message;
  static auto Fields(auto& self, auto&& f) {
    return f(self.round, self.state, self.done, self.bytes, self.files, self.code, self.message);
  }
};

}  // namespace freshet::protocol
