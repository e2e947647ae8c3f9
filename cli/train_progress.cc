// SPDX-License-Identifier: Apache-2.0
#include "cli/train_progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "cli/text.h"

namespace freshet::cli {
namespace {

constexpr std::chrono::milliseconds kPlainInterval{1000};
constexpr size_t kBarWidth = 24;

// What was learned lately says more than the average since the start.
const Json& RecentAuc(const Json& job) {
  const Json& window = At(job, "window_auc");
  return window.is_number() ? window : At(job, "auc");
}

std::string TimeLeft(const Json& job) {
  const double rate = NumberAt(job, "records_per_sec");
  const double left = NumberAt(job, "records_total") - NumberAt(job, "records_done");
  if (rate <= 0 || left < 0) return "-";
  return AgeText(left / rate + 0.5);
}

size_t ColumnsOf(FILE* stream) {
  winsize size = {};
  const bool known = ::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

std::string TerminalLine(const Json& job) {
  const double done = NumberAt(job, "records_done");
  const double total = NumberAt(job, "records_total");
  const double part = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0.0;
  const auto filled = static_cast<size_t>(part * kBarWidth);
  return fmt::format("{} [{}{}] {:3.0f} %  {:.0f}/{:.0f}  {:.0f} records/s  auc {}  {} left",
                     TextAt(job, "phase"), std::string(filled, '#'),
                     std::string(kBarWidth - filled, '.'), 100 * part, done, total,
                     NumberAt(job, "records_per_sec"), MeasureText(RecentAuc(job)), TimeLeft(job));
}

std::string PlainLine(const Json& job) {
  return fmt::format(
      "global_step/sec: {:.1f}  records/sec: {:.0f}  records: {:.0f}/{:.0f}  auc: {}  loss: {}",
      NumberAt(job, "steps_per_sec"), NumberAt(job, "records_per_sec"),
      NumberAt(job, "records_done"), NumberAt(job, "records_total"), MeasureText(RecentAuc(job)),
      MeasureText(At(job, "logloss")));
}

void TrainProgress::Show(const Json& status, base::Instant now) {
  const Json& job = At(status, "job");
  const std::string phase = TextAt(job, "phase");
  const bool new_phase = phase != last_phase_;
  last_phase_ = phase;
  if (style_ == Style::kTerminal) {
    line_on_screen_ = TerminalLine(job).substr(0, ColumnsOf(stream_) - 1);
    fmt::print(stream_, "\r\033[K{}", line_on_screen_);
    std::fflush(stream_);
    return;
  }
  if (!new_phase && last_shown_ && now - *last_shown_ < kPlainInterval) return;
  // Before the logs are counted there is nothing to tell.
  if (NumberAt(job, "records_total") <= 0) return;
  last_shown_ = now;
  fmt::print(stream_, "{}\n", PlainLine(job));
  std::fflush(stream_);
}

void TrainProgress::Say(const std::string& line) {
  if (style_ == Style::kTerminal) {
    fmt::print(stream_, "\r\033[K{}\n{}", line, line_on_screen_);
  } else {
    fmt::print(stream_, "{}\n", line);
  }
  std::fflush(stream_);
}

void TrainProgress::ShowEvent(const Json& event) {
  const std::string node = TextAt(event, "node");
  const std::string text = (node.empty() ? "" : node + ": ") + TextAt(event, "text");
  std::string kind = TextAt(event, "kind");
  // Its text begins with the word.
  if (kind == "checkpoint") return Say(text);
  std::replace(kind.begin(), kind.end(), '_', ' ');
  Say(kind + "  " + text);
}

void TrainProgress::End() {
  if (style_ == Style::kTerminal && !line_on_screen_.empty()) fmt::print(stream_, "\n");
  line_on_screen_.clear();
  std::fflush(stream_);
}

}  // namespace freshet::cli
