// SPDX-License-Identifier: Apache-2.0
#include "protocol/validation.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace freshet::protocol {
namespace {

// The loss of one record is bounded, so that one absurd prediction cannot hide all others.
constexpr double kMaxLoss = 100.0;

// -log of the probability that was given to the label, from the logit: no overflow and no log(0).
double RecordLoss(float logit, bool positive) {
  if (std::isnan(logit)) return kMaxLoss;
  const double margin = positive ? double{logit} : -double{logit};
  const double loss = std::max(-margin, 0.0) + std::log1p(std::exp(-std::abs(margin)));
  return std::min(loss, kMaxLoss);
}

// A logit that is not a number is ranked as wrongly as possible: a broken model must not look good.
uint32_t BucketOf(float logit, bool positive) {
  constexpr uint32_t kLast = ValidationHistogram::kBuckets - 1;
  if (std::isnan(logit)) return positive ? 0 : kLast;
  constexpr float kMax = ValidationHistogram::kMaxLogit;
  constexpr float kScale = static_cast<float>(ValidationHistogram::kBuckets) / (2.0f * kMax);
  const float clipped = std::clamp(logit, -kMax, kMax);
  return std::min(static_cast<uint32_t>((clipped + kMax) * kScale), kLast);
}

}  // namespace

void ValidationHistogram::Add(float logit, float label) {
  const bool positive = label > 0.5f;
  const uint32_t bucket = BucketOf(logit, positive);
  (positive ? positive_ : negative_)[bucket]++;
  positives_ += positive ? 1 : 0;
  records_++;
  loss_sum_ += RecordLoss(logit, positive);
}

void ValidationHistogram::Merge(const ValidationHistogram& other) {
  for (uint32_t i = 0; i < kBuckets; ++i) {
    positive_[i] += other.positive_[i];
    negative_[i] += other.negative_[i];
  }
  records_ += other.records_;
  positives_ += other.positives_;
  loss_sum_ += other.loss_sum_;
}

void ValidationHistogram::Clear() {
  std::fill(positive_.begin(), positive_.end(), 0);
  std::fill(negative_.begin(), negative_.end(), 0);
  records_ = 0;
  positives_ = 0;
  loss_sum_ = 0;
}

double ValidationHistogram::Auc() const {
  const uint64_t negatives = records_ - positives_;
  if (positives_ == 0 || negatives == 0) return 0.5;
  // Pairs (positive, negative) that are ranked right; a tie in a bucket counts half.
  double right = 0;
  double negatives_below = 0;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    const auto negative = static_cast<double>(negative_[i]);
    right += static_cast<double>(positive_[i]) * (negatives_below + 0.5 * negative);
    negatives_below += negative;
  }
  return right / (static_cast<double>(positives_) * static_cast<double>(negatives));
}

double ValidationHistogram::LogLoss() const {
  return records_ == 0 ? 0.0 : loss_sum_ / static_cast<double>(records_);
}

ValidationHistogram::Delta ValidationHistogram::ToDelta() const {
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  Delta delta;
  delta.loss_sum = loss_sum_;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    uint64_t positive = positive_[i];
    uint64_t negative = negative_[i];
    // A count beyond 32 bits travels as several entries of the same bucket.
    while (positive > 0 || negative > 0) {
      const uint64_t positive_part = std::min(positive, kMost);
      const uint64_t negative_part = std::min(negative, kMost);
      delta.buckets.push_back(static_cast<uint16_t>(i));
      delta.positive.push_back(static_cast<uint32_t>(positive_part));
      delta.negative.push_back(static_cast<uint32_t>(negative_part));
      positive -= positive_part;
      negative -= negative_part;
    }
  }
  return delta;
}

bool ValidationHistogram::Add(const Delta& delta) {
  const size_t entries = delta.buckets.size();
  if (delta.positive.size() != entries || delta.negative.size() != entries) return false;
  uint64_t positives = 0;
  uint64_t negatives = 0;
  for (size_t i = 0; i < entries; ++i) {
    if (delta.buckets[i] >= kBuckets) return false;
    positives += delta.positive[i];
    negatives += delta.negative[i];
  }
  const double most = kMaxLoss * static_cast<double>(positives + negatives);
  // Written so that a loss that is not a number is refused as well.
  if (!(delta.loss_sum >= 0.0 && delta.loss_sum <= most * (1.0 + 1e-9))) return false;
  for (size_t i = 0; i < entries; ++i) {
    positive_[delta.buckets[i]] += delta.positive[i];
    negative_[delta.buckets[i]] += delta.negative[i];
  }
  positives_ += positives;
  records_ += positives + negatives;
  loss_sum_ += delta.loss_sum;
  return true;
}

}  // namespace freshet::protocol
