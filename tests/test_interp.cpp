// The interpreter: loop trees, then graphs.
#include <cmath>
#include <cstring>
#include <vector>

#include "backends/backend.h"
#include "backends/interp/evaluate_graph.h"
#include "backends/interp/evaluate_tree.h"
#include "codegen/tree/text.h"
#include "graph/text/text.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/everywhere.h"

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

template <class T>
static Array array(DType dtype, std::vector<int64_t> shape, std::vector<T> values) {
  Array a = Array::make(dtype, std::move(shape));
  REQUIRE(a.bytes.size() == values.size() * sizeof(T));
  std::memcpy(a.bytes.data(), values.data(), a.bytes.size());
  return a;
}

template <class T>
static std::vector<T> values(const Array& a) {
  std::vector<T> out(static_cast<size_t>(a.size()));
  std::memcpy(out.data(), a.bytes.data(), a.bytes.size());
  return out;
}

using Floats = std::vector<float>;

// The values of the graph `text` of one input, x f32[2, 3] = 1..6.
static Floats run_graph(const std::string& text, std::string* error = nullptr) {
  Graph graph = parse_graph("graph\n  x = buffer f32[2, 3]\n" + text);
  Array x = array<float>(DType::F32, {2, 3}, {1, 2, 3, 4, 5, 6});
  Evaluation result = evaluate_graph(graph, std::span(&x, 1));
  if (error) *error = result.error;
  return values<float>(result.outputs.at(0));
}

TEST_CASE("[interp] movement") {
  REQUIRE(run_graph("y = permute f32[3, 2] {1, 0} x\n return y") == Floats{1, 4, 2, 5, 3, 6});
  REQUIRE(run_graph("y = flip f32[2, 3] {1} x\n return y") == Floats{3, 2, 1, 6, 5, 4});
  REQUIRE(run_graph("y = reshape f32[6] x 6\n z = shrink f32[2] y 3 2\n return z") == Floats{4, 5});
  REQUIRE(run_graph("y = pad f32[2, 5] x 9.0 0 0 1 1\n return y") == Floats{9, 1, 2, 3, 9, 9, 4, 5, 6, 9});
  REQUIRE(
      run_graph(
          "y = reduce f32[3] {sum, 0} x\n z = reshape f32[1, 3] y 1 3\n w = expand f32[2, 3] z 2 3\n return w") ==
      Floats{5, 7, 9, 5, 7, 9});
  REQUIRE(run_graph("y = window f32[2, 2, 2] {1, 1, 1, 2} x\n return y") == Floats{1, 2, 2, 3, 4, 5, 5, 6});
  REQUIRE(run_graph("y = reshape f32[6] x 6\n z = window f32[2, 2] {0, 2, 2, 2} y\n return z") ==
          Floats{1, 3, 3, 5});
  // the transpose of a window of stride 2 and dilation 1: [o = 2, k = 3] -> [i = 5, k = 3]
  REQUIRE(run_graph("y = unwindow f32[5, 3] {0, 2, 1} x 5\n return y") ==
          Floats{1, 0, 0, 0, 2, 0, 4, 0, 3, 0, 5, 0, 0, 0, 6});
}

TEST_CASE("[interp] gather, scatter and put") {
  std::string error;
  std::string index =
      "i = iota i32[3] 3\n two = cast i32 2\n t = reshape i32[1] two 1\n e = expand i32[3] t 3\n j = mul i32[3] i e\n";
  REQUIRE(run_graph(index + "p = permute f32[3, 2] {1, 0} x\n y = gather f32[3, 2] {0} p i\n return y",
                    &error) == Floats{1, 4, 2, 5, 3, 6});
  REQUIRE(error == "");
  REQUIRE(run_graph(index + "y = gather f32[3, 2] {1} x j\n return y", &error) == Floats{1, 4, 3, 6, 0, 0});
  REQUIRE(error == "gather: index 4 is out of range for axis 1 of size 3");
  std::string sum = "z = sub i32[3] i i\n v = permute f32[3, 2] {1, 0} x\n";
  REQUIRE(run_graph(index + sum + "y = scatter f32[2, 3] {sum, 1} x v z\n return y", &error) ==
          Floats{7, 2, 3, 19, 5, 6});
  REQUIRE(run_graph("v = shrink f32[1, 2] x 0 1 1 2\n y = put f32[2, 3] x v 1 1\n return y") ==
          Floats{1, 2, 3, 4, 2, 3});
}

TEST_CASE("[interp] integer division by zero is 0 and an error") {
  std::string error;
  REQUIRE(
      run_graph(
          "i = cast i32[2, 3] x\n z = sub i32[2, 3] i i\n d = idiv i32[2, 3] i z\n y = cast f32[2, 3] d\n return y",
          &error) == Floats(6));
  REQUIRE(error == "idiv: integer division by zero");
}

TEST_CASE("[interp] reductions run in the promised order") {
  // 64 lanes over the last axis; each lane runs over (outer, step); lanes merge in halving pairs.
  int64_t outer = 3, n = 200;
  std::vector<float> x(static_cast<size_t>(outer * n));
  for (size_t i = 0; i < x.size(); i++) x[i] = 1.0f / static_cast<float>(i * i % 977 + 1);
  Graph graph = parse_graph(
      "graph\n x = buffer f32[3, 200]\n y = reduce f32 {sum, 0, 1} x\n d = reduce f32[3] {dot, 1} x x\n return y, d");
  Array input = array<float>(DType::F32, {outer, n}, x);
  Evaluation result = evaluate_graph(graph, std::span(&input, 1));
  // both axes are reduced, so they are one block of 600 elements
  float lanes[64] = {};
  for (size_t j = 0; j < x.size(); j++) lanes[j % 64] += x[j];
  for (int half = 32; half > 0; half /= 2)
    for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
  REQUIRE(values<float>(result.outputs[0])[0] == lanes[0]);
  float dot = 0;
  for (size_t j = 0; j < 200; j++) dot = std::fma(x[200 + j], x[200 + j], dot);
  REQUIRE(values<float>(result.outputs[1])[1] == dot);
}

TEST_CASE("[interp] a long chain is cut into pieces") {
  std::vector<float> x(10000);
  for (size_t i = 0; i < x.size(); i++) x[i] = 1.0f / static_cast<float>(i % 977 + 1);
  Graph graph = parse_graph("graph\n x = buffer f32[5000, 2]\n y = reduce f32[2] {sum, 0} x\n return y");
  Array input = array<float>(DType::F32, {5000, 2}, x);
  float pieces[5] = {}, sum = 0;
  for (size_t i = 0; i < 5000; i++) pieces[i / 1024] += x[2 * i + 1];
  for (const float p : pieces) sum += p;
  REQUIRE(values<float>(evaluate_graph(graph, std::span(&input, 1)).outputs[0])[1] == sum);
  // Of a dot every 4096 steps.
  Graph dots = parse_graph("graph\n x = buffer f32[5000, 2]\n y = reduce f32[2] {dot, 0} x x\n return y");
  float halves[2] = {};
  for (size_t i = 0; i < 5000; i++) halves[i / 4096] = std::fma(x[2 * i + 1], x[2 * i + 1], halves[i / 4096]);
  REQUIRE(values<float>(evaluate_graph(dots, std::span(&input, 1)).outputs[0])[1] ==
          0 + halves[0] + halves[1]);
}

static float in_lanes(std::span<const float> x) {
  float lanes[64] = {};
  for (size_t j = 0; j < x.size(); j++) lanes[j % 64] += x[j];
  for (int half = 32; half > 0; half /= 2)
    for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
  return lanes[0];
}

TEST_CASE("[interp] many pieces are folded as an array of them is") {
  constexpr size_t piece = 64 * 1024;
  std::vector<float> x(65 * piece + 7), pieces;
  for (size_t i = 0; i < x.size(); i++) x[i] = 1.0f / static_cast<float>(i % 977 + 1);
  for (size_t i = 0; i < x.size(); i += piece)
    pieces.push_back(in_lanes(std::span(x).subspan(i, std::min(piece, x.size() - i))));
  REQUIRE(pieces.size() == 66);
  Array input = array<float>(DType::F32, {4259847}, x);
  const Body sum = [](const std::vector<Ref>& in) { return fn::reduce(Fold::Sum, {in[0]}, {0}, false); };
  for (const Found& found : everywhere(sum, {input})) {
    INFO(found.where);
    CHECK(found.error.empty());
    CHECK(values<float>(found.value)[0] == in_lanes(pieces));
  }
}

TEST_CASE("[interp] scalars and symbolic dimensions") {
  Graph graph = parse_graph(R"(graph
  n = variable i64 {1, 9}
  s = scalar f32
  x = buffer f32[n]
  r = reshape f32[1] s 1
  e = expand f32[n] r n
  y = mul f32[n] x e
  z = pad f32[n + 1] y 0.25 0 1
  return z)");
  Array x = array<float>(DType::F32, {2}, {3, 4});
  int64_t scalars[2] = {2, 0};
  float half = 0.5f;
  std::memcpy(&scalars[1], &half, 4);
  REQUIRE(values<float>(evaluate_graph(graph, std::span(&x, 1), scalars).outputs.at(0)) ==
          Floats{1.5f, 2, 0.25f});
}
