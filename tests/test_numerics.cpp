// [numerics] fast: dots of bf16 by pairs. The fold has the interpreter's bits where an instruction takes its steps, only dots that
// can be halved become it, what is computed is as near to the exact sum as the promised order is, and strict stays strict.
#include <cmath>
#include <cstdlib>

#include "backends/interp/evaluate_graph.h"
#include "codegen/render.h"
#include "graph/functions/functions.h"
#include "graph/text/text.h"
#include "graph/transforms/pair_dots.h"
#include "runtime/device.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/run_graph.h"

#include <kontor/kontor.h>

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

Graph graph_of(std::string_view expression) { return make_graph({parse_expression(expression)}); }

size_t pair_dots_in(const Graph& graph) {
  size_t count = 0;
  for (const Node* n : topological(graph.outputs))
    count += n->op == Op::Reduce && fold_in(*n) == Fold::PairDot;
  return count;
}

std::vector<Array> inputs_of(const Graph& graph, uint64_t seed) {
  std::vector<Array> out;
  for (const Ref& leaf : graph.inputs) {
    std::vector<int64_t> shape;
    for (const Ref& d : leaf->src) shape.push_back(extent(d));
    out.push_back(random_array(leaf->dtype, shape, seed++));
  }
  return out;
}

std::vector<double> values(const Tensor& t) { return t.cast(DType::F64).to_vector<double>(); }

}  // namespace

TEST_CASE(
    "[numerics] a product of bf16 becomes half as many steps of pairs, with the interpreter's bits on llvm") {
  std::string why;
  Backend* llvm = device("llvm", &why);
  if (!llvm) KONTOR_SKIP(why);
  for (std::string_view expression :
       {"matmul(bf16[5,6], bf16[6,7])", "matmul(bf16[33,64], bf16[64,48])",
        "matmul(bf16[3,9,128], bf16[3,128,17])", "matmul(bf16[40,2], transpose(bf16[70,2]))",
        "matmul(bf16[1,512], bf16[512,200])", "matmul(bf16[1,64], bf16[64,35])",
        "matmul(bf16[6,64], bf16[64])", "matmul(bf16[20,10000], bf16[10000,3])"}) {
    CAPTURE(expression);
    const Graph recorded = graph_of(expression), paired = with_pair_dots(recorded);
    CHECK(pair_dots_in(paired) == 1);
    const std::vector<Array> inputs = inputs_of(recorded, 3);
    const Evaluation wanted = evaluate_graph(paired, inputs, {});
    CHECK(difference(run_graph(paired, *llvm, inputs), wanted) == "");
    CHECK(difference(run_trees(paired, Target{.threads = 2}, inputs), wanted) == "");
    CHECK(difference(Run{.outputs = wanted.outputs}, evaluate_graph(recorded, inputs, {}), 0.02) == "");
  }
}

TEST_CASE("[numerics] what has no pairs of bf16 stays a dot") {
  for (std::string_view expression :
       {"matmul(bf16[5,7], bf16[7,7])", "matmul(f32[4,6], f32[6,4])", "matmul(f16[4,6], f16[6,4])",
        "conv2d(bf16[2,4,9,9], bf16[6,4,3,3])", "matmul(bf16[4,6], f32[6,4])", "sum(bf16[4,6] * bf16[4,6])",
        "matmul(bf16[4,0], bf16[0,4])"})
    CHECK(pair_dots_in(with_pair_dots(graph_of(expression))) == 0);
}

TEST_CASE("[numerics] a step of pairs is the instruction in any number of lanes, where the machine has it") {
  for (std::string_view expression : {"matmul(bf16[1,64], bf16[64,35])", "matmul(bf16[6,64], bf16[64])",
                                      "matmul(bf16[64,64], bf16[64,64])", "matmul(bf16[2,64], bf16[64,2])"}) {
    const Graph graph = graph_of(expression);
    for (const bool fast : {false, true})
      for (const bool has_pairs : {false, true}) {
        CAPTURE(expression, fast, has_pairs);
        const Target target{.threads = 2, .natives = {.f16 = true, .bf16_pairs = has_pairs}, .fast = fast};
        std::string trees, text;
        for (const ScheduledKernel& k : schedule(graph, target).kernels) {
          int64_t scratch = 0;
          trees += k.tree->arg.text + " ";
          text += render_llvm(k.tree, "k", target, scratch);
        }
        const bool wanted = fast && has_pairs;
        CHECK((trees.find("pair_dot") != std::string::npos) == wanted);
        CHECK((text.find("@llvm.x86.avx512bf16.dpbf16ps.") != std::string::npos) == wanted);
        CHECK((text.find("@llvm.fma.") == std::string::npos) == wanted);
      }
  }
}

TEST_CASE("[numerics] KONTOR_NUMERICS is what a program does not say") {
  const auto fast = [](const std::string& numerics) {
    return with_options({}, {.device = {}, .threads = 1, .numerics = numerics}).fast;
  };
  setenv("KONTOR_NUMERICS", "fast", 1);
  CHECK(fast(""));
  CHECK_FALSE(fast("strict"));
  setenv("KONTOR_NUMERICS", "quick", 1);
  CHECK(error_of([&] { fast(""); }) == "numerics 'quick': strict and fast are known");
  unsetenv("KONTOR_NUMERICS");
  CHECK_FALSE(fast(""));
  CHECK(fast("fast"));
}

TEST_CASE("[numerics] fast is as near to the exact sum as strict, and what a program asks for") {
  const auto product = [](const std::string& numerics) {
    Context context({.device = {}, .threads = 2, .seed = 4, .numerics = numerics});
    const Context::Use use(context);
    Tensor a = Tensor::normal({64, 1024}).cast(DType::BF16), b = Tensor::normal({1024, 64}).cast(DType::BF16);
    const Tensor exact = a.cast(DType::F64).matmul(b.cast(DType::F64));
    const std::vector<double> got = values(a.matmul(b)), wanted = values(exact);
    double most = 0;
    for (size_t i = 0; i < got.size(); i++)
      most = std::max(most, std::abs(got[i] - wanted[i]) / (1 + std::abs(wanted[i])));
    CHECK(most < 0.5 / 128 + 1e-4);  // half a unit in bf16's last place
    return got;
  };
  CHECK(product("strict") == product(""));
  product("fast");
  const auto quick = [] { Context context({.device = {}, .threads = 1, .numerics = "quick"}); };
  CHECK(error_of(quick) == "numerics 'quick': strict and fast are known");
}
