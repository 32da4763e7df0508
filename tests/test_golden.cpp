// Golden graphs and kernels: what is recorded for a function, and what the scheduler makes of it for one fixed CPU and GPU.
// And how many kernels some functions take, so that a lost fusion is seen.
#include <kontor/kontor.h>

#include "backends/gpu.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "graph/functions/functions.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "tests/catch.h"
#include "tests/golden.h"

using namespace kontor;

namespace {

struct Row {
  const char* name;
  const char* expression;
};

constexpr Row rows[] = {
    {"softmax", "softmax(f32[64, 512])"},
    {"layer_norm", "layer_norm(f32[64, 512], 1, f32[512], f32[512])"},
    {"matmul", "matmul(f32[256, 256], f32[256, 256])"},
    {"panel", "matmul(f32[256, 256], abs(f32[256, 256]))"},
    {"conv2d_rows", "conv2d(f32[128, 1, 28, 28], f32[32, 1, 5, 5])"},
    {"conv2d", "relu(conv2d(f32[32, 32, 24, 24], f32[32, 32, 5, 5], f32[32]))"},
    {"sum", "sum(f32[1000000])"},
    {"transpose", "transpose(f32[300, 200]) * 2"},
    {"take", "take(f32[100, 64], i64[30])"},
};

constexpr Target cpu{.vector_bytes = 64, .vector_registers = 32, .threads = 2};
const Target gpu = cuda_target();

std::string kernels_text(const Graph& graph, const Target& target) {
  std::string text;
  for (const ScheduledKernel& k : schedule(graph, target).kernels)
    text += "# " + k.moves + "\n" + tree::print(k.tree) + "\n";
  return text;
}

size_t kernel_count(const std::vector<Ref>& outputs, const std::vector<Ref>& targets = {}) {
  return schedule(make_graph(outputs, targets), cpu).kernels.size();
}

size_t kernel_count(const char* expression) { return kernel_count({parse_expression(expression)}); }

Ref buffer(std::vector<int64_t> dims) {
  std::vector<Ref> shape;
  for (int64_t d : dims) shape.push_back(index(d));
  return make(Op::Buffer, shape, {.ints = {fresh_id(), 0}}, DType::F32);
}

}  // namespace

TEST_CASE(
    "[golden] a row put into a cache of keys beside the product that reads it: stored in place, alone") {
  const auto leaf = [](const Shape& shape) { return Tensor::zeros(shape).realize(); };
  const Tensor keys = leaf({2, 32, 16}), row = leaf({2, 1, 16}), query = leaf({2, 1, 16});
  const Tensor value = keys.put(1, Scalar(7), row), scores = query.matmul(value.permute({0, 2, 1}));
  const Schedule made = schedule(make_graph({node_of(value), node_of(scores)}, {node_of(keys), Ref()}), cpu);
  REQUIRE(made.kernels.size() == 1);
  CHECK(golden_difference("kernel_put", tree::print(made.kernels[0].tree)) == "");
}

TEST_CASE("[golden] graphs and kernels") {
  for (const Row& row : rows) {
    INFO(row.expression);
    Graph graph = make_graph({parse_expression(row.expression)});
    CHECK(golden_difference(std::string("graph_") + row.name, print(graph)) == "");
    CHECK(golden_difference(std::string("cpu_") + row.name, kernels_text(graph, cpu)) == "");
    CHECK(golden_difference(std::string("gpu_") + row.name, kernels_text(graph, gpu)) == "");
  }
}

TEST_CASE("[golden] kernel counts") {
  CHECK(kernel_count("softmax(f32[64, 512])") == 1);
  CHECK(kernel_count("log_softmax(f32[64, 512])") == 1);
  CHECK(kernel_count("layer_norm(f32[64, 512], 1, f32[512], f32[512])") == 1);
  CHECK(kernel_count("cross_entropy(f32[128, 10], i64[128])") <= 2);
  CHECK(kernel_count("mean(cross_entropy(f32[128, 10], i64[128]))") <= 2);
  CHECK(kernel_count("relu(matmul(f32[64, 256], f32[256, 128]) + f32[128])") == 1);
  CHECK(kernel_count("matmul(f32[128, 256], f32[256, 256] + uniform([256, 256]))") == 1);
  CHECK(kernel_count("gelu(f32[64, 512] * 2 + f32[512])") == 1);
  Ref x = buffer({64, 512});
  CHECK(kernel_count({fn::mean(x, Ints{1}, false), fn::var(x, Ints{1}, false, 0)}) == 1);
}

TEST_CASE("[golden] one Adam step of a parameter is one kernel") {
  Ref w = buffer({512, 256}), m = buffer({512, 256}), v = buffer({512, 256}), g = buffer({512, 256});
  Ref m1 = fn::add(fn::mul(m, 0.9), fn::mul(g, 0.1)),
      v1 = fn::add(fn::mul(v, 0.999), fn::mul(fn::mul(g, g), 0.001));
  Ref w1 = fn::sub(w, fn::mul(fn::div(m1, fn::add(fn::sqrt(v1), 1e-8)), 0.001));
  CHECK(kernel_count({w1, m1, v1}, {w, m, v}) == 1);
  CHECK(golden_difference("cpu_adam", kernels_text(make_graph({w1, m1, v1}, {w, m, v}), cpu)) == "");
}
