// [growth] what must not grow: time of scheduling beyond linear in the graph, kept programs beyond a bound.
#include <kontor/kontor.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>

#include "base/lru.h"
#include "codegen/schedule.h"
#include "graph/recording.h"
#include "runtime/context_state.h"
#include "tests/catch.h"
#include "tests/on_device.h"

using namespace kontor;

namespace {

/// Seconds that this thread computed, whatever else the machine does.
double own_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// How many times as long ten times as much takes: the least of three tries.
template <class F>
double tenfold(int64_t n, const F& f) {
  const auto seconds = [&](int64_t count) {
    double least = 1e9;
    for (int i = 0; i < 3; i++) {
      const double begin = own_seconds();
      f(count);
      least = std::min(least, own_seconds() - begin);
    }
    return least;
  };
  const double one = seconds(n);
  return seconds(10 * n) / one;
}

constexpr Target cpu{.threads = 2};
constexpr double linear =
    22;  // 10 in theory; caches of the processor take their part, n log n too. n^2 is 100

Tensor leaf(const Shape& shape) {
  return tensor_of(buffer_leaf(DType::F32, Recording::dims(shape), nullptr, fresh_id(), 0));
}

void schedule_of(const std::vector<Tensor>& values) {
  std::vector<Ref> outputs;
  for (const Tensor& t : values) outputs.push_back(node_of(t));
  schedule(make_graph(outputs), cpu);
}

/// Of this process, in memory.
uint64_t resident_bytes() {
  std::ifstream pages("/proc/self/statm");
  uint64_t all = 0, resident = 0;
  pages >> all >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("[growth] scheduling takes time in proportion: many outputs of one input") {
  const Tensor x = leaf({4});
  CHECK(tenfold(200, [&](int64_t n) {
          std::vector<Tensor> all;
          for (int64_t i = 0; i < n; i++) all.push_back(x * i + 1);
          schedule_of(all);
        }) < linear);
}

TEST_CASE("[growth] scheduling takes time in proportion: layers, their gradients and updates") {
  CHECK(tenfold(4, [&](int64_t layers) {
          Tensor x = leaf({8, 32});
          std::vector<Tensor> weights, values;
          for (int64_t i = 0; i < layers; i++) weights.push_back(leaf({32, 32}));
          for (const Tensor& w : weights) x = x + x.layer_norm().matmul(w).gelu();
          const std::vector<Tensor> gradients = gradient(x.square().mean(), weights);
          for (size_t i = 0; i < weights.size(); i++) values.push_back(weights[i] - gradients[i] * 0.1);
          schedule_of(values);
        }) < linear);
}

TEST_CASE("[growth] scheduling takes time in proportion: branches within branches around one index") {
  CHECK(tenfold(100, [&](int64_t n) {
          Tensor x = leaf({4}).take(
              tensor_of(buffer_leaf(DType::I64, Recording::dims({4}), nullptr, fresh_id(), 0)));
          for (int64_t i = 0; i < n; i++) x = where(leaf({4}) > i, x + 1, x * 2);
          schedule_of({x});
        }) < linear);
}

TEST_CASE("[growth] the gradient of a long chain is made of short kernels, which are found again") {
  const Tensor x = leaf({1024});
  Tensor y = x;
  for (int i = 0; i < 100; i++) y = y.tanh();
  const Schedule made = schedule(make_graph({node_of(gradient(y.sum(), {x})[0])}), cpu);
  const auto longer = std::count_if(made.kernels.begin(), made.kernels.end(), [](const ScheduledKernel& k) {
    return topological(std::span(&k.tree, 1)).size() > 1200;
  });
  CHECK(made.kernels.size() >= 6);
  CHECK(longer <= 1);  // the product of all slopes, of which no part is kept
}

TEST_CASE("[growth] cat takes time in proportion, in kernels of few parts") {
  CHECK(tenfold(150, [&](int64_t n) {
          std::vector<Tensor> all;
          for (int64_t i = 0; i < n; i++) all.push_back(leaf({2}));
          schedule_of({cat(all)});
        }) < linear);
  for (const int64_t axis : {0, 1}) {
    std::vector<Tensor> all;
    for (int64_t i = 0; i < 700; i++) all.push_back(leaf({3, 1 + i % 2}));
    if (axis == 0) all.assign(700, leaf({3, 2}));
    for (const ScheduledKernel& k : schedule(make_graph({node_of(cat(all, axis))}), cpu).kernels)
      CHECK(k.buffers.size() <= 300);
  }
}

TEST_CASE("[growth] cat of many tensors has their values in order, and gives each its gradient") {
  OnDevice on("llvm");
  std::vector<Tensor> rows;
  std::vector<float> wanted;
  for (int i = 0; i < 300; i++) {
    rows.push_back(Tensor::from({static_cast<float>(i), static_cast<float>(-i)}, {2, 1}).realize());
  }
  for (int sign : {1, -1})
    for (int i = 0; i < 300; i++) wanted.push_back(static_cast<float>(sign * i));
  const uint64_t before = on.context.counters().compiles;
  const Tensor all = cat(rows, 1);
  CHECK(all.to_vector<float>() == wanted);
  CHECK(on.context.counters().compiles - before <= 6);
  const Tensor weight = Tensor::arange(600).reshape({2, 300}).cast(DType::F32);
  const std::vector<Tensor> g =
      gradient((cat(rows, 1) * weight).sum(), {rows[0], rows[31], rows[32], rows[299]});
  CHECK(g[0].to_vector<float>() == std::vector<float>{0, 300});
  CHECK(g[1].to_vector<float>() == std::vector<float>{31, 331});
  CHECK(g[2].to_vector<float>() == std::vector<float>{32, 332});
  CHECK(g[3].to_vector<float>() == std::vector<float>{299, 599});
}

TEST_CASE("[growth] Lru drops what was not asked for the longest") {
  Lru<int, int> lru(3);
  for (int i : {1, 2, 3}) lru.put(i, 10 * i);
  CHECK(*lru.find(1) == 10);
  lru.put(4, 40);
  CHECK(lru.find(2) == nullptr);
  CHECK(*lru.find(3) == 30);
  lru.put(1, 11, 2);
  CHECK(lru.weight() == 3);
  CHECK(lru.find(4) == nullptr);
  CHECK(*lru.find(1) == 11);
  lru.put(5, 50, 9);  // alone above the limit
  CHECK(lru.size() == 1);
  CHECK(*lru.find(5) == 50);
  lru.set_limit(20);
  lru.put(6, 60);
  CHECK(lru.size() == 2);
}

TEST_CASE("[growth] a Context keeps a bounded number of schedules and kernels, whatever shapes come") {
  OnDevice on("interp");
  ContextState& state = on.context.state();
  constexpr size_t most = 16;
  state.schedules.set_limit(most * 9000);
  state.kernels.set_limit(most);
  const auto shapes = [&](int64_t from, int64_t to) {
    for (int64_t n = from; n < to; n++)
      REQUIRE((Tensor::from(std::vector<float>(static_cast<size_t>(n), 1)) * 2).sum().item<float>() ==
              static_cast<float>(2 * n));
  };
  shapes(1, 200);
  const size_t nodes = live_nodes();
  shapes(200, 400);
  CHECK(state.schedules.size() <= most);
  CHECK(state.kernels.size() <= most);
  CHECK(live_nodes() <= nodes + nodes / 4);
  const uint64_t before = on.context.counters().schedules;
  shapes(399, 400);
  CHECK(on.context.counters().schedules == before);  // the last one is still there
  shapes(5, 6);
  CHECK(on.context.counters().schedules == before + 1);  // an old one is made again
}

// By hand: `build/tests/unit "[.shapes]"`, a few minutes. What the process takes after each tenth is printed.
TEST_CASE("[growth] a hundred thousand shapes take no more memory than fifty thousand", "[.shapes]") {
  OnDevice on;
  constexpr int64_t shapes = 100'000, columns = 317;
  std::vector<double> megabytes;
  for (int64_t i = 0; i < shapes; i++) {
    const Tensor x = Tensor::ones({1 + i % columns, 1 + i / columns});
    const auto elements = static_cast<float>(x.elements());
    REQUIRE((x * 2 + 1).sum().item<float>() == 3 * elements);
    if ((i + 1) % (shapes / 10) == 0) megabytes.push_back(static_cast<double>(resident_bytes()) / 1e6);
  }
  for (const double m : megabytes) std::printf("%.1f MB\n", m);
  CHECK(megabytes.back() <= 1.02 * megabytes[megabytes.size() / 2 - 1]);
}

TEST_CASE("[growth] a jit function keeps a bounded number of programs; a dropped one is recorded again") {
  OnDevice on("interp");
  on.context.state().schedules.set_limit(1);
  on.context.state().kernels.set_limit(4);
  int recorded = 0;
  auto twice = jit([&recorded](const Tensor& x) { return recorded++, x * 2; });
  const auto call = [&](int64_t n) {
    const Tensor y = twice(Tensor::from(std::vector<float>(static_cast<size_t>(n), 3)));
    REQUIRE(y.to_vector<float>() == std::vector<float>(static_cast<size_t>(n), 6));
  };
  for (int64_t n = 1; n <= 300; n++) call(n);
  const size_t nodes = live_nodes();
  for (int64_t n = 301; n <= 900; n++) call(n);
  CHECK(recorded == 900);
  CHECK(live_nodes() <= nodes + nodes / 4);
  call(900);
  call(800);
  CHECK(recorded == 900);
  call(1);
  CHECK(recorded == 901);
}
