// SPDX-License-Identifier: Apache-2.0
#include "base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/random.h"

namespace freshet::base {
namespace {

using ::testing::HasSubstr;

TEST(MetricsTest, ExportsThePrometheusFormat) {
  Metrics metrics(MetricLabels{{"node", "ps-0"}});
  Counter& rows = metrics.AddCounter("freshet_ps_rows_total", "Rows \"pushed\".\nAll tables.");
  Gauge& memory = metrics.AddGauge("freshet_ps_memory_bytes", "Memory.", {{"table", "a\"\\"}});
  rows.Add();
  rows.Add(41);
  memory.Set(1.5);
  memory.Add(-0.25);
  EXPECT_EQ(metrics.Export(),
            "# HELP freshet_ps_memory_bytes Memory.\n"
            "# TYPE freshet_ps_memory_bytes gauge\n"
            "freshet_ps_memory_bytes{node=\"ps-0\",table=\"a\\\"\\\\\"} 1.25\n"
            "# HELP freshet_ps_rows_total Rows \\\"pushed\\\".\\nAll tables.\n"
            "# TYPE freshet_ps_rows_total counter\n"
            "freshet_ps_rows_total{node=\"ps-0\"} 42\n");
}

TEST(MetricsTest, HistogramsExportCumulativeBuckets) {
  Metrics metrics;
  Histogram& latency = metrics.AddHistogram("freshet_pull_us", "Pull time.");
  for (const uint64_t value : {1, 3, 4, 15, 16, 1000}) latency.Observe(value);
  const std::string text = metrics.Export();
  EXPECT_THAT(text, HasSubstr("# TYPE freshet_pull_us histogram\n"
                              "freshet_pull_us_bucket{le=\"3\"} 2\n"
                              "freshet_pull_us_bucket{le=\"15\"} 4\n"
                              "freshet_pull_us_bucket{le=\"63\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("freshet_pull_us_bucket{le=\"+Inf\"} 6\n"
                              "freshet_pull_us_sum 1039\n"
                              "freshet_pull_us_count 6\n"));
}

TEST(MetricsTest, LabelsMakeMembersOfOneFamily) {
  Metrics metrics;
  metrics.AddCounter("x_total", "X.", {{"log", "a"}}).Add(1);
  metrics.AddCounter("x_total", "X.", {{"log", "b"}}).Add(2);
  EXPECT_THAT(metrics.Export(), HasSubstr("x_total{log=\"a\"} 1\nx_total{log=\"b\"} 2\n"));
  const auto samples = metrics.Samples();
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[1].name, "x_total");
  EXPECT_EQ(samples[1].labels.at("log"), "b");
  EXPECT_EQ(samples[1].value, 2);
}

TEST(MetricsTest, SamplesOfAHistogramAreItsQuantiles) {
  Metrics metrics;
  Histogram& h = metrics.AddHistogram("t_us", "T.");
  h.Observe(2);
  std::map<std::string, double> by_name;
  for (const auto& sample : metrics.Samples()) by_name[sample.name] = sample.value;
  EXPECT_EQ(
      by_name,
      (std::map<std::string, double>{
          {"t_us_count", 1}, {"t_us_max", 2}, {"t_us_p50", 2}, {"t_us_p99", 2}, {"t_us_sum", 2}}));
}

TEST(HistogramTest, QuantilesAreWithinAnEighth) {
  Random random(11);
  for (const uint64_t range : {10ull, 1000ull, 1'000'000'000ull}) {
    Histogram h;
    std::vector<uint64_t> values;
    for (int i = 0; i < 20'000; ++i) {
      values.push_back(random.Below(range));
      h.Observe(values.back());
    }
    std::sort(values.begin(), values.end());
    for (const double q : {0.01, 0.5, 0.9, 0.99, 1.0}) {
      const auto exact = static_cast<double>(values[static_cast<size_t>(q * 20'000) - 1]);
      EXPECT_NEAR(static_cast<double>(h.Quantile(q)), exact, exact * 0.125 + 1e-9) << q;
    }
  }
}

TEST(HistogramTest, TakesEveryValueAndAnEmptyOneAnswersZero) {
  Histogram h;
  EXPECT_EQ(h.Quantile(0.99), 0u);
  for (int bit = 0; bit < 64; ++bit) h.Observe(uint64_t{1} << bit);
  h.Observe(0);
  h.Observe(std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(h.count(), 66u);
  EXPECT_EQ(h.max(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(h.CountAtMost((uint64_t{1} << 32) - 1), 33u);
  EXPECT_EQ(h.CountAtMost(std::numeric_limits<uint64_t>::max()), 66u);
  h.Reset();
  EXPECT_EQ(h.count(), 0u);
}

TEST(MetricsDeathTest, OneNameHasOneMeaning) {
  Metrics metrics;
  metrics.AddCounter("x_total", "X.");
  EXPECT_DEATH(metrics.AddCounter("x_total", "X."), "CHECK failed");
  EXPECT_DEATH(metrics.AddCounter("x_total", "Y.", {{"a", "b"}}), "CHECK failed");
  EXPECT_DEATH(metrics.AddGauge("x_total", "X.", {{"a", "b"}}), "CHECK failed");
}

}  // namespace
}  // namespace freshet::base
