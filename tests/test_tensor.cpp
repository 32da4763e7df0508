// Tensor, Scalar, Variable: the public operations, computed by the interpreter.
#include <kontor/kontor.h>

#include <cmath>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"
#include "graph/recording.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/errors.h"

using namespace kontor;

namespace {

struct OnInterp {
  Context context{ContextOptions{.device = "interp", .threads = 1}};
  Context::Use use{context};
};

using Floats = std::vector<float>;
using Longs = std::vector<int64_t>;

}  // namespace

TEST_CASE("[tensor] operators, and numbers that take the tensor's dtype") {
  OnInterp on;
  Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2}), i = Tensor::from(std::vector<int32_t>{7, -7, 9}, {3});
  CHECK((2 * x + 1).to_vector<float>() == Floats{3, 5, 7, 9});
  CHECK((x - x.mean(0)).to_vector<float>() == Floats{-1, -1, 1, 1});
  CHECK((i + 1).dtype() == DType::I32);
  CHECK((i + 1.5).dtype() == DType::F32);
  CHECK((i / 2).dtype() == DType::F32);
  CHECK(floor_div(i, 2).to_vector<int64_t>() == Longs{3, -4, 4});
  CHECK((i % 4).to_vector<int64_t>() == Longs{3, 1, 1});
  CHECK((x > 2).to_vector<bool>() == std::vector<bool>{false, false, true, true});
  CHECK((x == 3).sum().item<int64_t>() == 1);
  CHECK((x != x.transpose()).sum().dtype() == DType::I64);
  CHECK(where(x > 2, x, -1).to_vector<float>() == Floats{-1, -1, 3, 4});
  CHECK((-x).abs().max().item<float>() == 4);
  CHECK(((i & 3) << 2).to_vector<int32_t>() == std::vector<int32_t>{12, 4, 4});
  CHECK(i.clamp(0, 8).dtype() == DType::I32);
  CHECK((!(x > 2)).to_vector<bool>() == std::vector<bool>{true, true, false, false});
  x += 1;
  CHECK(x.to_vector<float>() == Floats{2, 3, 4, 5});
  CHECK(error_of([&] { x + Tensor::zeros({3}); }) ==
        "add: f32[2, 2] x f32[3]: sizes 2 and 3 of axis -1 differ");
  CHECK(error_of([&] { Tensor() + 1; }) == "a Tensor without a value is used");
}

TEST_CASE("[tensor] making, moving, folding, indexing") {
  OnInterp on;
  Tensor x = Tensor::arange(6, DType::F32).reshape({2, 3});
  CHECK(x[1].to_vector<float>() == Floats{3, 4, 5});
  CHECK(x.slice(1, -2).to_vector<float>() == Floats{1, 2, 4, 5});
  CHECK(x.flip(1).to_vector<float>() == Floats{2, 1, 0, 5, 4, 3});
  CHECK(x.pad({0, 0, 1, 0}, 9).to_vector<float>() == Floats{9, 0, 1, 2, 9, 3, 4, 5});
  CHECK(cat({x, x * 10}, 0).sum(1).to_vector<float>() == Floats{3, 12, 30, 120});
  CHECK(stack({x, x}, 1).shape() == Longs{2, 2, 3});
  CHECK(x.argmax(1).to_vector<int64_t>() == Longs{2, 2});
  CHECK(x.take(Tensor::from(Longs{1, -2}), 1).to_vector<float>() == Floats{1, 1, 4, 4});
  CHECK(x.put(0, 1, Tensor::from({7, 8, 9}, {3})).to_vector<float>() == Floats{0, 1, 2, 7, 8, 9});
  CHECK(Tensor::eye(2).to_vector<float>() == Floats{1, 0, 0, 1});
  CHECK(Tensor::arange(1, 2, 0.25).to_vector<float>() == Floats{1, 1.25, 1.5, 1.75});
  CHECK(x.var(1, false, 1).to_vector<float>() == Floats{1, 1});
  CHECK(x.matmul(x.transpose()).to_vector<float>() == Floats{5, 14, 14, 50});
  CHECK(cross_entropy(x, Tensor::from(Longs{2, 0})).to_vector<float>()[0] == Approx(0.4076059f));
  CHECK(x.elements() == 6);
  CHECK(x.size(-1) == 3);
}

TEST_CASE("[tensor] random draws differ, and start again with the seed") {
  OnInterp on;
  on.context.seed(5);
  Tensor a = Tensor::uniform({40}), b = Tensor::uniform({40});
  Floats second = b.to_vector<float>(), first = a.to_vector<float>();  // in the other order
  CHECK(first != second);
  on.context.seed(5);
  CHECK(Tensor::uniform({40}).to_vector<float>() == first);
  CHECK(Tensor::uniform({40}).to_vector<float>() == second);
}

TEST_CASE("[tensor] gradient of leaves and marks; what is computed is refused") {
  OnInterp on;
  Tensor w = Tensor::from({1, 2, 3}, {3}), x = Tensor::from({4, 5, 6}, {3});
  Tensor hidden = (w * x).mark("hidden");
  Tensor loss = (hidden * hidden).sum();
  std::vector<Tensor> g = gradient(loss, {w, hidden});
  CHECK(g[0].to_vector<float>() == Floats{32, 100, 216});
  CHECK(g[1].to_vector<float>() == Floats{8, 20, 36});
  CHECK(error_of([&] { gradient(loss, {w + 1}); }) ==
        "gradient: argument 1 (f32[3]) is computed, by add: realize() it or mark() it before it is used");
  CHECK(error_of([&] { gradient(hidden, {w}); }) == "gradient: the loss is f32[3], not one float");
  loss.item<float>();
  CHECK(error_of([&] { gradient(loss, {w}); }) ==
        "gradient: the loss was computed already; take gradients before reading it");
}

TEST_CASE("[tensor] a Scalar keeps its dtype and says what does not fit") {
  Scalar rate(0.25), count(int64_t{3}, DType::I32);
  CHECK(Tensor(rate).dtype() == DType::F32);
  CHECK(rate.value() == 0.25);
  rate.set(2);
  CHECK(rate.value() == 2);
  CHECK(count.int_value() == 3);
  CHECK(error_of([&] { count.set(int64_t{1} << 40); }) == "Scalar: 1099511627776 does not fit in i32");
  CHECK(error_of([&] { count.set(0.5); }) == "Scalar: 0.5 is not a i32");
  CHECK(error_of([] { Scalar(1.0, DType::F16); }) == "Scalar: f16 is not f32, f64 or an integer dtype");
  CHECK(error_of([] { Variable("n", 3, 2); }) == "Variable n: no value in 3 .. 2");
}

TEST_CASE("[tensor] one graph serves every value of a Variable, forward and backward") {
  Variable n("n", 1, 8);
  Ref dim = Recording::node(Dim(n));
  Ref x = make(Op::Buffer, {dim, index(3)}, {.ints = {fresh_id(), 0}}, DType::F32);
  Ref w = make(Op::Buffer, {index(3), index(4)}, {.ints = {fresh_id(), 0}}, DType::F32);
  Ref labels = make(Op::Buffer, {dim}, {.ints = {fresh_id(), 0}}, DType::I64);
  Ref loss = fn::mean(fn::cross_entropy(fn::unary("relu", fn::matmul(x, w)), labels, 0, {}), {}, false);
  std::vector<Ref> wrt{w};
  Graph g = make_graph({loss, gradient(loss, wrt)[0]});
  for (int64_t count : {1, 5}) {
    std::vector<Array> inputs;
    for (const Ref& leaf : g.inputs) {
      Array a = Array::make(leaf->dtype, leaf == w   ? Longs{3, 4}
                                         : leaf == x ? Longs{count, 3}
                                                     : Longs{count});
      for (int64_t i = 0; i < a.size(); i++)
        a.set(i, leaf == labels ? from_int(DType::I64, i % 4)
                                : from_double(DType::F32, 0.3 * double(i % 5) - 0.4));
      inputs.push_back(std::move(a));
    }
    std::vector<int64_t> scalars(g.scalars.size(), count);
    Evaluation e = evaluate_graph(g, inputs, scalars);
    double sum = 0;
    for (int64_t i = 0; i < 12; i++) sum += to_double(DType::F32, e.outputs[1].get(i));
    CHECK(std::isfinite(to_double(DType::F32, e.outputs[0].get(0))));
    CHECK(e.error == "");
    CHECK(e.outputs[1].shape == Longs{3, 4});
    CHECK(std::isfinite(sum));
  }
}
