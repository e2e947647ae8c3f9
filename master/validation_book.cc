// SPDX-License-Identifier: Apache-2.0
#include "master/validation_book.h"

#include <utility>

namespace freshet::master {

void ValidationBook::Add(const protocol::ValidationChunk& chunk) {
  protocol::SpanSet& counted = counted_.Mutable(chunk.log);
  for (const protocol::Span& span : chunk.spans.spans()) {
    if (counted.Compare(span) == protocol::Overlap::kDisjoint) continue;
    dropped_records_ += chunk.spans.Count();
    return;
  }
  const protocol::ValidationHistogram::Delta delta{chunk.buckets, chunk.positive, chunk.negative,
                                                   chunk.loss_sum};
  protocol::ValidationHistogram histogram;
  if (!histogram.Add(delta)) return;
  counted.Add(chunk.spans);
  total_.Merge(histogram);
  newer_.Merge(histogram);
  if (newer_.records() >= half_window_) {
    older_ = std::move(newer_);
    newer_ = protocol::ValidationHistogram();
  }
}

const protocol::SpanSet& ValidationBook::Counted(protocol::LogId log) const {
  return counted_.Of(log);
}

protocol::ValidationHistogram ValidationBook::Window() const {
  protocol::ValidationHistogram window = older_;
  window.Merge(newer_);
  return window;
}

double ValidationBook::WindowAuc() const { return Window().Auc(); }
double ValidationBook::WindowLogLoss() const { return Window().LogLoss(); }

}  // namespace freshet::master
