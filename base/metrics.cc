// SPDX-License-Identifier: Apache-2.0
#include "base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/check.h"

namespace freshet::base {
namespace {

// The upper ends of the exported buckets are 4^k - 1: 3, 15, 63 .. 4294967295.
constexpr int kExportedBuckets = 16;

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"') {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string LabelText(const MetricLabels& labels) {
  if (labels.empty()) return "";
  std::string out = "{";
  for (const auto& [name, value] : labels) {
    if (out.size() > 1) out += ',';
    out += fmt::format("{}=\"{}\"", name, Escaped(value));
  }
  return out + "}";
}

std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

MetricLabels Merged(const MetricLabels& common, const MetricLabels& own) {
  MetricLabels all = own;
  all.insert(common.begin(), common.end());
  return all;
}

void ExportHistogram(std::string_view name, const MetricLabels& labels, const Histogram& histogram,
                     std::string& out) {
  const auto line = [&](std::string_view le, uint64_t count) {
    MetricLabels with_end = labels;
    with_end["le"] = le;
    fmt::format_to(std::back_inserter(out), "{}_bucket{} {}\n", name, LabelText(with_end), count);
  };
  for (int k = 1; k <= kExportedBuckets; ++k) {
    const uint64_t end = (uint64_t{1} << (2 * k)) - 1;
    line(fmt::format("{}", end), histogram.CountAtMost(end));
  }
  line("+Inf", histogram.count());
  const std::string text = LabelText(labels);
  fmt::format_to(std::back_inserter(out), "{}_sum{} {}\n{}_count{} {}\n", name, text,
                 histogram.sum(), name, text, histogram.count());
}

constexpr std::string_view kKinds[] = {"counter", "gauge", "histogram"};

}  // namespace

uint64_t Histogram::UpperEnd(size_t bucket) {
  if (bucket < 4) return bucket;
  const size_t shift = bucket / 4 - 1;
  return ((4 + bucket % 4) << shift) + ((uint64_t{1} << shift) - 1);
}

uint64_t Histogram::Quantile(double q) const {
  if (count_ == 0) return 0;
  const double share = std::clamp(q, 0.0, 1.0) * static_cast<double>(count_);
  const uint64_t rank = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(share)));
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets_[bucket];
    if (seen < rank) continue;
    const uint64_t low = bucket == 0 ? 0 : UpperEnd(bucket - 1) + 1;
    return std::min(low + (UpperEnd(bucket) - low) / 2, max_);
  }
  return max_;
}

uint64_t Histogram::CountAtMost(uint64_t value) const {
  uint64_t count = 0;
  for (size_t bucket = 0; bucket < kBuckets && UpperEnd(bucket) <= value; ++bucket) {
    count += buckets_[bucket];
  }
  return count;
}

template <class T>
T& Metrics::Add(std::string_view name, std::string_view help, MetricLabels labels) {
  auto found = families_.find(name);
  if (found == families_.end()) {
    found = families_.emplace(name, Family{.help = std::string(help), .members = {}}).first;
  }
  Family& family = found->second;
  CHECK(family.help == help);
  const auto [member, inserted] = family.members.emplace(std::move(labels), T());
  CHECK(inserted);
  CHECK(family.members.begin()->second.index() == member->second.index());
  CHECK(std::prev(family.members.end())->second.index() == member->second.index());
  return std::get<T>(member->second);
}

Counter& Metrics::AddCounter(std::string_view name, std::string_view help, MetricLabels labels) {
  return Add<Counter>(name, help, std::move(labels));
}

Gauge& Metrics::AddGauge(std::string_view name, std::string_view help, MetricLabels labels) {
  return Add<Gauge>(name, help, std::move(labels));
}

Histogram& Metrics::AddHistogram(std::string_view name, std::string_view help,
                                 MetricLabels labels) {
  return Add<Histogram>(name, help, std::move(labels));
}

std::string Metrics::Export() const {
  std::string out;
  for (const auto& [name, family] : families_) {
    fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name,
                   Escaped(family.help), name, kKinds[family.members.begin()->second.index()]);
    for (const auto& [labels, instrument] : family.members) {
      const MetricLabels all = Merged(common_, labels);
      if (const auto* counter = std::get_if<Counter>(&instrument)) {
        fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, LabelText(all),
                       counter->value());
      } else if (const auto* gauge = std::get_if<Gauge>(&instrument)) {
        fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, LabelText(all),
                       NumberText(gauge->value()));
      } else {
        ExportHistogram(name, all, std::get<Histogram>(instrument), out);
      }
    }
  }
  return out;
}

std::vector<MetricSample> Metrics::Samples() const {
  std::vector<MetricSample> samples;
  for (const auto& [name, family] : families_) {
    for (const auto& [labels, instrument] : family.members) {
      const auto add = [&, &name = name, &labels = labels](std::string_view suffix, double value) {
        samples.push_back({name + std::string(suffix), Merged(common_, labels), value});
      };
      if (const auto* counter = std::get_if<Counter>(&instrument)) {
        add("", static_cast<double>(counter->value()));
      } else if (const auto* gauge = std::get_if<Gauge>(&instrument)) {
        add("", gauge->value());
      } else {
        const auto& histogram = std::get<Histogram>(instrument);
        add("_count", static_cast<double>(histogram.count()));
        add("_sum", static_cast<double>(histogram.sum()));
        add("_p50", static_cast<double>(histogram.Quantile(0.5)));
        add("_p99", static_cast<double>(histogram.Quantile(0.99)));
        add("_max", static_cast<double>(histogram.max()));
      }
    }
  }
  return samples;
}

}  // namespace freshet::base
