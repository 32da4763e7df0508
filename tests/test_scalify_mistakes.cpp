// [scalify] What the published implementation gets wrong (jax-scalify 0.1.1; B1 .. B15 of what is known of it), one test each; controls;
// and what is not a number to be scaled: zeros, infinities, masks, denormals, nothing, integers.
#include <cmath>
#include <limits>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/formula.h"
#include "graph/functions/scaling.h"
#include "graph/text/text.h"
#include "graph/transforms/gradient.h"
#include "scalify/scalify.h"
#include "tests/catch.h"
#include "tests/errors.h"

using namespace kontor;

namespace {

using scalify::Options;
using Numbers = std::vector<double>;

constexpr double inf = std::numeric_limits<double>::infinity(),
                 not_a_number = std::numeric_limits<double>::quiet_NaN();

Ref buffer(std::vector<int64_t> dims, DType dtype = DType::F32) {
  Dims shape;
  for (int64_t d : dims) shape.push_back(index(d));
  return make(Op::Buffer, shape, {.ints = {fresh_id(), 0}}, dtype);
}

Array array(DType dtype, std::vector<int64_t> shape, const Numbers& values) {
  Array a = Array::make(dtype, std::move(shape));
  for (size_t i = 0; i < values.size(); i++) a.set(static_cast<int64_t>(i), from_double(dtype, values[i]));
  return a;
}

Numbers numbers_of(const Array& a) {
  Numbers out;
  for (int64_t i = 0; i < a.size(); i++) out.push_back(to_double(a.dtype, a.get(i)));
  return out;
}

/// A graph of leaves and what their elements are.
struct Values {
  std::vector<Ref> leaves = {};
  std::vector<Array> arrays = {};

  Ref leaf(std::vector<int64_t> dims, const Numbers& values, DType dtype = DType::F32) {
    leaves.push_back(buffer(dims, dtype));
    arrays.push_back(array(dtype, std::move(dims), values));
    return leaves.back();
  }
  std::vector<Array> inputs_of(const Graph& graph) const {
    std::vector<Array> out;
    for (const Ref& input : graph.inputs)
      for (size_t i = 0; i < leaves.size(); i++)
        if (leaves[i] == input) out.push_back(arrays[i]);
    return out;
  }
  Numbers plain(const Ref& x) const {
    const Graph graph = make_graph({x});
    return numbers_of(evaluate_graph(graph, inputs_of(graph)).outputs[0]);
  }
  Numbers scaled(const Ref& x, Options options = {}) const {
    const Graph graph = make_graph({x});
    return numbers_of(evaluate_graph(scalify::scalify(graph, options).graph, inputs_of(graph)).outputs[0]);
  }
};

bool same(const Numbers& a, const Numbers& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); i++)
    if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  return true;
}

/// The same values, whichever way they are scaled and whatever the leaves' exponents are.
void check_same(const Values& v, const Ref& x) {
  const Numbers wanted = v.plain(x);
  for (bool every_value : {false, true})
    for (int64_t exponent : {-9, 0, 13}) {
      Options options{.every_value = every_value};
      for (const Ref& leaf : v.leaves)
        if (is_float(leaf->dtype)) options.leaves.emplace(leaf.get(), exponent);
      INFO("every value: " << every_value << ", exponents " << exponent << "\n" << print(make_graph({x})));
      const Numbers got = v.scaled(x, options);
      CHECK(same(got, wanted));
    }
}

int64_t exponent_of(const Ref& x, Options options = {}) {
  const scalify::Exponent e = scalify::scalify(make_graph({x}), options).exponents[0];
  REQUIRE(e.is_static());
  return e.fixed;
}

}  // namespace

TEST_CASE("[scalify] B1: a forward cast is seen in the gradient") {
  Values v;
  const Ref x = v.leaf({2}, {1.1, -3.3});
  const Ref y = fn::cast_forward(x, DType::F8E4M3), loss = fn::sum(fn::mul(y, y), {}, false);
  CHECK(same(v.scaled(gradient(loss, std::vector<Ref>{x})[0]), {2.25, -6.5}));  // 2 * 1.125, 2 * -3.25
  CHECK(same(v.scaled(loss), {1.125 * 1.125 + 3.25 * 3.25}));
  const Ref z = fn::cast_backward(x, DType::F8E5M2), other = fn::sum(fn::mul(z, z), {}, false);
  CHECK(same(v.scaled(gradient(other, std::vector<Ref>{x})[0]), {2, -7}));  // 2.2 and -6.6 with two bits
  CHECK(v.scaled(other) == v.plain(other));
}

TEST_CASE("[scalify] B1: a rescale forward or backward is seen in the gradient") {
  Values v;
  const Ref x = v.leaf({2}, {3, 5});
  for (bool backward : {false, true}) {
    const Ref y = fn::dynamic_rescale(x, "max", backward);
    const Ref g = gradient(fn::sum(fn::mul(y, y), {}, false), std::vector<Ref>{x})[0];
    CHECK(scalify::scalify(make_graph({g}), {}).rescales == 1);
    CHECK(same(v.scaled(g), {6, 10}));
  }
}

TEST_CASE("[scalify] B2: tensors of several scales are put together") {
  Values v;
  const Ref a = v.leaf({2}, {1.5, 2}), b = v.leaf({1}, {1e-3});
  const Ref both = fn::cat({a, b}, 0);
  check_same(v, both);
  CHECK(exponent_of(both, {.leaves = {{a.get(), 3}, {b.get(), -9}}}) == 3);
}

TEST_CASE("[scalify] B3: exp of zeros is 1") {
  Values v;
  check_same(v, fn::unary("exp", v.leaf({2}, {0, -0.0})));
  check_same(v, fn::unary("exp", fn::full({index(3)}, 0.0, DType::F32)));
}

TEST_CASE("[scalify] B4: masks of -infinity and choices of zeros give no NaN") {
  Values v;
  const Ref x = v.leaf({2, 2}, {1, 2, 3, 4}), seen = v.leaf({2, 2}, {1, 0, 1, 1}, DType::Bool);
  check_same(v, fn::softmax(fn::where(seen, x, -inf), -1));
  const Ref zeros = v.leaf({2, 2}, {0, 0, 0, 0});
  check_same(v, fn::where(seen, zeros, 0.0));
  check_same(v, fn::div(fn::where(seen, zeros, zeros), x));
  for (bool every_value : {false, true}) {
    Options f8{.casting = {DType::F8E4M3, DType::F8E5M2, DType::F16}, .every_value = every_value};
    const Ref q = v.leaf({3, 4}, {1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1});
    for (double out : v.scaled(fn::attention(q, q, q, {}, true, 0, 0, 0), f8)) CHECK(std::isfinite(out));
  }
}

TEST_CASE("[scalify] B5: roots of odd exponents are powers of two") {
  Values v;
  const Ref x = v.leaf({3}, {2, 7, 32});
  check_same(v, fn::sqrt(x));
  for (int64_t e : {-5, -4, 5, 6}) CHECK(exponent_of(fn::sqrt(x), {.leaves = {{x.get(), e}}}) == (e >> 1));
}

TEST_CASE("[scalify] B6: an integer is of the value, not of the data") {
  Values v;
  check_same(v, fn::cast(v.leaf({3}, {40.5, -7, 1000}), DType::I32));
}

TEST_CASE("[scalify] B7: windows and convolutions count what they sum up") {
  const Ref x = buffer({1, 4, 8, 8}), w = buffer({2, 4, 4, 4});
  CHECK(exponent_of(fn::conv2d(x, w, {}, {1}, {0}, {1}, 1)) == 3);                          // sqrt(64)
  CHECK(exponent_of(fn::sum(fn::window(buffer({32}), 0, 16, 1, 1), Ints{1}, false)) == 2);  // sqrt(16)
}

TEST_CASE("[scalify] B8: a product is scaled as the f32 that it is summed up in, before it is rounded") {
  Values v;
  const Ref a = v.leaf({1, 4096}, Numbers(4096, 30)), b = v.leaf({4096, 1}, Numbers(4096, 20));
  const Options f16{.casting = {DType::F16, DType::F16, DType::F16}, .leaves = {{a.get(), 4}, {b.get(), 4}}};
  CHECK(v.scaled(fn::matmul(a, b), f16) == Numbers{30.0 * 20 * 4096});  // 2,457,600: f16 ends at 65,504
}

TEST_CASE("[scalify] B9: the graph that is scaled stays as it was") {
  const Graph graph = make_graph({parse_expression("x = f32[4]; where(x > 0.0, x * 3, 0.0) + sqrt(x)")});
  const std::string before = print(graph);
  scalify::scalify(graph, {.every_value = true});
  CHECK(print(graph) == before);
}

TEST_CASE("[scalify] B10: an exact power is rounded up to itself") {
  Options up;
  up.rules.rounding = scalify::ScaleRounding::Up;
  CHECK(exponent_of(fn::sum(buffer({16}), {}, false), up) == 2);
  CHECK(exponent_of(fn::sum(buffer({17}), {}, false), up) == 3);
  CHECK(exponent_of(fn::sum(fn::square(buffer({16})), {}, false), up) == 4);
  up.rules.rounding = scalify::ScaleRounding::Nearest;
  CHECK(exponent_of(fn::sum(buffer({8}), {}, false), up) == 2);  // sqrt(8) = 2.83
  CHECK(exponent_of(fn::sum(buffer({7}), {}, false), up) == 1);  // 2.65
}

TEST_CASE("[scalify] B11: what is measured of NaN, infinities and zeros is a power of two") {
  for (const Numbers& x : {Numbers{not_a_number, 1}, Numbers{inf, 1}, Numbers{0, 0}, Numbers{1e-44, 0}}) {
    Values v;
    const Ref leaf = v.leaf({2}, x);
    for (const char* norm : {"max", "l1", "l2"}) {
      const Ref rescaled = fn::dynamic_rescale(leaf, norm, false);
      CHECK(same(v.scaled(rescaled), v.plain(leaf)));
      const double scale = v.scaled(fn::scale_of(rescaled))[0];
      int exponent = 0;
      CHECK(std::frexp(scale, &exponent) == 0.5);
      CHECK(scale >= 0x1p-14);
    }
  }
}

TEST_CASE("[scalify] B12: data and scale, and what rescales come to") {
  struct Row {
    const char* norm;
    Numbers x;
    int64_t exponent;
    double scale;
  };
  // jax-scalify's own numbers: its data times its scale.
  for (const Row& r : {Row{"max", {8, -12}, 2, 8}, {"l1", {4, -24}, 2, 8}, {"l2", {16, -32}, 2, 16}}) {
    Values v;
    const Ref leaf = v.leaf({2}, r.x), x = fn::dynamic_rescale(leaf, r.norm, false);
    const Options given{.leaves = {{leaf.get(), r.exponent}}};
    INFO(r.norm);
    CHECK(v.scaled(fn::scale_of(x), given) == Numbers{r.scale});
    CHECK(v.scaled(fn::scaled_data(x), given) == Numbers{r.x[0] / r.scale, r.x[1] / r.scale});
    CHECK(v.plain(fn::scale_of(x)) == Numbers{1});
    CHECK(v.plain(fn::scaled_data(x)) == r.x);
  }
}

TEST_CASE("[scalify] B13: values that f16 does not hold come out") {
  Values v;
  const Ref x = v.leaf({2}, {0x3p20, -0xAp20}), y = fn::set_scale(x, 22);
  CHECK(v.scaled(fn::cast_forward(y, DType::F16)) == Numbers{0x3p20, -0xAp20});
  CHECK(std::isinf(v.scaled(fn::cast_forward(x, DType::F16))[0]));
}

TEST_CASE("[scalify] B14: a graph may be as deep as it likes") {
  Ref x = buffer({4});
  for (int i = 0; i < 30000; i++) x = fn::mul(fn::add(x, 1.5), 0.75);
  CHECK(scalify::scalify(make_graph({x}), {}).exponents.size() == 1);
}

TEST_CASE("[scalify] B15: division by zero is what it is without scales") {
  Values v;
  const Ref x = v.leaf({4}, {1, 0, -2, not_a_number}), zeros = v.leaf({4}, {0, 0, -0.0, 0});
  check_same(v, fn::div(x, zeros));
  check_same(v, fn::div(x, 0.0));
  check_same(v, fn::div(x, inf));
}

TEST_CASE("[scalify] numbers are compared across scales that are far apart") {
  for (int far : {-100, -33, -32, 0, 32, 33, 100}) {
    Values v;
    const double unit = std::ldexp(1.0, far);
    const Ref a = v.leaf({5}, {0, 1, -1, 3, 1e-30}), b = v.leaf({5}, {unit, unit, -unit, 3 * unit, unit});
    const Options given{.every_value = true, .leaves = {{a.get(), 0}, {b.get(), far}}};
    INFO("exponents 0 and " << far);
    for (const Ref& x : {fn::lt(a, b), fn::lt(b, a), fn::eq(a, b), fn::ge(a, b), fn::ne(b, a)})
      CHECK(v.scaled(fn::cast(x, DType::F32), given) == v.plain(fn::cast(x, DType::F32)));
  }
}

TEST_CASE("[scalify] nothing, integers and f64") {
  Values v;
  check_same(v, fn::sum(fn::mul(v.leaf({0, 3}, {}), 3.0), Ints{0}, false));
  check_same(v, fn::add(v.leaf({3}, {1, 2, 3}, DType::I32), 4));
  check_same(v, fn::mul(v.leaf({3}, {1, 2, 3}, DType::F64), 0.3));
  const Ref empty = v.leaf({0}, {});
  CHECK(v.scaled(fn::dynamic_rescale(empty, "max", false)).empty());
}

TEST_CASE("[scalify] formats of 8 bits saturate, and keep NaN") {
  Values v;
  const Ref x = v.leaf({5}, {1000, -1000, inf, not_a_number, 0.1});
  const Numbers out = v.scaled(fn::cast_forward(x, DType::F8E4M3));
  CHECK(same(out, {448, -448, 448, not_a_number, 0.1015625}));
  CHECK(v.scaled(fn::cast_forward(fn::set_scale(x, 2), DType::F8E4M3))[0] == 1024);
}

TEST_CASE("[scalify] a value is rounded once on its way to 8 bits") {
  Values v;
  const double witness = 1.0625 + 0x1p-23;  // by way of f16 it would be 1
  const Ref x = v.leaf({1, 1}, {witness}), one = v.leaf({1, 1}, {1});
  const Options f8{.casting = {DType::F8E4M3, DType::F8E5M2, DType::F16}};
  CHECK(v.scaled(fn::matmul(fn::unary("relu", x), one), f8) == Numbers{1.125});
}

TEST_CASE("[scalify] what controls refuse") {
  const Ref x = buffer({2}), i = buffer({2}, DType::I32);
  CHECK(error_of([&] { fn::set_scale(i, 1); }) == "set_scale: i32[2]: only floats have a scale");
  CHECK(error_of([&] { fn::set_scale(x, 100000); }) == "set_scale: an exponent of 100000, not -4096 to 4096");
  CHECK(error_of([&] { fn::cast_forward(x, DType::I8); }) ==
        "cast_forward: i8: needs f32 or a narrower float");
  CHECK(error_of([&] { fn::dynamic_rescale(x, "l3", false); }) ==
        "dynamic_rescale: a norm 'l3'; there are max, l1 and l2");
  const Ref a = fn::scalify(x, DType::F16, DType::F16, DType::F16, true),
            b = fn::scalify(x, DType::F32, DType::F16, DType::F16, true);
  CHECK(error_of([&] { scalify::asked_for(make_graph({a, b})); }) ==
        "scalify: one graph with two losses of different formats");
}

TEST_CASE("[scalify] what attention computes again for its gradient is no gradient") {
  const Ref q = buffer({2, 8, 4}),
            loss = fn::scalify(fn::sum(fn::attention(q, q, q, {}, true, 0, 0, 0), {}, false), DType::F8E4M3,
                               DType::F8E5M2, DType::F16, true);
  const Graph graph = make_graph({gradient(loss, std::vector<Ref>{q})[0]});
  int forward = 0, backward = 0;
  for (const scalify::Rounded& r : scalify::scalify(graph, {.casting = *scalify::asked_for(graph)}).rounded) {
    const bool is_softmax = r.value->is(Op::Call) && r.value->arg.text == "softmax";
    if (is_softmax) CHECK(!r.of_gradient);
    forward += r.format == DType::F8E4M3, backward += r.format == DType::F8E5M2;
  }
  CHECK(forward > 0);
  CHECK(backward > 0);
}
