// SPDX-License-Identifier: Apache-2.0
// Metrics of one node: declared once with name and help, read as Prometheus text or as samples.
// A Metrics object and what it hands out belong to the node's loop thread: no lock, no atomics, so
// counting costs an addition. References stay valid as long as the Metrics object.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace freshet::base {

class Counter {
 public:
  void Add(uint64_t amount = 1) { value_ += amount; }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
};

class Gauge {
 public:
  void Set(double value) { value_ = value; }
  void Add(double amount) { value_ += amount; }
  double value() const { return value_; }

 private:
  double value_ = 0;
};

// Whole numbers of a unit that ends the name (_us, _bytes) in exponential buckets, four to each
// power of two: a quantile is at most 12.5 % off, whatever the range.
class Histogram {
 public:
  void Observe(uint64_t value) {
    ++buckets_[BucketOf(value)];
    ++count_;
    sum_ += value;
    if (value > max_) max_ = value;
  }

  uint64_t count() const { return count_; }
  uint64_t sum() const { return sum_; }
  uint64_t max() const { return max_; }
  // The value below which a share `q` of the observations lies; 0 when there are none.
  uint64_t Quantile(double q) const;
  // How many observations were at most `value`; exact when value + 1 is a power of two.
  uint64_t CountAtMost(uint64_t value) const;
  void Reset() { *this = Histogram(); }

 private:
  // Values below 4 have a bucket each; then 4 buckets to each power of two.
  static constexpr size_t kBuckets = 4 + 62 * 4;
  static constexpr size_t BucketOf(uint64_t value) {
    if (value < 4) return static_cast<size_t>(value);
    const int exponent = std::bit_width(value) - 1;
    return static_cast<size_t>(exponent - 1) * 4 + ((value >> (exponent - 2)) & 3);
  }
  // The largest value that falls into the bucket.
  static uint64_t UpperEnd(size_t bucket);

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
  uint64_t max_ = 0;
};

// Ordered, so that the same metrics always give the same text.
using MetricLabels = std::map<std::string, std::string>;

struct MetricSample {
  std::string name;
  MetricLabels labels;
  double value = 0;
};

class Metrics {
 public:
  // `common` labels, such as {"node", "ps-0"}, are on everything that is exported.
  explicit Metrics(MetricLabels common = {}) : common_(std::move(common)) {}
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Names are freshet_<folder>_<what>_<unit>, counters end in _total. The same name and labels
  // twice, or one name with another kind or help, is a programmer's error.
  Counter& AddCounter(std::string_view name, std::string_view help, MetricLabels labels = {});
  Gauge& AddGauge(std::string_view name, std::string_view help, MetricLabels labels = {});
  Histogram& AddHistogram(std::string_view name, std::string_view help, MetricLabels labels = {});

  // The text format 0.0.4 of Prometheus.
  std::string Export() const;
  // Each counter and gauge; a histogram gives NAME_count, NAME_sum, NAME_p50, NAME_p99, NAME_max.
  std::vector<MetricSample> Samples() const;

 private:
  using Instrument = std::variant<Counter, Gauge, Histogram>;
  struct Family {
    std::string help;
    std::map<MetricLabels, Instrument> members;  // nodes of a map stay where they are
  };

  template <class T>
  T& Add(std::string_view name, std::string_view help, MetricLabels labels);

  MetricLabels common_;
  std::map<std::string, Family, std::less<>> families_;
};

}  // namespace freshet::base
