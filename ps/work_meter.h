// SPDX-License-Identifier: Apache-2.0
// WorkMeter: how long this server's loop is occupied by its work. Processor time alone would hide a slow
// host, and time on the clock alone hides one that is kept from running between two requests; so it is
// processor time, stretched by how much of the time they wanted the threads got (a throttled process, a
// busy neighbour). A timer that comes late tells of what the kernel does not count as waiting (a stopped
// process or machine). Belongs to the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "base/runtime.h"
#include "transport/processor_time.h"

namespace freshet::ps {

// Without them the clock's time counts as it is.
struct ProcessorTimes {
  // Of the calling thread.
  std::function<base::Duration()> used;
  // Of all threads that a message goes through.
  std::function<transport::ThreadTimes()> of_messages;
};

class WorkMeter {
 public:
  WorkMeter(const base::Clock& clock, base::Timers& timers, ProcessorTimes processor);
  ~WorkMeter() { timers_.Cancel(timer_); }
  WorkMeter(const WorkMeter&) = delete;
  WorkMeter& operator=(const WorkMeter&) = delete;

  // A piece of work: as long as it lives.
  class Piece {
   public:
    explicit Piece(WorkMeter& meter) : meter_(meter) { meter_.Begin(); }
    ~Piece() { meter_.End(); }
    Piece(const Piece&) = delete;
    Piece& operator=(const Piece&) = delete;

   private:
    WorkMeter& meter_;
  };

  // Since the start; both grow once a window.
  uint64_t busy_us() const { return busy_us_; }
  // What would be busy_us on a free processor.
  uint64_t processor_us() const { return processor_us_; }
  // Processor time of the calling thread; the clock's where nobody tells it.
  base::Duration Used() const;
  // When the last piece of work began.
  base::Instant last_work() const { return began_.clock; }
  // Of the time it wanted, in the last window.
  double availability() const { return availability_; }

 private:
  struct Reading {
    base::Instant clock;
    base::Duration processor{0};
  };
  Reading Read() const;
  void Begin();
  void End();
  void Tick();
  void CloseWindow(base::Duration window);

  const base::Clock& clock_;
  base::Timers& timers_;
  ProcessorTimes processor_;
  base::TimerId timer_;
  Reading began_;   // the work under way
  Reading ticked_;  // the last tick
  base::Instant window_began_;
  transport::ThreadTimes threads_;  // when it began
  base::Duration worked_clock_{0};  // in this window, as all below
  base::Duration worked_processor_{0};
  base::Duration kept_{0};  // from running, as the ticks tell
  double availability_ = 1;
  uint64_t busy_us_ = 0;
  uint64_t processor_us_ = 0;
};

}  // namespace freshet::ps
