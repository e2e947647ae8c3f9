// SPDX-License-Identifier: Apache-2.0
#include "master/backup_run.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "master/master_node.h"

namespace freshet::master {

using base::ErrorCode;
using base::Fail;
using base::Result;
using protocol::BackupFile;
using protocol::BackupState;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

constexpr milliseconds kPollInterval{100};
constexpr seconds kCallDeadline{3};
// Without one more partition copied anywhere. The first one waits for everything to become durable.
constexpr minutes kPatience{10};

// An answer that a later one may take back: the PS is being restarted, stopped or replaced.
bool MayPass(ErrorCode code) {
  return code == ErrorCode::kTimeout || code == ErrorCode::kUnreachable ||
         code == ErrorCode::kUnavailable || code == ErrorCode::kConflict ||
         code == ErrorCode::kResourceExhausted;
}

}  // namespace

BackupRun::~BackupRun() { cluster_.runtime.timers.Cancel(timer_); }

Result<> BackupRun::Start(std::shared_ptr<BackupWriter> writer) {
  if (status_.phase == BackupPhase::kRunning) {
    return Fail(ErrorCode::kConflict,
                fmt::format("a backup to {} is under way; wait for its end", status_.dir));
  }
  if (!cluster_.state.placed) {
    return Fail(ErrorCode::kUnavailable, "not all servers have joined yet; try again then");
  }
  writer_ = std::move(writer);
  status_ = {};
  status_.phase = BackupPhase::kRunning;
  status_.dir = writer_->dir();
  status_.partitions = cluster_.state.view.partitions();
  files_.clear();
  asks_.clear();
  began_ = progressed_ = cluster_.runtime.clock.Now();
  last_done_ = last_quarter_ = 0;
  cluster_.events.Add("backup_started", "", "to " + status_.dir);
  auto prepared = std::make_shared<Result<>>();
  cluster_.runtime.executor.Run([prepared, writer = writer_] { *prepared = writer->Prepare(); },
                                [this, prepared] {
                                  if (!*prepared) return End(std::move(*prepared));
                                  Poll();
                                });
  return {};
}

BackupStatus BackupRun::Status() const {
  BackupStatus status = status_;
  if (status.phase != BackupPhase::kRunning) return status;
  const base::Duration took = cluster_.runtime.clock.Now() - began_;
  status.seconds = static_cast<double>(took.count()) / 1e6;
  status.copied = files_.size();
  for (const auto& [partition, file] : files_) status.bytes += file.bytes;
  for (const auto& [name, ask] : asks_) {
    status.copied += ask.done;
    status.bytes += ask.bytes;
  }
  return status;
}

void BackupRun::Poll() {
  if (status_.phase != BackupPhase::kRunning) return;
  if (files_.size() == status_.partitions) return Finish();
  NoteProgress();
  if (cluster_.runtime.clock.Now() - progressed_ > kPatience) {
    return End(Fail(ErrorCode::kTimeout,
                    fmt::format("nothing was copied for {} minutes, {}; see freshet status, then "
                                "try again with another directory",
                                kPatience.count(), Awaited())));
  }
  DropGone();
  AskOwners();
  for (auto& [name, ask] : asks_) Call(name, ask);
  timer_ = cluster_.runtime.timers.After(kPollInterval, [this] { Poll(); });
}

// What a process that ended had written so far is not counted; its successor writes it again.
void BackupRun::DropGone() {
  const protocol::View& view = cluster_.state.view;
  std::erase_if(asks_, [&](const auto& entry) {
    const auto index = view.FindNode(entry.first);
    const bool same = index && view.nodes[*index].incarnation == entry.second.incarnation;
    if (!same && entry.second.call) cluster_.rpc.Cancel(*entry.second.call);
    return !same;
  });
}

// A PS works on one round at a time: it is asked for more when that has ended.
void BackupRun::AskOwners() {
  const protocol::View& view = cluster_.state.view;
  std::map<uint16_t, std::vector<uint16_t>> wanted;
  for (size_t p = 0; p < view.places.size(); ++p) {
    const auto partition = static_cast<uint16_t>(p);
    const uint16_t owner = view.places[p].node;
    if (owner < view.nodes.size() && !files_.contains(partition)) {
      wanted[owner].push_back(partition);
    }
  }
  for (auto& [owner, cover] : wanted) {
    const protocol::ViewNode& node = view.nodes[owner];
    if (node.incarnation.value() == 0 || asks_.contains(node.name)) continue;
    Ask& ask = asks_[node.name];
    ask.incarnation = node.incarnation;
    ask.request = {cluster_.runtime.random.Next(), writer_->image_dir(), std::move(cover)};
  }
}

void BackupRun::Call(const std::string& name, Ask& ask) {
  const auto node = cluster_.nodes.find(name);
  if (ask.call || node == cluster_.nodes.end() || !node->second.connected ||
      node->second.incarnation != ask.incarnation) {
    return;
  }
  ask.call = cluster_.rpc.Call(node->second.peer, cluster_.sender, ask.request, {},
                               {.deadline = kCallDeadline, .attempt = kCallDeadline},
                               [this, name, round = ask.request.round](Result<protocol::Packet> p) {
                                 OnReply(name, round, std::move(p));
                               });
}

void BackupRun::OnReply(const std::string& name, uint64_t round, Result<protocol::Packet> packet) {
  const auto it = asks_.find(name);
  if (it == asks_.end() || it->second.request.round != round) return;
  Ask& ask = it->second;
  ask.call.reset();
  auto reply = packet ? protocol::DecodeAs<protocol::BackupReply>(*packet)
                      : Fail(packet.error().code, packet.error().message);
  if (!reply && MayPass(reply.error().code)) return;
  if (!reply) return End(Fail(reply.error().code, name + ": " + reply.error().message));
  if (reply->round != round) return;
  ask.done = reply->done;
  ask.bytes = reply->bytes;
  if (reply->state == BackupState::kRunning) return;
  if (reply->state == BackupState::kFailed) {
    std::string why = name + ": " + reply->message;
    if (reply->code == ErrorCode::kNotFound) {
      why += "; the directory must be on storage that the master and all servers share";
    }
    return End(Fail(reply->code, std::move(why)));
  }
  asks_.erase(it);
  TakeFiles(std::move(reply->files));
}

void BackupRun::TakeFiles(std::vector<BackupFile> files) {
  for (BackupFile& file : files) {
    const uint16_t partition = file.partition.value();
    if (partition < status_.partitions) files_.emplace(partition, std::move(file));
  }
}

void BackupRun::NoteProgress() {
  const BackupStatus status = Status();
  if (status.copied != last_done_) {
    last_done_ = status.copied;
    progressed_ = cluster_.runtime.clock.Now();
  }
  const uint64_t quarter = status.copied * 4 / std::max<uint64_t>(status.partitions, 1);
  if (quarter <= last_quarter_ || quarter >= 4) return;
  last_quarter_ = quarter;
  cluster_.events.Add(
      "backup_progress", "",
      fmt::format("{} of {} partitions, {} bytes", status.copied, status.partitions, status.bytes));
}

// For people: whom it waits for.
std::string BackupRun::Awaited() const {
  const protocol::View& view = cluster_.state.view;
  std::map<std::string, size_t> missing;
  for (size_t p = 0; p < view.places.size(); ++p) {
    if (files_.contains(static_cast<uint16_t>(p))) continue;
    const uint16_t owner = view.places[p].node;
    ++missing[owner < view.nodes.size() ? view.nodes[owner].name : "nobody"];
  }
  std::string out = "still missing:";
  for (const auto& [name, count] : missing) {
    out += fmt::format(" {} partitions of {}", count, name);
  }
  return out;
}

void BackupRun::Finish() {
  BackupManifest manifest;
  manifest.cluster = cluster_.state.cluster;
  manifest.job = cluster_.state.job.name;
  manifest.unix_ms = cluster_.runtime.clock.WallNow().unix_ms;
  manifest.view = cluster_.state.view.number;
  manifest.partitions = cluster_.state.view.partitions();
  for (const auto& [partition, file] : files_) manifest.files.push_back(file);
  manifest.replay_from = status_.replay_from = LowestWatermarks(manifest.files);
  // After the images: no stamp in them has a tenure above those in this state, and no table is missing.
  auto outcome = std::make_shared<Result<>>();
  cluster_.runtime.executor.Run(
      [outcome, writer = writer_, manifest = std::move(manifest),
       state = protocol::EncodeStruct(cluster_.state)] {
        *outcome = writer->Finish(manifest, state);
      },
      [this, outcome] { End(std::move(*outcome)); });
}

void BackupRun::End(Result<> outcome) {
  status_ = Status();
  asks_.clear();
  cluster_.runtime.timers.Cancel(timer_);
  if (outcome) {
    status_.phase = BackupPhase::kEnded;
    cluster_.events.Add("backup_finished", "",
                        fmt::format("{} partitions, {} bytes in {:.3f} s, in {}", status_.copied,
                                    status_.bytes, status_.seconds, status_.dir));
    return;
  }
  status_.phase = BackupPhase::kFailed;
  status_.error = outcome.error();
  FRESHET_LOG_ERROR("backup to {} failed: {}", status_.dir, status_.error.message);
  cluster_.events.Add("backup_failed", "", status_.error.message);
}

}  // namespace freshet::master
