// [runtime] the thread pool: every number once, exceptions, nesting, several callers.
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/thread_pool.h"
#include "tests/catch.h"

using namespace kontor;

namespace {

// How often each of 0..count-1 was visited.
std::vector<int> visits(const ParallelFor& parallel, int64_t count) {
  std::vector<int> seen(
      static_cast<size_t>(count));  // ranges don't overlap, so no atomics: the thread sanitizer checks it
  parallel(count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  return seen;
}

}  // namespace

TEST_CASE("[runtime] a pool visits every number once") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (const int64_t count : {0, 1, 2, 3, 31, 32, 33, 1000, 100003}) {
      CHECK(visits(pool.parallel_for(), count) == std::vector<int>(static_cast<size_t>(count), 1));
    }
  }
}

TEST_CASE("[runtime] jobs posted in quick succession and after a pause are all done") {
  ThreadPool pool(3);
  const ParallelFor parallel = pool.parallel_for();
  for (int round = 0; round < 2000; ++round) {
    std::atomic<int64_t> sum{0};
    parallel(7, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum += i + 1;
    });
    REQUIRE(sum == 28);
    if (round % 500 == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the workers fall asleep
  }
}

TEST_CASE("[runtime] work is shared: both threads of a pool get some") {
  ThreadPool pool(2);
  std::atomic<int> inside{0};
  std::atomic<bool> met{false};
  // Each range waits until another thread is inside too, or a generous time has passed.
  pool.parallel_for()(2, [&](int64_t, int64_t) {
    ++inside;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (inside < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (inside == 2) met = true;
  });
  CHECK(met);
}

TEST_CASE("[runtime] an exception of any thread reaches the caller, and the pool goes on") {
  ThreadPool pool(3);
  const ParallelFor parallel = pool.parallel_for();
  for (int64_t bad = 0; bad < 100; bad += 9) {
    const auto work = [&](int64_t begin, int64_t end) {
      if (begin <= bad && bad < end) throw std::runtime_error("range with " + std::to_string(bad));
    };
    CHECK_THROWS_WITH(parallel(100, work), "range with " + std::to_string(bad));
    CHECK(visits(parallel, 100) == std::vector<int>(100, 1));
  }
}

TEST_CASE("[runtime] a task may use the pool: it then works alone") {
  ThreadPool pool(2);
  const ParallelFor parallel = pool.parallel_for();
  std::atomic<int64_t> sum{0};
  parallel(8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (const int count : visits(parallel, 50)) sum += count;
    }
  });
  CHECK(sum == 400);
}

TEST_CASE("[runtime] several threads may use one pool") {
  ThreadPool pool(3);
  std::atomic<int> right{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round)
        right += visits(pool.parallel_for(), 97) == std::vector<int>(97, 1);
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(right == 800);
}

TEST_CASE("[runtime] a pool that is never used or destroyed at once does not hang") {
  for (int i = 0; i < 50; ++i) {
    ThreadPool unused(4);
    ThreadPool used_once(4);
    CHECK(visits(used_once.parallel_for(), 5) == std::vector<int>(5, 1));
  }
}
