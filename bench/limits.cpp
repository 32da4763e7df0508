// Measures what this machine can do at most: f32 multiply-adds, bytes read and bytes copied a second. The yardstick of
// bench/RESULTS.md. Usage: machine-limits [--threads N] [--seconds S] [LIMIT.. | -]; `-` reads names from standard
// input. Prints one JSON line a limit.
//
// A limit must not be beaten by a kernel, so each is the best of several forms, and of all their runs within the given
// seconds; bench/run.py asks for it right beside the case that is held against it.
//   fma_f32      chains of multiply-adds in registers only, 6 to 24 of them at once: one form fills both units over
//                their latency whatever that is. FLOP/s: two a lane.
//   dot_bf16     the same of steps that add two products of bf16 (AVX512-BF16), where the processor has them. FLOP/s: four a lane.
//   read         a sum over 256 MiB, in 1 to 8 streams (so that the hardware prefetchers of several pages work at
//                once), with and without software prefetch. Bytes read a second.
//   copy         a plain vector loop, loads and stores through the caches, in 1 to 4 streams: 256 MiB to another 256
//                MiB. Bytes read plus bytes written a second; that the caches also read what is about to be
//                overwritten is not counted.
//   copy_stream  the same with streaming stores, which do without that read: what a kernel can reach that uses them.
// The memory was written before (touched), lies on huge pages as the engines' does where the system has them, and each
// thread, pinned to a core of its own, has its part of it. A run lasts from the first thread's start to the last's end,
// by the threads' own clocks: none of them is woken or watched meanwhile.
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// This file is compiled for the machine that it runs on (-march=native).
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#else
constexpr int kVectorBytes = 16, kRegisters = 32;
#endif
constexpr size_t kLanes = kVectorBytes / sizeof(float);
using Vector = float __attribute__((vector_size(kVectorBytes), aligned(kVectorBytes)));

constexpr size_t kFloats = size_t{64} << 20;  // 256 MiB: far beyond any cache
constexpr size_t kHuge = size_t{2} << 20;

/// Makes a value needed, so that no compiler drops the loop that computes it.
void keep(const Vector& v) { asm volatile("" : : "m"(v) : "memory"); }

/// What a thread works on.
struct Part {
  float* out;
  const float* in;
  size_t count;  // floats; a multiple of all block sizes below
};
using Form = void (*)(const Part& part);

constexpr int64_t kFmaIterations = 400'000;

template <int chains>
void fma_chains(const Part&) {
  Vector sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = Vector{} + static_cast<float>(i);
  const volatile float factor = 0.999f, term = 0.001f;  // volatile: or the compiler would know the sums
  const Vector a = Vector{} + factor, b = Vector{} + term;
  // Every form does the same number of multiply-adds.
  for (int64_t k = 0; k < kFmaIterations * 24 / chains; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) sums[i] = sums[i] * a + b;
  }
  for (int i = 1; i < chains; ++i) sums[0] += sums[i];
  keep(sums[0]);
}
constexpr double kFmaFlops = 2.0 * kLanes * kFmaIterations * 24;

#if defined(__AVX512BF16__)
template <int chains>
void dot_chains(const Part&) {
  __m512 sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const volatile int pair = 0x3f803f80;  // two ones
  const __m512bh a = (__m512bh)_mm512_set1_epi32(pair), b = (__m512bh)_mm512_set1_epi32(pair);
  for (int64_t k = 0; k < kFmaIterations * 24 / chains; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
  }
  for (int i = 1; i < chains; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  keep((Vector)sums[0]);
}
#endif

constexpr size_t kBlock = 4 * kLanes;  // what a stream takes at a time

template <int streams, size_t ahead>
void read_streams(const Part& part) {
  constexpr size_t chains = 4;
  const size_t length = part.count / streams;
  Vector sums[streams * chains] = {};
  for (size_t i = 0; i < length; i += kBlock) {
#pragma GCC unroll 8
    for (size_t s = 0; s < streams; ++s) {
      const float* at = part.in + s * length + i;
      if (ahead != 0)
        for (size_t line = 0; line < kBlock; line += 16) __builtin_prefetch(at + ahead + line);
#pragma GCC unroll 4
      for (size_t j = 0; j < chains; ++j)
        sums[s * chains + j] += *reinterpret_cast<const Vector*>(at + j * kLanes);
    }
  }
  for (size_t i = 1; i < streams * chains; ++i) sums[0] += sums[i];
  keep(sums[0]);
}

template <int streams, class Store>
void copy_streams(const Part& part, Store store) {
  const size_t length = part.count / streams;
  for (size_t i = 0; i < length; i += kBlock) {
#pragma GCC unroll 4
    for (size_t s = 0; s < streams; ++s) {
      const size_t at = s * length + i;
#pragma GCC unroll 4
      for (size_t j = 0; j < kBlock; j += kLanes)
        store(part.out + at + j, *reinterpret_cast<const Vector*>(part.in + at + j));
    }
    asm volatile("" ::: "memory");  // else the loop becomes memcpy, which stores past the caches
  }
}

template <int streams>
void copy_plain(const Part& part) {
  copy_streams<streams>(part, [](float* to, const Vector& v) { *reinterpret_cast<Vector*>(to) = v; });
}

#if defined(__AVX__)
template <int streams>
void copy_stream(const Part& part) {
  copy_streams<streams>(part, [](float* to, const Vector& v) {
#if defined(__AVX512F__)
    _mm512_stream_ps(to, v);
#else
    _mm256_stream_ps(to, v);
#endif
  });
  _mm_sfence();
}
#endif

struct Limit {
  std::string_view name, unit;
  double work;  // of one run of all threads together for memory; of each thread for fma_f32 and dot_bf16
  bool memory;
  std::vector<Form> forms;
};

const std::vector<Limit>& limits() {
  constexpr double bytes = kFloats * sizeof(float);
  static const std::vector<Limit> table = {
      {"fma_f32", "FLOP/s", kFmaFlops, false,
       kRegisters > 16
           ? std::vector<Form>{fma_chains<8>, fma_chains<12>, fma_chains<16>, fma_chains<20>, fma_chains<24>}
           : std::vector<Form>{fma_chains<6>, fma_chains<8>, fma_chains<10>, fma_chains<12>}},
#if defined(__AVX512BF16__)
      {"dot_bf16",
       "FLOP/s",
       2 * kFmaFlops,
       false,
       {dot_chains<8>, dot_chains<12>, dot_chains<16>, dot_chains<20>, dot_chains<24>}},
#endif
      {"read",
       "B/s",
       bytes,
       true,
       {read_streams<1, 0>, read_streams<2, 0>, read_streams<4, 0>, read_streams<8, 0>, read_streams<1, 512>,
        read_streams<4, 512>, read_streams<4, 2048>}},
      {"copy", "B/s", 2 * bytes, true, {copy_plain<1>, copy_plain<2>, copy_plain<4>}},
#if defined(__AVX__)
      {"copy_stream", "B/s", 2 * bytes, true, {copy_stream<1>, copy_stream<2>, copy_stream<4>}},
#endif
  };
  return table;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

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

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<float[], Free>;

Memory touched() {
  Memory memory(static_cast<float*>(std::aligned_alloc(kHuge, kFloats * sizeof(float))));
  if (!memory) return memory;
#if defined(MADV_HUGEPAGE)
  madvise(memory.get(), kFloats * sizeof(float), MADV_HUGEPAGE);
#endif
  std::fill_n(memory.get(), kFloats, 1.0f);
  return memory;
}

class Bench {
 public:
  Bench(int threads, double seconds) : threads_(threads), seconds_(seconds), cores_(usable_cores()) {}

  /// Seconds of the shortest run of any form.
  double best(const Limit& limit) {
    if (limit.memory && !in_) in_ = touched(), out_ = touched();
    if (limit.memory && (!in_ || !out_)) {
      std::fprintf(stderr, "machine-limits: no memory for 2 x %zu bytes\n", kFloats * sizeof(float));
      std::exit(1);
    }
    double shortest = run(limit, limit.forms[0]);
    const double end = now() + seconds_;
    do {
      for (Form form : limit.forms) shortest = std::min(shortest, run(limit, form));
    } while (now() < end);
    return shortest;
  }

 private:
  int threads_;
  double seconds_;
  std::vector<int> cores_;
  Memory in_, out_;

  /// Seconds from the first thread's start of `form` to the last's end. All wait for each other before it.
  double run(const Limit& limit, Form form) {
    std::vector<double> begin(static_cast<size_t>(threads_)), end = begin;
    std::atomic<int> waiting{threads_};
    const size_t share =
        limit.memory ? kFloats / static_cast<size_t>(threads_) / (8 * kBlock) * (8 * kBlock) : 0;
    const auto work = [&](size_t thread) {
      pin(cores_[thread % cores_.size()]);
      --waiting;
      while (waiting > 0)
        if (static_cast<size_t>(threads_) > cores_.size()) std::this_thread::yield();
      begin[thread] = now();
      form({limit.memory ? out_.get() + share * thread : nullptr,
            limit.memory ? in_.get() + share * thread : nullptr, share});
      end[thread] = now();
    };
    std::vector<std::thread> pool;
    for (size_t thread = 1; thread < static_cast<size_t>(threads_); ++thread) pool.emplace_back(work, thread);
    work(0);
    for (std::thread& thread : pool) thread.join();
    return *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
  }
};

void measure(Bench& bench, std::string_view name, int threads) {
  const auto& all = limits();
  const auto limit = std::find_if(all.begin(), all.end(), [&](const Limit& l) { return l.name == name; });
  if (limit == all.end()) {
    std::printf("{\"case\": \"%s\", \"value\": null}\n", std::string(name).c_str());
  } else {
    const double work = limit->work * (limit->memory ? 1 : threads);
    std::printf("{\"case\": \"%s\", \"threads\": %d, \"value\": %.6g, \"unit\": \"%s\"}\n",
                std::string(name).c_str(), threads, work / bench.best(*limit),
                std::string(limit->unit).c_str());
  }
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  int threads = 1;
  double seconds = 0.5;
  std::vector<std::string> names;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--threads" && i + 1 < count) threads = std::atoi(arguments[++i]);
    else if (argument == "--seconds" && i + 1 < count) seconds = std::atof(arguments[++i]);
    else names.emplace_back(argument);
  }
  if (threads < 1 || threads > 1024 || seconds < 0)
    return std::fprintf(stderr, "usage: machine-limits [--threads N] [--seconds S] [LIMIT.. | -]\n"), 2;
  if (names.empty())
    for (const Limit& limit : limits()) names.emplace_back(limit.name);
  Bench bench(threads, seconds);
  if (names[0] != "-") {
    for (const std::string& name : names) measure(bench, name, threads);
  } else {
    for (std::string name; std::getline(std::cin, name);) measure(bench, name, threads);
  }
  return 0;
}
