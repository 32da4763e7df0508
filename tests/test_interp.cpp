// The interpreter: loop trees, then graphs.
#include <cmath>
#include <cstring>
#include <vector>

#include "backends/backend.h"
#include "backends/interp/evaluate_tree.h"
#include "codegen/tree_text.h"
#include "tests/catch.h"
#include "tests/errors.h"

using namespace kontor;

TEST_CASE("[interp] a kernel of folds, scratch and stores") {
  Ref kernel = tree::parse(R"(
kernel normalise(x f32[2, 3]) -> y f32[2, 3]
  thread i 2
    m max f32; s sum f32; e f32[3]
    loop j 3: m <- x[i, j]
    loop j 3
      e[j] = x[i, j] - m
      s <- e[j]
    vector j 3 width 4: y[i, j] = e[j] / s
)");
  std::vector<float> x = {1, 2, 3, 5, 9, 7}, y(6);
  void* buffers[] = {x.data(), y.data()};
  REQUIRE(evaluate_tree(kernel, buffers, {}) == 0);
  REQUIRE(y == std::vector<float>{-2.f / -3, -1.f / -3, -0.f, -4.f / -6, -0.f, -2.f / -6});
}

TEST_CASE("[interp] lanes are merged in halving pairs") {
  Ref kernel =
      tree::parse("kernel k(x f32[8]) -> y f32\n p sum f32[4]\n loop i 8: p[i % 4] <- x[i]\n y = merge(p)");
  std::vector<float> x = {1e8f, 1, -1e8f, 1, 1, 1, 1, 1}, y(1);
  void* buffers[] = {x.data(), y.data()};
  REQUIRE(evaluate_tree(kernel, buffers, {}) == 0);
  float l0 = 1e8f + 1.f, l1 = 2, l2 = -1e8f + 1.f, l3 = 2;
  REQUIRE(y[0] == (l0 + l2) + (l1 + l3));
}

TEST_CASE("[interp] guards, checks and slots") {
  Ref kernel = tree::parse(R"(
kernel shift($0 f32, $1 i64 0..9, x f32[4]) -> y f32[4]
  loop i 4
    y[i] = x[i - $1 if $1 <= i] * $0
    check 7: i < 3
)");
  std::vector<float> x = {1, 2, 3, 4}, y(4);
  float scale = 0.5f;
  int64_t scalars[2] = {0, 2};
  std::memcpy(&scalars[0], &scale, 4);
  void* buffers[] = {x.data(), y.data()};
  REQUIRE(evaluate_tree(kernel, buffers, scalars) == 7);
  REQUIRE(y == std::vector<float>{0, 0, 0.5f, 1});
}

TEST_CASE("[interp] what no kernel may do is refused") {
  auto run = [](const char* text) {
    std::vector<float> x(4), y(4);
    void* buffers[] = {x.data(), y.data()};
    evaluate_tree(tree::parse(text), buffers, {});
  };
  REQUIRE_THROWS_AS(run("kernel k(x f32[4]) -> y f32[4]\n loop i 5: y[i] = x[0]"), InternalError);
  REQUIRE_THROWS_AS(run("kernel k(x f32[4]) -> y f32[4]\n loop i 4: y[i] = x[i - 1]"), InternalError);
}

TEST_CASE("[interp] the device compiles, loads and runs printed trees") {
  std::unique_ptr<Backend> device = open_backend("interp");
  KernelSource source{.name = "twice",
                      .text = "kernel twice(x f32[3]) -> y f32[3]\n thread i 3: y[i] = x[i] + x[i]\n"};
  std::string binary = device->compile(std::span(&source, 1), {}).at(0);
  std::unique_ptr<Program> program = device->load(source, binary);
  float x[3] = {1, 2, 3}, y[3];
  void* memory[] = {device->allocate(12), device->allocate(12)};
  device->copy_in(memory[0], x, 12);
  device->launch({.program = program.get(), .buffers = memory, .scalars = {}, .shares = 3}, {});
  REQUIRE(device->synchronise() == 0);
  device->copy_out(y, memory[1], 12);
  for (void* m : memory) device->release(m);
  REQUIRE(y[2] == 6);
  KernelSource bad{.name = "bad", .text = "kernel bad(x f32[3]) -> y f32[3]\n  y[0] = z\n"};
  REQUIRE(error_of([&] { device->compile(std::span(&bad, 1), {}); }) ==
          "kernel text, line 2: 'z' is not declared here");
}
