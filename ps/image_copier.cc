// SPDX-License-Identifier: Apache-2.0
#include "ps/image_copier.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace freshet::ps {

using base::ErrorCode;
using base::Result;
using checkpoint::ImageFileInfo;
using protocol::BackupReply;
using protocol::BackupState;

namespace {

std::string FileName(uint16_t partition, protocol::Incarnation writer) {
  return fmt::format("partition-{:05}.{}.img", partition, writer.value());
}

}  // namespace

BackupReply ImageCopier::Handle(const protocol::BackupRequest& request,
                                protocol::Incarnation writer) {
  if (round_ == nullptr || round_->request.round != request.round) {
    round_ = std::make_shared<Round>();
    round_->request = request;
    round_->writer = writer;
    round_->answer.round = request.round;
    for (const uint16_t partition : request.cover) {
      if (partition < slots_.size()) continue;
      round_->answer.state = BackupState::kFailed;
      round_->answer.code = ErrorCode::kInvalidArgument;
      round_->answer.message = fmt::format("there is no partition {}", partition);
    }
  }
  Advance(round_);
  return round_->answer;
}

void ImageCopier::Advance(const std::shared_ptr<Round>& round) {
  if (round->begun || round->answer.state != BackupState::kRunning) return;
  // On a full disk this may take long, and round after round come meanwhile: one waits for all.
  if (flushing_) return;
  const auto& cover = round->request.cover;
  // Nothing of a partition that is being loaded is lost by waiting for it; the next request asks again.
  const bool loading = std::any_of(cover.begin(), cover.end(), [this](uint16_t partition) {
    return slots_[partition].state == SlotState::kLoading;
  });
  if (loading) return;
  flushing_ = true;
  round->begun = true;
  checkpointer_.Flush([this, round] {
    flushing_ = false;
    round == round_ ? CopyNext(round) : Advance(round_);
  });
}

void ImageCopier::CopyNext(const std::shared_ptr<Round>& round) {
  if (round != round_) return;
  const auto& cover = round->request.cover;
  while (round->next < cover.size() && !slots_[cover[round->next]].serving()) {
    ++round->next;
    ++round->answer.done;
  }
  if (round->next == cover.size()) {
    round->answer.state = BackupState::kEnded;
    FRESHET_LOG_INFO("copied the images of {} partitions to {}, {} bytes",
                     round->answer.files.size(), round->request.dir, round->answer.bytes);
    return;
  }
  const uint16_t partition = cover[round->next++];
  auto copied = std::make_shared<Result<ImageFileInfo>>();
  runtime_.executor.Run(
      [copied, store = &store_, partition,
       path = round->request.dir + "/" + FileName(partition, round->writer)] {
        *copied = store->Export(protocol::PartitionId(partition), path);
      },
      [this, copied, round] {
        OnCopied(*round, *copied);
        if (round->answer.state == BackupState::kRunning) CopyNext(round);
      });
}

void ImageCopier::OnCopied(Round& round, const Result<ImageFileInfo>& copied) {
  BackupReply& answer = round.answer;
  const uint16_t partition = round.request.cover[round.next - 1];
  if (!copied) {
    // It left while it was waiting its turn: the master asks the new owner.
    const bool left = copied.error().code == ErrorCode::kNotFound && !slots_[partition].serving();
    if (!left) {
      answer.state = BackupState::kFailed;
      answer.code = copied.error().code;
      answer.message = copied.error().message;
      FRESHET_LOG_ERROR("backup to {}: {}", round.request.dir, answer.message);
    }
    ++answer.done;
    return;
  }
  protocol::BackupFile file;
  file.partition = copied->partition;
  file.name = FileName(partition, round.writer);
  file.tenure = copied->stamp.tenure;
  file.version = copied->stamp.version;
  file.bytes = copied->bytes;
  file.checksum = copied->checksum;
  for (const auto& entry : copied->applied.logs()) {
    file.watermarks.push_back({entry.log, entry.set.Watermark()});
  }
  ++answer.done;
  answer.bytes += file.bytes;
  answer.files.push_back(std::move(file));
}

}  // namespace freshet::ps
