// [order] sorts of rows of every length, dtype and direction against std::stable_sort; what is made of them; positions of their
// own; formulas of einsum against plain loops.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "graph/transforms/batch.h"
#include "tests/catch.h"
#include "tests/dtypes.h"
#include "tests/errors.h"
#include "tests/everywhere.h"
#include "tests/on_device.h"
#include "tests/run_graph.h"
#include "tests/thinned.h"

#include <kontor/kontor.h>

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

/// Whether a stands before b: NaN is the greatest, 0 and -0 are equal.
bool is_before(DType dtype, Value a, Value b) {
  if (!is_float(dtype)) return to_int(dtype, a) < to_int(dtype, b);
  const double x = to_double(dtype, a), y = to_double(dtype, b);
  return std::isnan(y) ? !std::isnan(x) : x < y;
}

/// Positions of row `r` of [rows, n] in order.
std::vector<int64_t> order_of(const Array& x, int64_t r, bool descending) {
  const int64_t n = x.shape.back();
  std::vector<int64_t> out(static_cast<size_t>(n));
  std::iota(out.begin(), out.end(), 0);
  std::stable_sort(out.begin(), out.end(), [&](int64_t a, int64_t b) {
    const Value v = x.get(r * n + a), w = x.get(r * n + b);
    return descending ? is_before(x.dtype, w, v) : is_before(x.dtype, v, w);
  });
  return out;
}

Array expected(const Array& x, bool descending, bool positions) {
  Array out = Array::make(positions ? DType::I64 : x.dtype, x.shape);
  const int64_t n = x.shape.back(), rows = n ? x.size() / n : 0;
  for (int64_t r = 0; r < rows; r++) {
    const std::vector<int64_t> order = order_of(x, r, descending);
    for (int64_t i = 0; i < n; i++) {
      const int64_t at = order[static_cast<size_t>(i)];
      out.set(r * n + i, positions ? from_int(DType::I64, at) : x.get(r * n + at));
    }
  }
  return out;
}

/// Values of few kinds, so that many are equal, among them 0, -0, infinities and NaN.
Array many_equal(DType dtype, std::vector<int64_t> shape) {
  Array x = random_array(dtype, std::move(shape), 7);
  if (!is_float(dtype)) return x;
  const double values[] = {0.0, -0.0, 1.5, -1.5, NAN, HUGE_VAL, -HUGE_VAL, 3.0};
  for (int64_t i = 0; i < x.size(); i++)
    if (i % 3 == 0) x.set(i, from_double(dtype, values[i * 7919 / 3 % 8]));
  return x;
}

std::vector<double> values(const Tensor& t) { return t.cast(DType::F64).to_vector<double>(); }

}  // namespace

TEST_CASE("[order] sort and argsort of every dtype are std::stable_sort's, everywhere") {
  for (const DType dtype : every_dtype)
    for (const auto& shape :
         std::vector<std::vector<int64_t>>{{3, 1}, {2, 96}, {3, 97}, {1, sanitized ? 1500 : 5000}})
      for (const bool descending : {false, true})
        for (const bool positions : {false, true}) {
          if (sanitized && descending != positions) continue;
          const Array x = many_equal(dtype, shape);
          const auto run = [&](const std::vector<Ref>& in) {
            return positions ? fn::argsort(in[0], -1, descending) : fn::sort(in[0], -1, descending);
          };
          const Array wanted = expected(x, descending, positions);
          for (const Found& f : everywhere(run, {x}, descending == positions && shape[1] > 1)) {
            INFO(f.where << " " << name(dtype) << " " << shape[1] << " " << descending << positions);
            CHECK(f.error == "");
            CHECK(difference(f.value, wanted) == "");
          }
        }
}

TEST_CASE("[order] rows of many blocks, on one thread and on two") {
  for (const int threads : {1, 2}) {
    OnDevice on("llvm", threads);
    const Array x = many_equal(DType::F32, {3, 70000});
    std::vector<float> given(static_cast<size_t>(x.size()));
    for (size_t i = 0; i < given.size(); i++)
      given[i] = static_cast<float>(to_double(DType::F32, x.get(static_cast<int64_t>(i))));
    const Tensor t = Tensor::from(given, {3, 70000});
    const std::vector<int64_t> got = argsort(t).to_vector<int64_t>();
    const Array wanted = expected(x, false, true);
    size_t wrong = 0;
    for (size_t i = 0; i < got.size(); i++)
      wrong += got[i] != to_int(DType::I64, wanted.get(static_cast<int64_t>(i)));
    CHECK(wrong == 0);
  }
}

TEST_CASE("[order] a sort of a graph reads back, takes an axis in front, and refuses what it cannot sort") {
  const Graph g = make_graph({parse_expression("argsort(f32[4, 70])")});
  CHECK(print(parse_graph(print(g))) == print(g));
  CHECK_THROWS_WITH(make(Op::Sort, {constant(DType::U32, int64_t{1})}, {.ints = {0, 8}}),
                    Contains("rows of unsigned"));
  const Ref x = make(Op::Buffer, {index(4)}, {.ints = {fresh_id(), 0}}, DType::U16);
  CHECK_THROWS_WITH(make(Op::Sort, {x}, {.ints = {9, 8}}), Contains("a number of bits that there are"));
  const Ref many = make(Op::Buffer, {index(3), index(4)}, {.ints = {fresh_id(), 0}}, DType::U16);
  const BatchedLeaf leaf{x, many};
  const std::vector<Ref> roots{make(Op::Sort, {x}, {.ints = {0, 16}})};
  CHECK(batch(roots, std::span(&leaf, 1))[0] == make(Op::Sort, {many}, {.ints = {0, 16}}));
}

TEST_CASE("[order] axes of no or one element, and what is asked for that is not there") {
  OnDevice on;
  CHECK(sort(Tensor::zeros({3, 0})).shape() == std::vector<int64_t>{3, 0});
  CHECK(argsort(Tensor::zeros({0, 100})).to_vector<int64_t>().empty());
  CHECK(topk(Tensor::from({3, 1, 2}, {3}), 0).values.shape() == std::vector<int64_t>{0});
  CHECK_THROWS_WITH(topk(Tensor::zeros({3}), 4),
                    Contains("topk: f32[3]: 4 of axis 0, which has not as many"));
  CHECK_THROWS_WITH(sort(Tensor::zeros({3}), 1), Contains("sort"));
  CHECK_THROWS_WITH(median(Tensor::zeros({0}), 0), Contains("no elements"));
  CHECK(values(searchsorted(Tensor::zeros({0}), Tensor::ones({2}))) == std::vector<double>{0, 0});
}

TEST_CASE(
    "[order] the first of a long row are the first of its sort, which few of its blocks are sorted for") {
  for (const DType dtype : {DType::F32, DType::F64, DType::U8, DType::Bool})
    for (const bool largest : {false, true}) {
      const Array x = many_equal(dtype, {2, 5003});
      const auto run = [&](const std::vector<Ref>& in) { return fn::argtopk(in[0], 9, -1, largest); };
      const Array all = expected(x, largest, true);
      for (const Found& f : everywhere(run, {x}))
        for (int64_t r = 0; r < 2; r++)
          for (int64_t i = 0; i < 9; i++) {
            INFO(f.where << " " << name(dtype) << " " << largest << " row " << r << " place " << i);
            CHECK(f.value.get(r * 9 + i).bits == all.get(r * 5003 + i).bits);
          }
    }
}

TEST_CASE("[order] topk, median and searchsorted") {
  OnDevice on;
  const Tensor x = Tensor::from({4, 1, NAN, 3, 1, 9, 2, 8}, {2, 4});
  CHECK(values(topk(x, 2, 1, false).values) == std::vector<double>{1, 3, 1, 2});
  CHECK(values(topk(x, 2, 1).indices) == std::vector<double>{2, 0, 1, 3});
  CHECK(values(median(x, 0))[0] == 2.5);
  CHECK(std::isnan(values(median(x, 1))[0]));
  CHECK(values(median(x, 1))[1] == 5);
  CHECK(values(median(Tensor::from({3e38f}, {1}), 0))[0] == 3e38f);
  const Tensor row = Tensor::from({1, 2, 2, 5, NAN}, {5});
  const Tensor at = Tensor::from({0, 2, 3, 9, NAN}, {5});
  CHECK(values(searchsorted(row, at)) == std::vector<double>{0, 1, 3, 4, 4});
  CHECK(values(searchsorted(row, at, true)) == std::vector<double>{0, 3, 3, 4, 5});
}

TEST_CASE("[order] the gradient of a sort goes back to where each element stood") {
  OnDevice on;
  Tensor x = Tensor::from({3, 1, 2}, {3});
  const Tensor loss = (sort(x) * Tensor::from({1, 10, 100}, {3})).sum();
  CHECK(values(gradient(loss, {x})[0]) == std::vector<double>{100, 1, 10});
}

TEST_CASE(
    "[order] scatter keeps the last of several values; scatter_add has all; an index out of range is an error") {
  OnDevice on;
  const Tensor x = Tensor::zeros({4}), at = Tensor::from(std::vector<int64_t>{1, -1, 1}, {3});
  const Tensor v = Tensor::from({5, 6, 7}, {3});
  CHECK(values(scatter(x, at, v, 0)) == std::vector<double>{0, 7, 0, 6});
  CHECK(values(scatter_add(x, at, v, 0)) == std::vector<double>{0, 12, 0, 6});
  CHECK(values(gather(v, Tensor::from(std::vector<int64_t>{2, 0}, {2}), 0)) == std::vector<double>{7, 5});
  const Tensor out = Tensor::from(std::vector<int64_t>{4}, {1});
  CHECK_THROWS_WITH(gather(x, out, 0).to_vector<float>(), Contains("out of range"));
  CHECK_THROWS_WITH(scatter_add(x, out, Tensor::ones({1}), 0).to_vector<float>(), Contains("out of range"));
}

TEST_CASE("[order] norms and deviations have slopes where they are 0, and numbers far out are no faults") {
  OnDevice on;
  const Tensor x = Tensor::from({0, 0, 0, 0, 0, 0}, {2, 3});
  for (const double order : {1.0, 2.0, 3.0}) {
    INFO(order);
    CHECK(values(gradient(norm(x, {1}, false, order).sum(), {x})[0]) == std::vector<double>(6, 0));
  }
  CHECK(values(gradient(stddev(x, {1}).sum(), {x})[0]) == std::vector<double>(6, 0));
  const Tensor y = Tensor::from({3, -4}, {2});
  CHECK(values(gradient(norm(y), {y})[0])[0] == Approx(0.6));
  CHECK(values(linspace(-1, 2, 4, DType::I32)) == std::vector<double>{-1, 0, 1, 2});
  CHECK(values(linspace(0, -1, 3, DType::I32)) == std::vector<double>{0, -1, -1});
  CHECK(values(linspace(0.25, -1.5, 2, DType::I32)) == std::vector<double>{0, -2});
  CHECK_THROWS_WITH(linspace(0, INFINITY, 3), Contains("linspace: from 0 to inf"));
  CHECK_THROWS_WITH(diag(x, INT64_MIN), Contains("no diagonal"));
}

TEST_CASE("[order] parts and grids") {
  OnDevice on;
  const Tensor x = Tensor::arange(10).cast(DType::F32);
  const std::vector<Tensor> parts = split(x, 4);
  REQUIRE(parts.size() == 3);
  CHECK(values(parts[2]) == std::vector<double>{8, 9});
  CHECK(chunk(x, 3).size() == 3);
  CHECK(values(split(x, std::vector<int64_t>{1, 9})[0]) == std::vector<double>{0});
  CHECK_THROWS_WITH(split(x, std::vector<int64_t>{1, 8}), Contains("1 of axis 0 are in no part"));
  const Tensor vectors[] = {Tensor::from({1, 2}, {2}), Tensor::from({3, 4, 5}, {3})};
  const std::vector<Tensor> grid = meshgrid(vectors);
  CHECK(values(grid[0]) == std::vector<double>{1, 1, 1, 2, 2, 2});
  CHECK(values(grid[1]) == std::vector<double>{3, 4, 5, 3, 4, 5});
}

namespace {

/// A formula by its definition: a loop over all letters.
std::vector<double> by_loops(const std::string& formula, const std::vector<std::vector<int64_t>>& shapes,
                             const std::vector<std::vector<double>>& given) {
  std::vector<std::string> terms{""};
  const std::string left = formula.substr(0, formula.find("->")),
                    result = formula.substr(formula.find("->") + 2);
  for (const char c : left)
    if (c == ',') terms.emplace_back();
    else terms.back() += c;
  std::map<char, int64_t> size, at;
  for (size_t t = 0; t < terms.size(); t++)
    for (size_t a = 0; a < terms[t].size(); a++) size[terms[t][a]] = shapes[t][a];
  const auto position = [&](const std::string& letters) {
    int64_t p = 0;
    for (const char c : letters) p = p * size[c] + at[c];
    return static_cast<size_t>(p);
  };
  int64_t count = 1, all = 1;
  for (const char c : result) count *= size[c];
  for (const auto& [c, n] : size) all *= n;
  std::vector<double> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < all; i++) {
    int64_t rest = i;
    for (const auto& [c, n] : size) at[c] = rest % n, rest /= n;
    double product = 1;
    for (size_t t = 0; t < terms.size(); t++) product *= given[t][position(terms[t])];
    out[position(result)] += product;
  }
  return out;
}

}  // namespace

TEST_CASE("[order] einsum is its formula's loops") {
  OnDevice on;
  const std::map<char, int64_t> size{{'i', 3}, {'j', 4}, {'k', 2}, {'l', 5}};
  for (const std::string formula : {"ij->ji", "ii->i", "ii->", "ij->", "i,i->", "i,j->ij", "ij,jk->ik",
                                    "ij,kj->ik", "ijk,ijl->kl", "ij,ij->ij", "ij,jk,kl->il", "iij,jk->ik",
                                    "ij,k->ikj", "ijkl,ji->kl", "i,i,i->i", "ij,jl->l", "iii->i"}) {
    INFO(formula);
    std::vector<std::vector<int64_t>> shapes{{}};
    for (const char c : formula.substr(0, formula.find("->")))
      if (c == ',') shapes.emplace_back();
      else shapes.back().push_back(size.at(c));
    std::vector<Tensor> tensors;
    std::vector<std::vector<double>> given;
    for (const std::vector<int64_t>& shape : shapes) {
      int64_t n = 1;
      Shape dims;
      for (const int64_t d : shape) n *= d, dims.emplace_back(d);
      std::vector<double> v(static_cast<size_t>(n));
      for (size_t i = 0; i < v.size(); i++) v[i] = static_cast<double>((i * 7 + given.size() * 3) % 11) - 5;
      tensors.push_back(Tensor::from(v, dims));
      given.push_back(std::move(v));
    }
    CHECK(values(einsum(formula, tensors)) == by_loops(formula, shapes, given));
  }
}

TEST_CASE("[order] what a formula of einsum may not be") {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(einsum("ij,jk->ik", {x}), Contains("2 terms for 1 tensors"));
  CHECK_THROWS_WITH(einsum("i->i", {x}), Contains("term 'i' has 1 axes, its tensor 2"));
  CHECK_THROWS_WITH(einsum("ij,ij->k", {x, x}), Contains("no term has it"));
  CHECK_THROWS_WITH(einsum("ij,jk->ik", {x, x}), Contains("differs from 3 elsewhere"));
  CHECK_THROWS_WITH(einsum("i1->i", {x}), Contains("no letter '1'"));
  CHECK(einsum("...->...", {x}).shape() == std::vector<int64_t>{2, 3});
  CHECK(einsum("ij,jk", {x, Tensor::zeros({3, 4})}).shape() == std::vector<int64_t>{2, 4});
}
