// [scalify] The pass: it changes no bit where nothing is rounded, for every op, function and gradient; its exponents are those of the
// method; and what the published implementation gets wrong (spec, 1.10) is right.
#include <cmath>
#include <limits>

#include "backends/interp/evaluate_graph.h"
#include "base/threefry.h"
#include "graph/functions/formula.h"
#include "graph/functions/scaling.h"
#include "graph/functions/unary.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "graph/transforms/gradient.h"
#include "scalify/calls.h"
#include "scalify/rules.h"
#include "scalify/scalify.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/op_table.h"
#include "tests/random_graph.h"
#include "tests/run_graph.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

using scalify::Exponent;
using scalify::Mutation;
using scalify::Options;

/// Numbers so small or large that a power of two more makes them denormal or infinite become 0: the pass is exact within f32's range.
Array in_range(Array a) {
  if (!is_float(a.dtype) || row(a.dtype).bits < 32) return a;
  for (int64_t i = 0; i < a.size(); i++) {
    const double v = to_double(a.dtype, a.get(i));
    if (std::isfinite(v) && v != 0 && (std::fabs(v) < 1e-4 || std::fabs(v) > 1e4))
      a.set(i, from_double(a.dtype, 0));
  }
  return a;
}

/// Exponents between -12 and 12 for the inputs.
NodeMap<int64_t> some_exponents(const Graph& graph, uint64_t seed) {
  NodeMap<int64_t> out;
  for (size_t i = 0; i < graph.inputs.size(); i++)
    if (is_float(graph.inputs[i]->dtype))
      out.emplace(graph.inputs[i].get(), static_cast<int64_t>(random_below(seed, i, 25)) - 12);
  return out;
}

/// What is so near to 0 that it was denormal on the way, as 0.
Array without_denormals(Array a) {
  if (a.dtype != DType::F32) return a;
  for (int64_t i = 0; i < a.size(); i++)
    if (std::fabs(to_double(a.dtype, a.get(i))) < 1e-30) a.set(i, from_double(a.dtype, 0));
  return a;
}

/// "" if the scaled graph has the bits of the graph, in both forms of the pass.
std::string changed_bits(const Graph& graph, std::span<const Array> inputs, uint64_t seed,
                         Mutation mutation = Mutation::None, std::span<const int64_t> scalars = {}) {
  const Evaluation wanted = evaluate_graph(graph, inputs, scalars);
  for (bool every_value : {false, true}) {
    Options options{.every_value = every_value, .leaves = some_exponents(graph, seed)};
    options.rules.mutation = mutation;
    const scalify::Result made = scalify::scalify(graph, options);
    const Evaluation got = evaluate_graph(made.graph, inputs, scalars);
    for (size_t i = 0; i < wanted.outputs.size(); i++) {
      const std::string found =
          difference(without_denormals(got.outputs[i]), without_denormals(wanted.outputs[i]));
      if (!found.empty())
        return fmt::format("{}: output {}: {}", every_value ? "every value" : "as needed", i, found);
    }
  }
  return "";
}

std::vector<Array> inputs_of(const OpCase& row, const Graph& graph) {
  std::vector<Array> out;
  for (size_t i = 0; i < graph.inputs.size(); i++) {
    Array a = Array::make(graph.inputs[i]->dtype, static_shape(*graph.inputs[i]));
    a.bytes = input_of(row, graph, i);
    out.push_back(in_range(std::move(a)));
  }
  return out;
}

/// The row's value and the gradients of a weighted sum of it, as one graph of the same inputs.
Graph with_gradients(const Graph& graph) {
  Graph out = graph;
  const Ref& value = graph.outputs[0];
  std::vector<Ref> leaves;
  for (const Ref& i : graph.inputs)
    if (is_float(i->dtype)) leaves.push_back(i);
  if (!is_float(value->dtype) || leaves.empty()) return out;
  const Ref flat = fn::cast(fn::reshape(value, {index(-1)}), DType::F32);
  const Ref weight = fn::add(fn::cast(fn::mod(fn::iota(flat->shape[0], DType::I64), 7), DType::F32), 0.5);
  for (Ref& g : gradient(fn::sum(fn::mul(flat, weight), {}, false), leaves))
    out.outputs.push_back(std::move(g));
  return out;
}

/// Controls that give what differs by the pass.
bool asks_for_scales(const Graph& graph) {
  for (const Node* n : topological(graph.outputs))
    if (n->is(Op::Call) &&
        (n->arg.text == "scale_of" || n->arg.text == "scaled_data" || n->arg.text.starts_with("cast_")))
      return true;
  return false;
}

std::string failures(Mutation mutation) {
  std::string out;
  for (const OpCase& row : op_table_thinned()) {
    const Graph plain = graph_of(row), graph = row.gradient ? with_gradients(plain) : plain;
    if (asks_for_scales(graph)) continue;
    const std::string found =
        changed_bits(graph, inputs_of(row, graph), row.name.size(), mutation, scalars_of(graph));
    if (!found.empty()) out += fmt::format("{}: {}\n", row.name, found);
  }
  return out;
}

}  // namespace

TEST_CASE("[scalify] every op of a graph has a rule") {
  for (int i = 0; i < op_count; i++) {
    const Op op = static_cast<Op>(i);
    const bool internal =
        is_statement(op) || row(op).group == OpClass::Value || op == Op::Range || op == Op::Slot;
    INFO(row(op).name);
    CHECK(scalify::has_rule(op) != internal);
  }
}

TEST_CASE("[scalify] every function that is recorded as a Call has a row") {
  for (const OpCase& row : op_table()) {
    const Graph graph = graph_of(row);
    for (const Node* n : topological(graph.outputs)) {
      if (!n->is(Op::Call) || fn::is_scale_control(*n)) continue;
      INFO(n->arg.text);
      CHECK(scalify::is_known(n->arg.text));
    }
  }
  for (const UnaryRow& row : unary_table()) {
    INFO(row.name);
    if (row.gradient) CHECK(scalify::is_known(row.name));
  }
}

TEST_CASE("[scalify] no bit changes: every row of the op table and its gradients") {
  CHECK(failures(Mutation::None) == "");
}

TEST_CASE("[scalify] no bit changes: random graphs") {
  for (uint64_t seed = 0; seed < thinned(uint64_t{400}); seed++) {
    Case c = random_case(seed, {.gradients = true});
    if (asks_for_scales(c.graph)) continue;
    for (Array& a : c.inputs) a = in_range(std::move(a));
    INFO("seed " << seed << "\n" << describe(c));
    CHECK(changed_bits(c.graph, c.inputs, seed, Mutation::None, c.scalars) == "");
  }
}

TEST_CASE("[scalify] a rule that is wrong turns the suite red") {
  CHECK(failures(Mutation::FactorsIgnored) != "");
}

namespace {

/// The exponent of a value of leaves that have the given ones (the rest: 0).
struct Golden {
  std::string_view expression;
  std::vector<int64_t> leaves;
  int64_t exponent;
};

int64_t exponent_of(const Golden& g, scalify::RuleOptions rules = {}) {
  const Graph graph = make_graph({parse_expression(g.expression)});
  Options options{.rules = rules};
  for (size_t i = 0; i < g.leaves.size(); i++) options.leaves.emplace(graph.inputs[i].get(), g.leaves[i]);
  const Exponent e = scalify::scalify(graph, options).exponents[0];
  REQUIRE(e.is_static());
  return e.fixed;
}

// The first rows are jax-scalify's own (spec 4.2c), as exponents.
const std::vector<Golden>& goldens() {
  // clang-format off
  static const std::vector<Golden> rows{
      {"f32[5] + f32[5]", {2, 1}, 2},
      {"f32[5] * f32[5]", {3, 1}, 4},
      {"f32[5] / f32[5]", {3, 1}, 2},
      {"sum(f32[5])", {1}, 2},
      {"prod(f32[5])", {1}, 5},
      {"matmul(f32[3, 5], f32[5, 2])", {2, 3}, 6},
      {"maximum(f32[5], 0.0)", {-3}, -3},
      {"minimum(0.0, f32[5])", {7}, 7},
      {"where(bool[5], f32[5], f32[5])", {0, 2, 5}, 5},
      {"where(bool[5], f32[5], 0.0)", {0, -9}, -9},
      {"x = f32[5]; where(relu(x) > 0.0, x, 0.0)", {-4}, -4},
      // Beyond them.
      {"f32[5] - f32[5]", {-8, -2}, -2},
      {"f32[5] * 6.0", {0}, 2},
      {"f32[5] * 0.125", {1}, -2},
      {"mean(f32[64])", {4}, 1},               // sqrt(64) / 64
      {"sum(square(f32[64]))", {4}, 14},       // squares do not cancel
      {"sqrt(f32[5])", {5}, 2},
      {"rsqrt(f32[5])", {4}, -2},
      {"rsqrt(f32[5] + 1e-5)", {-20}, 9},      // an epsilon has a scale of its own: 2^-17
      {"exp(f32[5])", {6}, 0},
      {"gelu(f32[5])", {3}, 3},
      {"silu(f32[5])", {-3}, -3},
      {"softmax(f32[4, 64])", {2}, -3},
      {"softmax(f32[4, 1000])", {2}, -4},
      {"log_softmax(f32[4, 64])", {2}, 0},
      {"cross_entropy(f32[4, 64], i64[4])", {5}, 0},
      {"layer_norm(f32[4, 64])", {9}, 0},
      {"layer_norm(f32[4, 64], 1, f32[64])", {9, -3}, -3},
      {"conv2d(f32[1, 16, 8, 8], f32[4, 16, 3, 3])", {1, -2}, 2},  // sqrt(144), rounded down
      {"cumsum(f32[64], 0)", {1}, 4},
      {"cat([f32[5], f32[5]], 0)", {1, 6}, 6},
      {"take(f32[9, 4], i64[3])", {-5}, -5},
      {"scatter_add(f32[4, 4], i64[4, 4], f32[4, 4], 0)", {2, 5, 0}, 5},
      {"var(f32[64])", {3}, 6},
      {"clamp(f32[5], -1.0, 1.0)", {-4}, 0},
      {"f32[5] // 2.0", {3}, 2},
      {"cast(i32[5], f32)", {}, 0},
      {"pow(f32[5], 2)", {3}, 6},
      {"set_scale(f32[5], 9) * 4.0", {3}, 11},
      {"rebalance(f32[5], -2)", {3}, 1},
      {"stop_scale(f32[5])", {3}, 0},
      {"cast_forward(f32[5], f8e4m3)", {3}, 3},
  };
  // clang-format on
  return rows;
}

int wrong_exponents(scalify::RuleOptions rules) {
  int wrong = 0;
  for (const Golden& g : goldens()) wrong += exponent_of(g, rules) != g.exponent;
  return wrong;
}

}  // namespace

TEST_CASE("[scalify] exponents") {
  for (const Golden& g : goldens()) {
    INFO(g.expression);
    CHECK(exponent_of(g) == g.exponent);
  }
}

TEST_CASE("[scalify] an exponent is explained from its leaves on") {
  const Graph graph = make_graph({parse_expression("set_scale(f32[4, 64], 3) * 0.5 + 0.0")});
  const std::string text = scalify::explain(graph, {});
  INFO(text);
  CHECK(text.find("= 2^3      f32[4, 64] set_scale %0\n") != std::string::npos);
  CHECK(text.find("= 2^-1     f32[] 0.5  not negative\n") != std::string::npos);
  CHECK(text.find("= -        f32[] 0  any scale\n") != std::string::npos);
  CHECK(text.ends_with("= 2^2      f32[4, 64] add %5 %8\n"));
}

TEST_CASE("[scalify] exponents tell rules that are wrong") {
  CHECK(wrong_exponents({.mutation = Mutation::NoRootOfCount}) > 0);
  CHECK(wrong_exponents({.mutation = Mutation::SumsTakeTheLesser}) > 0);
  CHECK(wrong_exponents({.rounding = scalify::ScaleRounding::Up}) > 0);
}
