// SPDX-License-Identifier: Apache-2.0
// ImageCopier: copies images of this PS's partitions to files in a directory while it serves and
// learns: makes them durable first, then copies what is stored, one partition at a time on the
// executor. Belongs to the PS loop; borrows slots, store and checkpointer. One round at a time; a new
// one ends the one before. A failure changes nothing but the answer.
#pragma once

#include <memory>
#include <string>

#include "base/runtime.h"
#include "checkpoint/image_store.h"
#include "protocol/messages.h"
#include "ps/checkpointer.h"
#include "ps/slot.h"

namespace freshet::ps {

class ImageCopier {
 public:
  ImageCopier(const Slots& slots, checkpoint::ImageStore& store, base::Runtime runtime,
              Checkpointer& checkpointer)
      : slots_(slots), store_(store), runtime_(runtime), checkpointer_(checkpointer) {}

  // Begins the round if it is not the one under way; how far that is. `writer` is in the files' names:
  // a former process of this PS that still writes cannot spoil what this one wrote.
  protocol::BackupReply Handle(const protocol::BackupRequest& request,
                               protocol::Incarnation writer);

 private:
  struct Round {
    protocol::BackupRequest request;
    protocol::Incarnation writer;
    bool begun = false;
    size_t next = 0;  // into request.cover
    protocol::BackupReply answer;
  };

  void Advance(const std::shared_ptr<Round>& round);
  void CopyNext(const std::shared_ptr<Round>& round);
  void OnCopied(Round& round, const base::Result<checkpoint::ImageFileInfo>& copied);

  const Slots& slots_;
  checkpoint::ImageStore& store_;
  base::Runtime runtime_;
  Checkpointer& checkpointer_;
  std::shared_ptr<Round> round_;
  bool flushing_ = false;  // for round_ or one before it
};

}  // namespace freshet::ps
