// Threads that share the work of one kernel or of one batch of compiles.
#pragma once
#include <atomic>
#include <cstdint>

#include "backends/backend.h"

namespace kontor {

/// A pool of threads, started at first use. The caller works too, so that `threads` = 1 starts none. run() may be called
/// from several threads at once (one of them gets the workers, the others work alone) and from inside a task (runs in the
/// caller). Which thread runs which range is not fixed, so ranges must be independent.
class ThreadPool {
 public:
  /// 0: KONTOR_THREADS, else the cores that this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;
  /// Calls task(context, begin, end) for ranges that cover 0..count-1, waits for all and throws the first exception of a
  /// task; after one, ranges not yet begun are left out.
  void run(int64_t count, ParallelFor::Task task, void* context);
  /// For backends; valid as long as the pool.
  ParallelFor parallel_for();

 private:
  struct State;
  State& state();
  std::atomic<State*> state_;
};

}  // namespace kontor
