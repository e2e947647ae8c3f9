// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/seed_runner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "transport/event_loop.h"
#include "transport/thread_executor.h"

namespace freshet::sim {
namespace {

// Enough that handing over costs nothing, few enough that all threads end together.
constexpr uint64_t kChunk = 10;
constexpr std::chrono::seconds kTellOnTerminal{1};
constexpr std::chrono::seconds kTellElsewhere{20};

struct Chunk {
  uint64_t from = 0;
  Totals totals;
  std::vector<std::pair<uint64_t, std::string>> violations;
};

class SeedRunner {
 public:
  SeedRunner(const SeedRange& range, const ViolationHandler& on_violation)
      : range_(range), on_violation_(on_violation) {}

  Totals Run() {
    const base::Instant began = loop_.clock().Now();
    for (uint32_t i = 0; i < range_.jobs; ++i) {
      executors_.push_back(std::make_unique<transport::ThreadExecutor>(loop_));
      StartNext(*executors_.back());
    }
    TellLater(began);
    while (running_ > 0) loop_.RunUntil([this] { return running_ == 0; }, std::chrono::hours(1));
    loop_.Cancel(progress_timer_);
    if (told_ && terminal_) std::fputc('\n', stderr);
    totals_.elapsed_s = std::max(SecondsSince(began), 1e-6);
    return totals_;
  }

 private:
  double SecondsSince(base::Instant began) const {
    return static_cast<double>((loop_.clock().Now() - began).count()) / 1e6;
  }

  void StartNext(transport::ThreadExecutor& executor) {
    const uint64_t left = range_.seeds - given_;
    if (left == 0 || totals_.failures >= range_.max_failures) return;
    auto chunk = std::make_shared<Chunk>();
    chunk->from = range_.from + given_;
    chunk->totals.seeds = std::min(left, kChunk);
    given_ += chunk->totals.seeds;
    ++running_;
    executor.Run([this, chunk] { Work(*chunk); },
                 [this, chunk, &executor] {
                   --running_;
                   Take(*chunk);
                   StartNext(executor);
                 });
  }

  // On an executor's thread.
  void Work(Chunk& chunk) const {
    for (uint64_t seed = chunk.from; seed < chunk.from + chunk.totals.seeds; ++seed) {
      RunResult result = RunSeed(seed, range_.faults, range_.trace);
      std::string violation = result.violation.value_or("");
      const bool same = !range_.twice || !violation.empty() ||
                        RunSeed(seed, range_.faults, range_.trace).digest == result.digest;
      if (!same) violation = "replay: the second run of this seed went another way";
      if (!violation.empty()) chunk.violations.emplace_back(seed, violation);
      chunk.totals.sum.Add(result);
    }
  }

  void Take(const Chunk& chunk) {
    totals_.seeds += chunk.totals.seeds;
    totals_.sum.Add(chunk.totals.sum);
    for (const auto& [seed, violation] : chunk.violations) {
      ++totals_.failures;
      on_violation_(seed, violation);
    }
  }

  void TellLater(base::Instant began) {
    const base::Duration wait = terminal_ ? kTellOnTerminal : kTellElsewhere;
    progress_timer_ = loop_.After(wait, [this, began] {
      const double rate = static_cast<double>(totals_.seeds) / SecondsSince(began);
      const auto left = static_cast<double>(range_.seeds - totals_.seeds);
      fmt::print(stderr, "{}{} of {} seeds, {} violations, {:.0f} seeds/s, {:.0f} s left{}",
                 terminal_ ? "\r" : "", totals_.seeds, range_.seeds, totals_.failures, rate,
                 rate > 0 ? left / rate : 0, terminal_ ? "  " : "\n");
      told_ = true;
      TellLater(began);
    });
  }

  const SeedRange& range_;
  const ViolationHandler& on_violation_;
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  transport::EventLoop loop_;
  std::vector<std::unique_ptr<transport::ThreadExecutor>> executors_;
  Totals totals_;
  uint64_t given_ = 0;
  uint32_t running_ = 0;
  base::TimerId progress_timer_;
  bool told_ = false;
};

}  // namespace

Totals RunSeeds(const SeedRange& range, const ViolationHandler& on_violation) {
  return SeedRunner(range, on_violation).Run();
}

}  // namespace freshet::sim
