// incremental: the graph with slabs put in, evaluated anew and by what changed, on models, random graphs and batches.
#include <algorithm>
#include <cmath>

#include <kontor/nn.h>
#include <unordered_map>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/transforms/batch.h"
#include "graph/transforms/incremental.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/random_graph.h"

using namespace kontor;

namespace {

Ref buffer(const Dims& shape, DType dtype = DType::F32) {
  return make(Op::Buffer, shape, {.ints = {fresh_id(), 0}}, dtype);
}

Array values(const Ref& leaf, uint64_t seed) {
  Array a = Array::make(leaf->dtype, static_shape(*leaf));
  for (int64_t i = 0; i < a.size(); i++) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    a.set(i, from_double(leaf->dtype, static_cast<double>(seed >> 40) / (1 << 23) - 1));
  }
  return a;
}

}  // namespace

namespace {

using Inputs = std::unordered_map<const Node*, Array>;

std::vector<Array> evaluate(const std::vector<Ref>& roots, const Inputs& known) {
  const Graph g = make_graph(roots);
  std::vector<Array> inputs;
  for (const Ref& leaf : g.inputs) inputs.push_back(known.at(leaf.get()));
  return evaluate_graph(g, inputs, scalars_of(g)).outputs;
}

/// `whole` with `part` written over it from `begin` on along `axis`.
Array written(Array whole, const Array& part, size_t axis, int64_t begin) {
  int64_t inner = 1, outer = 1;
  for (size_t a = 0; a < axis; a++) outer *= whole.shape[a];
  for (size_t a = axis + 1; a < whole.shape.size(); a++) inner *= whole.shape[a];
  const int64_t from = part.shape[axis], to = whole.shape[axis];
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < from * inner; i++)
      whole.set((o * to + begin) * inner + i, part.get(o * from * inner + i));
  return whole;
}

bool finite(const Array& a) {
  for (int64_t i = 0; i < a.size(); i++)
    if (!std::isfinite(to_double(a.dtype, a.get(i))) || std::abs(to_double(a.dtype, a.get(i))) > 1e6)
      return false;
  return true;
}

double largest(const Array& a) {
  double most = 0;
  for (int64_t i = 0; i < a.size(); i++) most = std::max(most, std::abs(to_double(a.dtype, a.get(i))));
  return most;
}

/// Equal but for rounding of terms as large as `scale`.
bool close(const Array& a, const Array& b, double scale) {
  if (a.shape != b.shape || a.dtype != b.dtype) return false;
  for (int64_t i = 0; i < a.size(); i++) {
    const double x = to_double(a.dtype, a.get(i)), y = to_double(b.dtype, b.get(i));
    if (x != y && !(std::abs(x - y) <= 1e-5 * (1 + std::abs(y) + scale))) return false;
  }
  return true;
}

/// Whether all floats on the way to a value are finite.
bool finite_within(const Ref& value, const Inputs& known) {
  std::vector<Ref> floats;
  for (const Node* n : topological(std::span(&value, 1)))
    if (is_float(n->dtype)) floats.push_back(Ref(n));
  const std::vector<Array> values = evaluate(floats, known);
  return std::all_of(values.begin(), values.end(), finite);
}

/// A network of every layer that a convolutional model has, with a Mark for each parameter.
struct Network {
  Ref x = buffer({index(3), index(2), index(9), index(9)}), labels = buffer({index(3)}, DType::U8);
  std::vector<Ref> parameters{buffer({index(4), index(2), index(2), index(2)}),
                              buffer({index(4)}),
                              buffer({index(4)}),
                              buffer({index(4)}),
                              buffer({index(5), index(4), index(3), index(3)}),
                              buffer({index(5)}),
                              buffer({index(6), index(5 * 2 * 2)}),
                              buffer({index(6)})};
  std::vector<Ref> marks;
  Ref loss;
  Inputs inputs;

  Network() {
    uint64_t seed = 7;
    for (const Ref& p : parameters)
      marks.push_back(fn::mark(p, "p")), inputs.emplace(p.get(), values(p, seed++));
    inputs.emplace(x.get(), values(x, 99));
    Array l = Array::make(DType::U8, {3});
    for (int64_t i = 0; i < 3; i++) l.set(i, from_double(DType::U8, static_cast<double>(2 * i)));
    inputs.emplace(labels.get(), l);
    const Ref a = fn::unary("relu", fn::conv2d(x, marks[0], marks[1], {1}, {0}, {1}, 1));
    const Ref b = fn::max_pool2d(fn::instance_norm(a, marks[2], marks[3], 1e-5), {2}, {2});
    const Ref c = fn::unary("relu", fn::conv2d(b, marks[4], marks[5], {1}, {0}, {1}, 1));
    const Ref flat = fn::flatten(c, 1);
    const Ref logits = fn::add(fn::matmul(flat, fn::transpose(marks[6], 0, 1)), marks[7]);
    loss = fn::cross_entropy(logits, labels, 0, {});
  }
};

}  // namespace

TEST_CASE("[incremental] a network with one changed channel, of each layer and each channel") {
  Network net;
  const std::vector<std::vector<size_t>> layers{{0, 1, 2, 3}, {0}, {3}, {4, 5}, {5}, {6, 7}};
  for (const std::vector<size_t>& layer : layers) {
    const Ref channel = fn::mark(constant(DType::I64, int64_t{0}), "channel");
    std::vector<Slab> slabs;
    Inputs inputs = net.inputs;
    std::vector<Ref> fresh;
    for (size_t p : layer) {
      Dims shape = net.parameters[p]->shape;
      shape[0] = index(1);
      fresh.push_back(buffer(shape));
      inputs.emplace(fresh.back().get(), values(fresh.back(), 1000 + p));
      slabs.push_back({net.marks[p], 0, channel, fresh.back()});
    }
    const Ref loss = incremental(std::vector<Ref>{net.loss}, slabs)[0];
    const Ref channels = net.parameters[layer[0]]->shape[0];
    const Ref all =
        batch(std::vector<Ref>{loss}, std::vector<BatchedLeaf>{{channel, fn::iota(channels, DType::I64)}})[0];
    const Array got = evaluate({all}, inputs)[0];
    for (int64_t c = 0; c < extent(channels); c++) {
      INFO("parameter " << layer[0] << " channel " << c);
      Inputs changed = net.inputs;
      for (size_t k = 0; k < layer.size(); k++) {
        Array& whole = changed.at(net.parameters[layer[k]].get());
        whole = written(whole, inputs.at(fresh[k].get()), 0, c);
      }
      const Array want = evaluate({net.loss}, changed)[0];
      for (int64_t i = 0; i < 3; i++) {
        const double a = to_double(DType::F32, got.get(c * 3 + i)), b = to_double(DType::F32, want.get(i));
        CHECK(std::abs(a - b) <= 1e-4 * (1 + std::abs(b)));
      }
    }
  }
}

TEST_CASE("[incremental] random graphs with a slab of an input") {
  int compared = 0;
  for (uint64_t seed = 1; seed <= 400; seed++) {
    const Case c = random_case(seed);
    Inputs inputs;
    for (size_t i = 0; i < c.inputs.size(); i++) inputs.emplace(c.graph.inputs[i].get(), c.inputs[i]);
    for (const Ref& leaf : c.graph.inputs)
      for (size_t axis = 0; axis < leaf->rank(); axis++) {
        const int64_t n = extent(leaf->shape[axis]);
        if (n < 2 || leaf->dtype == DType::Bool) continue;
        const int64_t size = 1 + static_cast<int64_t>(seed) % n, begin = (n - size) / 2;
        INFO("seed " << seed << " axis " << axis << " begin " << begin << " size " << size);
        Dims shape = leaf->shape;
        shape[axis] = index(size);
        const Ref value = buffer(shape, leaf->dtype);
        Inputs with = inputs, changed = inputs;
        with.emplace(value.get(), values(value, seed));
        changed.at(leaf.get()) = written(inputs.at(leaf.get()), with.at(value.get()), axis, begin);
        const std::vector<Slab> slab{{leaf, static_cast<int64_t>(axis), index(begin), value}};
        const std::vector<Array> want = evaluate(c.graph.outputs, changed),
                                 old = evaluate(c.graph.outputs, inputs),
                                 got = evaluate(incremental(c.graph.outputs, slab), with);
        for (size_t k = 0; k < want.size(); k++) {
          const Ref& output = c.graph.outputs[k];
          if (!finite_within(output, changed) || !finite_within(output, inputs)) continue;
          compared++;
          CHECK(close(got[k], want[k], largest(old[k])));
        }
      }
  }
  CHECK(compared > 400);
}

TEST_CASE("[incremental] a sum over the slab's axis is corrected, what does not depend on it is shared") {
  const Ref x = buffer({index(4), index(8)}), w = buffer({index(8), index(5)}),
            v = buffer({index(4), index(1)});
  const Ref at = fn::mark(constant(DType::I64, int64_t{0}), "at"), product = fn::matmul(x, w),
            other = fn::unary("exp", w);
  const std::vector<Ref> roots{product, other};
  const std::vector<Ref> out = incremental(roots, std::vector<Slab>{{x, 1, at, v}});
  CHECK(out[1] == other);
  CHECK(out[0]->is(Op::Add));
  int64_t products = 0;
  for (const Node* n : topological(std::span(out).first(1)))
    if (n->is(Op::Reduce)) products += ix::product(n->src[0]->shape)->at(0);
  CHECK(products == 4 * 8 * 5 + 4 * 1 * 5);
}

TEST_CASE("[incremental] a slab that does not fit") {
  const Ref x = buffer({index(4), index(8)}), v = buffer({index(3), index(1)});
  const std::vector<Ref> roots{fn::unary("exp", x)};
  CHECK(error_of([&] { incremental(roots, std::vector<Slab>{{x, 1, index(0), v}}); }) ==
        "incremental: f32[3, 1] does not fit into axis 1 of f32[4, 8]");
  CHECK(error_of([&] { incremental(roots, std::vector<Slab>{{x, 2, index(0), v}}); }) ==
        "incremental: f32[3, 1] does not fit into axis 2 of f32[4, 8]");
  const Ref w = buffer({index(4), index(1)});
  CHECK(error_of([&] { incremental(roots, std::vector<Slab>{{x, 1, constant(DType::F32, 0.0), w}}); }) ==
        "incremental: a slab begins at f32[]: needs i64 of rank 0");
  CHECK(error_of([&] { incremental(roots, std::vector<Slab>{{x, 1, index(0), w}, {x, 1, index(1), w}}); }) ==
        "incremental: two slabs of f32[4, 8]");
}

TEST_CASE("[incremental] every op of a graph has a row") {
  for (int i = 0; i < op_count; i++) {
    const Op op = static_cast<Op>(i);
    INFO(row(op).name);
    CHECK(has_incremental_row(op) == (!is_statement(op) && row(op).group != OpClass::Value));
  }
}
