// The pool: workers join the job that is open, claim chunks of it until none is left, and leave. A worker that wakes late
// finds the job closed and touches nothing of it, so that the caller waits only for those that joined.
#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/env.h"
#include "base/error.h"
#include "base/lasting.h"
#include "base/process.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kontor {
namespace {

// A waiting thread first looks again and again for about 20 microseconds, then lets other threads have its core for up to
// a millisecond while it looks, and only then sleeps: to be woken takes 15 to 30 microseconds on a virtual machine, as
// long as many a kernel.
constexpr int kSpins = 1000;
constexpr std::chrono::microseconds kYielding{1000};

// Chunks a thread gets on average: more balance better, fewer cost less.
constexpr int64_t kChunksPerThread = 16;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Whether `done` came true before it was time to sleep.
template <class Done>
bool wait_awake(const Done& done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
    pause();
  }
  const auto end = std::chrono::steady_clock::now() + kYielding;
  do {
    if (done()) return true;
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

thread_local bool inside_task = false;

struct Job {
  ParallelFor::Task task;
  void* context;
  int64_t count, chunk;
};

int thread_count(int wanted) {
  if (wanted < 0 || wanted > 4096) fail("{} threads: between 1 and 4096 are possible", wanted);
  if (wanted == 0) {
    const int64_t set = env_int(Env::Threads);
    if (set < 0 || set > 4096) fail("KONTOR_THREADS={}: between 1 and 4096 is possible", set);
    wanted = static_cast<int>(set);
  }
  return wanted > 0 ? wanted : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

struct ThreadPool::State {
  explicit State(int count) : threads(count) {}

  const int threads;
  std::mutex owner;                  // held by the caller whose job the workers may join
  std::vector<std::thread> workers;  // started by the first owner
  bool none_to_be_had = false;
  const uint32_t generation = process_generation();

  // The gate: bit 0 says that a job is open, the rest counts workers inside. Fields of the job change only while it is
  // closed and empty; a worker reads them after it has joined.
  static constexpr uint32_t kOpen = 1, kOne = 2;
  alignas(64) std::atomic<uint32_t> gate{0};
  alignas(64) std::atomic<int64_t> next{0};
  Job job{};
  std::exception_ptr exception;
  std::mutex exception_mutex;

  alignas(64) std::atomic<uint32_t> posted{0};  // counts jobs; workers sleep on it
  std::atomic<uint32_t> sleepers{0};
  std::atomic<uint32_t> left{0};  // counts last departures; the caller sleeps on it
  std::atomic<bool> stop{false};

  // Fewer than wanted where the system gives no more: the caller does their share.
  void start_workers() {
    try {
      for (int i = 1; i < threads; ++i) workers.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      if (workers.empty()) none_to_be_had = true;
    }
  }

  void stop_workers() {
    stop = true;
    posted.fetch_add(1);
    posted.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  void claim_chunks() {
    inside_task = true;
    try {
      for (;;) {
        const int64_t begin = next.fetch_add(job.chunk, std::memory_order_relaxed);
        if (begin >= job.count) break;
        job.task(job.context, begin, std::min(begin + job.chunk, job.count));
      }
    } catch (...) {
      next.store(job.count, std::memory_order_relaxed);
      const std::lock_guard lock(exception_mutex);
      if (!exception) exception = std::current_exception();
    }
    inside_task = false;
  }

  bool join() {
    uint32_t seen = gate.load(std::memory_order_relaxed);
    while ((seen & kOpen) != 0) {
      if (gate.compare_exchange_weak(seen, seen + kOne, std::memory_order_acquire)) return true;
    }
    return false;
  }

  void leave() {
    if (gate.fetch_sub(kOne, std::memory_order_release) == kOne) {  // closed, and the last one
      left.fetch_add(1);
      left.notify_one();
    }
  }

  uint32_t wait_for_post(uint32_t seen) {
    if (!wait_awake([&] { return posted.load(std::memory_order_acquire) != seen; })) {
      sleepers.fetch_add(
          1);  // before the value is looked at again, as run() posts before it looks for sleepers
      posted.wait(seen);
      sleepers.fetch_sub(1);
    }
    return posted.load();
  }

  void work() {
    uint32_t seen = 0;
    for (;;) {
      seen = wait_for_post(seen);
      if (stop) return;
      if (!join()) continue;
      claim_chunks();
      leave();
    }
  }

  void open(const Job& next_job) {
    job = next_job;
    exception = nullptr;
    next.store(0, std::memory_order_relaxed);
    gate.store(kOpen, std::memory_order_release);
    posted.fetch_add(1);
    if (sleepers.load() == 0) return;
    const int64_t helpers = (job.count + job.chunk - 1) / job.chunk - 1;
    if (helpers >= threads - 1) {
      posted.notify_all();
    } else {
      for (int64_t i = 0; i < helpers; ++i) posted.notify_one();
    }
  }

  void close() {
    gate.fetch_and(~kOpen, std::memory_order_relaxed);
    const auto empty = [&] { return gate.load(std::memory_order_acquire) == 0; };
    if (wait_awake(empty)) return;
    for (uint32_t seen = left.load(); !empty(); seen = left.load()) left.wait(seen);
  }
};

ThreadPool::ThreadPool(int threads) : state_(new State(thread_count(threads))) {}

ThreadPool::~ThreadPool() {
  State* const state = state_;
  if (state->generation != process_generation()) {
    keep_forever(state);
    return;
  }
  state->stop_workers();
  delete state;
}

// In a forked child the workers are gone, and what they held or counted is left as it was: another state takes its place.
ThreadPool::State& ThreadPool::state() {
  State* state = state_.load(std::memory_order_acquire);
  if (state->generation == process_generation()) return *state;
  State* const anew = new State(state->threads);
  if (!state_.compare_exchange_strong(state, anew)) {  // another thread of the child was quicker
    delete anew;
    return *state;
  }
  keep_forever(state);
  return *anew;
}

int ThreadPool::threads() const { return state_.load()->threads; }

void ThreadPool::run(int64_t count, ParallelFor::Task task, void* context) {
  if (count <= 0) return;
  State& state = this->state();
  std::unique_lock owner(state.owner, std::defer_lock);
  if (count == 1 || state.threads == 1 || inside_task || !owner.try_lock()) {
    task(context, 0, count);
    return;
  }
  if (state.workers.empty() && !state.none_to_be_had) state.start_workers();
  state.open({task, context, count, std::max<int64_t>(1, count / (state.threads * kChunksPerThread))});
  state.claim_chunks();
  state.close();
  if (state.exception) std::rethrow_exception(std::exchange(state.exception, nullptr));
}

ParallelFor ThreadPool::parallel_for() {
  const auto run = [](void* pool, int64_t count, ParallelFor::Task task, void* context) {
    static_cast<ThreadPool*>(pool)->run(count, task, context);
  };
  return {run, this};
}

}  // namespace kontor
