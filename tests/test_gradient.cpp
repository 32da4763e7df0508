// Gradients: finite differences for each row of the op table, and the structure of a convolution's.
#include <cmath>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"
#include "graph/scalar.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/op_table.h"

using namespace kontor;

namespace {

struct Probe {
  Graph graph;  // outputs: the loss, then its gradients
  std::vector<Array> inputs;
  std::vector<size_t> wrt;  // inputs that have one
};

/// loss = sum of the output, each element with a weight of its own so that no mistake cancels.
Ref weighted_sum(const Ref& out) {
  Dims shape = out->shape;
  Ref flat = fn::reshape(out, {index(-1)});
  Ref weight = fn::add(fn::unary("sin", fn::cast(fn::iota(flat->shape[0], DType::I64), DType::F64)), 1.5);
  return fn::sum(fn::mul(fn::cast(flat, DType::F64), weight), {}, false);
}

Probe probe_of(const OpCase& row) {
  Graph forward = graph_of(row, true);
  OpCase plain = row;
  plain.specials = false;
  Probe p;
  Ref loss = weighted_sum(forward.outputs[0]);
  std::vector<Ref> leaves;
  for (size_t i = 0; i < forward.inputs.size(); i++) {
    if (!is_float(forward.inputs[i]->dtype)) continue;
    p.wrt.push_back(i);
    leaves.push_back(forward.inputs[i]);
  }
  std::vector<Ref> outputs{loss};
  for (const Ref& g : gradient(loss, leaves)) outputs.push_back(g);
  for (size_t i = 0; i < forward.inputs.size(); i++) {
    Array a = Array::make(forward.inputs[i]->dtype, static_shape(*forward.inputs[i]));
    a.bytes = input_of(plain, forward, i);
    p.inputs.push_back(std::move(a));
  }
  p.graph = make_graph(outputs);
  // The combined graph may meet its inputs in another order.
  std::vector<Array> ordered;
  std::vector<size_t> place(forward.inputs.size());
  for (const Ref& leaf : p.graph.inputs)
    for (size_t i = 0; i < forward.inputs.size(); i++)
      if (forward.inputs[i] == leaf) place[i] = ordered.size(), ordered.push_back(p.inputs[i]);
  p.inputs = std::move(ordered);
  for (size_t& w : p.wrt) w = place[w];
  return p;
}

double loss_of(const Graph& loss, const std::vector<Array>& inputs) {
  return to_double(DType::F64, evaluate_graph(loss, inputs).outputs[0].get(0));
}

/// A few elements of each input (all of a small one) against central differences.
void check_case(const OpCase& row) {
  INFO(row.name);
  Probe p = probe_of(row);
  Evaluation all = evaluate_graph(p.graph, p.inputs);
  REQUIRE(all.error == "");
  Graph loss = p.graph;
  loss.outputs.resize(1);
  loss.target.resize(1);
  for (size_t w = 0; w < p.wrt.size(); w++) {
    Array& x = p.inputs[p.wrt[w]];
    int64_t step = std::max<int64_t>(1, x.size() / 12);
    for (int64_t i = 0; i < x.size(); i += step) {
      double at = to_double(DType::F64, x.get(i)), h = 1e-6;
      x.set(i, from_double(DType::F64, at + h));
      double above = loss_of(loss, p.inputs);
      x.set(i, from_double(DType::F64, at - h));
      double below = loss_of(loss, p.inputs);
      x.set(i, from_double(DType::F64, at));
      double wanted = (above - below) / (2 * h), got = to_double(DType::F64, all.outputs[w + 1].get(i));
      INFO("input " << p.wrt[w] << " element " << i << " wanted " << wanted << " got " << got);
      CHECK(std::abs(wanted - got) <= 1e-5 * (1 + std::abs(wanted) + std::abs(got)));
    }
  }
}

size_t count(const Ref& root, Op op, int64_t first_int = -1) {
  size_t n = 0;
  for (const Node* node : topological(std::span(&root, 1)))
    n += node->is(op) && (first_int < 0 || node->at(0) == first_int);
  return n;
}

Ref buffer(std::vector<int64_t> dims, DType dtype = DType::F32) {
  Dims shape;
  for (int64_t d : dims) shape.push_back(index(d));
  return make(Op::Buffer, shape, {.ints = {fresh_id(), 0}}, dtype);
}

/// Multiply-adds of all sums of products.
double products(std::span<const Ref> values) {
  double total = 0;
  for (const Node* n : topological(values)) {
    if (n->op != Op::Reduce || n->at(0) != static_cast<int64_t>(Fold::Dot)) continue;
    double steps = 1;
    for (const Ref& d : n->src[0]->shape) steps *= static_cast<double>(extent(d));
    total += steps;
  }
  return total;
}

}  // namespace

TEST_CASE("[gradient] every row of the op table against finite differences") {
  for (const OpCase& row : op_table_thinned())
    if (row.gradient) check_case(row);
}

TEST_CASE("[gradient] every op of a graph has a row") {
  for (int i = 0; i < op_count; i++) {
    Op op = static_cast<Op>(i);
    bool internal = is_statement(op) || row(op).group == OpClass::Value || op == Op::Range || op == Op::Slot;
    INFO(row(op).name);
    CHECK(has_gradient_row(op) != internal);
  }
}

TEST_CASE("[gradient] a convolution's is one sum of products over channels and taps") {
  for (int64_t stride : {1, 2}) {
    Ref x = buffer({4, 3, 12, 12}), w = buffer({8, 3, 5, 5}),
        g = buffer({4, 8, stride == 1 ? 8 : 4, stride == 1 ? 8 : 4});
    Ref loss = fn::sum(fn::mul(fn::conv2d(x, w, {}, {stride}, {0}, {1}, 1), g), {}, false);
    std::vector<Ref> wrt{x, w};
    std::vector<Ref> d = gradient(loss, wrt);
    for (const Ref& r : d) {
      CHECK(count(r, Op::Reduce) == 1);
      CHECK(count(r, Op::Reduce, static_cast<int64_t>(Fold::Dot)) == 1);
      CHECK(count(r, Op::Mul) == 1);  // of the loss itself
    }
    CHECK(d[0]->op == Op::Reduce);
    CHECK(d[0]->arg.ints.size() == 4);  // the fold, o and two taps
    CHECK(count(d[0], Op::Unwindow) == 2);
    CHECK(count(d[0], Op::Pad) == 0);
  }
}

TEST_CASE("[gradient] a convolution's of one channel sums the channels first, then the taps") {
  Ref x = buffer({4, 1, 12, 12}), w = buffer({8, 1, 5, 5}), g = buffer({4, 8, 8, 8});
  Ref loss = fn::sum(fn::mul(fn::conv2d(x, w, {}, {1}, {0}, {1}, 1), g), {}, false);
  std::vector<Ref> wrt{x, w};
  std::vector<Ref> d = gradient(loss, wrt);
  CHECK(count(d[0], Op::Reduce, static_cast<int64_t>(Fold::Dot)) == 1);
  CHECK(count(d[0], Op::Reduce, static_cast<int64_t>(Fold::Sum)) == 2);
  CHECK(d[1]->op == Op::Reduce);
  CHECK(count(d[1], Op::Reduce) == 1);
}

TEST_CASE("[gradient] parts of one projection, as queries, keys and values: no sums of zeros around a part") {
  Ref x = buffer({1, 8, 16}), w = buffer({48, 16});
  Ref all = fn::matmul(x, fn::transpose(w, 0, 1));
  const auto part = [&](int64_t i) {
    const Ref numbers = fn::slice(all, -1, 16 * i, 16 * i + 16, 1);
    return fn::transpose(fn::reshape(numbers, {index(1), index(8), index(2), index(8)}), 1, 2);
  };
  Ref scores = fn::matmul(part(0), fn::transpose(part(1), -2, -1)), out = fn::matmul(scores, part(2));
  const double projection = 8 * 48 * 16, of_heads = 2 * 8 * 8 * 8;
  CHECK(products(std::span(&out, 1)) == projection + 2 * of_heads);
  std::vector<Ref> wrt{w};
  std::vector<Ref> d = gradient(fn::sum(fn::mul(out, out), {}, false), wrt);
  // Those of the loss; then each product of heads has two slopes, and the projection one, since x is not asked for.
  CHECK(products(d) == 2 * projection + 6 * of_heads);
}

TEST_CASE("[gradient] stops at detach and at integers; what is independent gets zeros") {
  Ref x = buffer({3}), y = buffer({3});
  Ref loss = fn::sum(fn::mul(fn::detach(x), x), {}, false);
  std::vector<Ref> wrt{x, y};
  std::vector<Ref> d = gradient(loss, wrt);
  REQUIRE(count(d[0], Op::Add) == 0);
  REQUIRE(d[1] == fn::full(y->shape, 0.0, DType::F32));
  REQUIRE(error_of([&] { gradient(x, wrt); }) == "gradient: the loss is f32[3], not one float");
}
