// Measures what this machine can do at most: f32 multiply-adds a second, bytes read and bytes copied a
// second. The yardstick of bench/RESULTS.md; prints one JSON line a limit and number of threads. Usage:
// limits [THREADS...]
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr size_t kFloats = size_t{64} << 20;  // 256 MiB: far beyond any cache
constexpr int kRounds = 15;

using FmaLoop = float (*)(int64_t iterations);
using SumLoop = float (*)(const float* in, size_t count);
using CopyLoop = void (*)(float* out, const float* in, size_t count);

/// The loops of one instruction set. Each asm keeps the compiler from folding the loop or calling memcpy,
/// which would store past the caches.
struct Machine {
  const char* name;
  int64_t flops_per_iteration;
  FmaLoop fma;
  SumLoop sum;
  CopyLoop copy;
};

#if defined(__x86_64__)
constexpr int kChains = 16;  // two units of latency 4 need 8; Intel's 10

__attribute__((target("avx512f"))) float fma_avx512(int64_t iterations) {
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t k = 0; k < iterations; ++k) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_fmadd_ps(sums[i], a, b);
  }
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sums[0]);
  return lanes[0] + lanes[15];
}

__attribute__((target("avx512f"))) float sum_avx512(const float* in, size_t count) {
  __m512 sums[8] = {};
  for (size_t i = 0; i < count; i += 128) {
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; ++j) sums[j] = _mm512_add_ps(sums[j], _mm512_loadu_ps(in + i + 16 * j));
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm512_add_ps(sums[0], sums[j]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sums[0]);
  return lanes[0] + lanes[15];
}

__attribute__((target("avx512f"))) void copy_avx512(float* out, const float* in, size_t count) {
  for (size_t i = 0; i < count; i += 64) {
#pragma GCC unroll 4
    for (size_t j = 0; j < 64; j += 16) _mm512_storeu_ps(out + i + j, _mm512_loadu_ps(in + i + j));
    asm volatile("" ::: "memory");
  }
}

__attribute__((target("avx2,fma"))) float fma_avx2(int64_t iterations) {
  constexpr int chains = 12;  // with the two constants, what 16 registers hold
  __m256 sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t k = 0; k < iterations; ++k) {
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) sums[i] = _mm256_fmadd_ps(sums[i], a, b);
  }
  for (int i = 1; i < chains; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  float lanes[8];
  _mm256_storeu_ps(lanes, sums[0]);
  return lanes[0] + lanes[7];
}

__attribute__((target("avx2"))) float sum_avx2(const float* in, size_t count) {
  __m256 sums[8] = {};
  for (size_t i = 0; i < count; i += 64) {
#pragma GCC unroll 8
    for (size_t j = 0; j < 8; ++j) sums[j] = _mm256_add_ps(sums[j], _mm256_loadu_ps(in + i + 8 * j));
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_add_ps(sums[0], sums[j]);
  float lanes[8];
  _mm256_storeu_ps(lanes, sums[0]);
  return lanes[0] + lanes[7];
}

__attribute__((target("avx2"))) void copy_avx2(float* out, const float* in, size_t count) {
  for (size_t i = 0; i < count; i += 32) {
#pragma GCC unroll 4
    for (size_t j = 0; j < 32; j += 8) _mm256_storeu_ps(out + i + j, _mm256_loadu_ps(in + i + j));
    asm volatile("" ::: "memory");
  }
}

constexpr Machine kAvx512 = {"avx512", kChains * 16 * 2, fma_avx512, sum_avx512, copy_avx512};
constexpr Machine kAvx2 = {"avx2", 12 * 8 * 2, fma_avx2, sum_avx2, copy_avx2};
#endif

// What the compiler makes of plain loops: other processors.
constexpr int kLanes = 64;

float fma_plain(int64_t iterations) {
  float sums[kLanes] = {};
  for (int64_t k = 0; k < iterations; ++k)
    for (int i = 0; i < kLanes; ++i) sums[i] = __builtin_fmaf(sums[i], 0.999f, 0.001f);
  return sums[0] + sums[kLanes - 1];
}

float sum_plain(const float* in, size_t count) {
  float sums[kLanes] = {};
  for (size_t i = 0; i < count; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) sums[j] += in[i + j];
  return sums[0] + sums[kLanes - 1];
}

void copy_plain(float* out, const float* in, size_t count) {
  for (size_t i = 0; i < count; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) out[i + j] = in[i + j];
    asm volatile("" ::: "memory");
  }
}

constexpr Machine kPlain = {"plain", kLanes * 2, fma_plain, sum_plain, copy_plain};

const Machine& machine() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
  return kPlain;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Results go here, so that the loops that make them are not dropped.
std::atomic<float> sink{0};

std::vector<int> usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    std::fprintf(stderr, "machine-limits: cannot pin to core %d\n", core);
}

/// Seconds that `threads` threads, each on a core of its own, take for work(thread), all started at once.
template <class F>
std::vector<double> measure(const std::vector<int>& cores, int threads, F&& work) {
  std::vector<double> seconds;
  std::atomic<int> ready{0}, round{0}, done{0};
  std::vector<std::thread> pool;
  for (int thread = 0; thread < threads; ++thread)
    pool.emplace_back([&, thread] {
      pin(cores[static_cast<size_t>(thread) % cores.size()]);
      for (int mine = 1; mine <= kRounds + 1; ++mine) {
        ++ready;
        while (round < mine) std::this_thread::yield();
        work(thread);
        ++done;
      }
    });
  for (int at = 1; at <= kRounds + 1; ++at) {
    while (ready < at * threads) std::this_thread::sleep_for(std::chrono::microseconds(100));
    const double begin = now();
    round = at;
    while (done < at * threads) std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (at > 1) seconds.push_back(now() - begin);  // the first one touches the memory
  }
  for (std::thread& thread : pool) thread.join();
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

void print(const char* limit, int threads, const std::vector<double>& seconds, double work,
           const char* unit) {
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "{\"limit\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"seconds\": %.6f, \"value\": %.6g, "
      "\"best\": %.6g, \"unit\": \"%s\"}\n",
      limit, machine().name, threads, median, work / median, work / seconds.front(), unit);
  std::fflush(stdout);
}

void run(const std::vector<int>& cores, int threads, float* in, float* out) {
  constexpr int64_t iterations = 4'000'000;
  const Machine& m = machine();
  const size_t share = kFloats / static_cast<size_t>(threads) / 128 * 128;
  const double bytes = static_cast<double>(share * static_cast<size_t>(threads)) * sizeof(float);
  const auto part = [&](float* all, int thread) { return all + share * static_cast<size_t>(thread); };

  const auto fma = measure(cores, threads, [&](int) { sink = m.fma(iterations); });
  print("fma_f32", threads, fma, static_cast<double>(iterations * m.flops_per_iteration * threads), "FLOP/s");
  const auto read = measure(cores, threads, [&](int t) { sink = m.sum(part(in, t), share); });
  print("read", threads, read, bytes, "B/s");
  const auto copy = measure(cores, threads, [&](int t) { m.copy(part(out, t), part(in, t), share); });
  print("copy", threads, copy, 2 * bytes, "B/s");  // read and written
}

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<float[], Free>;

Memory touched() {
  Memory memory(static_cast<float*>(std::aligned_alloc(64, kFloats * sizeof(float))));
  if (memory) std::fill_n(memory.get(), kFloats, 1.0f);
  return memory;
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<int> cores = usable_cores();
  std::vector<int> threads;
  for (int i = 1; i < count; ++i) threads.push_back(std::atoi(arguments[i]));
  if (threads.empty())
    threads = cores.size() > 1 ? std::vector<int>{1, static_cast<int>(cores.size())} : std::vector<int>{1};
  for (int n : threads)
    if (n < 1 || n > 1024) return std::fprintf(stderr, "usage: machine-limits [THREADS...]\n"), 2;
  const Memory in = touched(), out = touched();
  if (!in || !out)
    return std::fprintf(stderr, "machine-limits: no memory for 2 x %zu bytes\n", kFloats * sizeof(float)), 1;
  for (int n : threads) run(cores, n, in.get(), out.get());
  return 0;
}
