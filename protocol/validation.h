// SPDX-License-Identifier: Apache-2.0
// ValidationHistogram: predictions by bucket and label, from which AUC and log loss are computed.
// It can be merged, so workers send differences and the master adds them (progressive validation).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace freshet::protocol {

// Buckets are equal steps of the logit in [-kMaxLogit, kMaxLogit]; ties inside a bucket count half.
// Value type, not thread safe.
class ValidationHistogram {
 public:
  static constexpr uint32_t kBuckets = 4096;
  static constexpr float kMaxLogit = 12.0f;

  ValidationHistogram() : positive_(kBuckets), negative_(kBuckets) {}

  // `logit` before the sigmoid; label 0 or 1.
  void Add(float logit, float label);
  void Merge(const ValidationHistogram& other);
  void Clear();

  uint64_t records() const { return records_; }
  uint64_t positives() const { return positives_; }
  // Area under the ROC curve; 0.5 when one class is missing.
  double Auc() const;
  // Mean natural-log loss; 0 when empty.
  double LogLoss() const;

  // Sparse form for the wire: three arrays of equal length and the sum of losses.
  struct Delta {
    std::vector<uint16_t> buckets;
    std::vector<uint32_t> positive;
    std::vector<uint32_t> negative;
    double loss_sum = 0;
  };
  Delta ToDelta() const;
  // False, and nothing is added, if the arrays do not fit together.
  bool Add(const Delta& delta);

 private:
  std::vector<uint64_t> positive_;
  std::vector<uint64_t> negative_;
  uint64_t records_ = 0;
  uint64_t positives_ = 0;
  double loss_sum_ = 0;
};

}  // namespace freshet::protocol
