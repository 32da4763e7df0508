// Cases of `kontor bench` that come in two sizes: what a program of n parts costs when it runs for the first time.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>

#include <kontor/kontor.h>

#include "base/error.h"
#include "tools/bench_cases.h"

namespace kontor::tools {

namespace {

using Body = void (*)(int64_t n);

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Each run in a Context of its own, nothing of it found in a cache: recording, scheduling, compiling and running.
Measured first_runs(Body body, int64_t n, const Budget& budget) {
  setenv("KONTOR_NO_CACHE", "1", 1);
  std::vector<double> times;
  const double begin = now();
  do {
    Context context({.device = {}, .threads = budget.threads, .seed = 1});
    const Context::Use use(context);
    const double t = now();
    body(n);
    context.synchronise();
    times.push_back(now() - t);
  } while (now() - begin < budget.seconds);
  unsetenv("KONTOR_NO_CACHE");
  std::sort(times.begin(), times.end());
  const auto count = static_cast<double>(times.size());
  return {.value = times[times.size() / 2],
          .best = times.front(),
          .mean = std::accumulate(times.begin(), times.end(), 0.0) / count,
          .runs = static_cast<int64_t>(times.size())};
}

void gradient_of_chain(int64_t n) {
  Tensor x = Tensor::full({1024}, 0.5).realize(), y = x;
  for (int64_t i = 0; i < n; ++i) y = y.tanh();
  gradient(y.sum(), {x})[0].realize();
}

void many_outputs(int64_t n) {
  const Tensor x = Tensor::full({4}, 0.5).realize();
  std::vector<Tensor> all;
  for (int64_t i = 0; i < n; ++i) all.push_back(x * i + 1);
  realize_all(all);
}

void long_cat(int64_t n) {
  std::vector<Tensor> all;
  for (int64_t i = 0; i < n; ++i) all.push_back(Tensor::from({static_cast<float>(i), 1.0f}, {2}));
  cat(all).realize();
}

/// Graphs that differ in constants only.
void constants(int64_t n) {
  const Tensor x = Tensor::from(std::vector<float>(static_cast<size_t>(4 * n), 0.5f), {n, 4}).realize();
  for (int64_t i = 0; i < n; ++i) {
    x[i].realize();
    x.slice(0, i, i + 1).realize();
    (x[0] * (static_cast<double>(i) + 0.5)).realize();
  }
}

void draws(int64_t n) {
  std::vector<Tensor> all;
  for (int64_t i = 0; i < n; ++i) all.push_back(Tensor::uniform({5}));
  realize_all(all);
}

struct Growing {
  const char* name;
  Body body;
  int64_t small;
};
constexpr Growing cases[] = {
    {"gradient", gradient_of_chain, 1000},
    {"realize_all", many_outputs, 1000},
    {"cat", long_cat, 300},
    {"constants", constants, 100},
    {"draws", draws, 50},
};

}  // namespace

std::vector<BenchCase> growth_cases() {
  std::vector<BenchCase> all;
  for (const Growing& g : cases)
    for (const int64_t n : {g.small, 10 * g.small})
      all.push_back({fmt::format("{}_{}", g.name, n),
                     [body = g.body, n](const Budget& budget) { return first_runs(body, n, budget); }});
  return all;
}

}  // namespace kontor::tools
