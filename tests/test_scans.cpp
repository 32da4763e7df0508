// [scans] cumsum and its kin against plain loops, around the lengths at which an axis is cut into pieces, along any axis; their
// gradients over pieces; what moves must not do to a scan's steps.
#include <cmath>
#include <limits>

#include "backends/interp/evaluate_graph.h"
#include "codegen/moves/moves.h"
#include "codegen/tree/text.h"
#include "graph/functions/functions.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/run_graph.h"

#include <kontor/kontor.h>

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// step(so far, element, number of the element in x) after each element along the middle axis of [outer, n, inner].
template <class Step>
std::vector<double> scanned(const std::vector<double>& x, int64_t n, int64_t inner, double start,
                            const Step& step) {
  std::vector<double> out(x.size());
  const size_t stride = static_cast<size_t>(inner), length = static_cast<size_t>(n);
  for (size_t i = 0; i < x.size(); i++) {
    const bool first = i / stride % length == 0;
    out[i] = step(first ? start : out[i - stride], x[i], i);
  }
  return out;
}

std::vector<double> values(const Tensor& t) { return t.cast(DType::F64).to_vector<double>(); }

/// The greatest distance, in parts of what each wanted value is.
double distance(const std::vector<double>& got, const std::vector<double>& wanted) {
  REQUIRE(got.size() == wanted.size());
  double most = 0;
  for (size_t i = 0; i < got.size(); i++) {
    if (got[i] == wanted[i] || (std::isnan(got[i]) && std::isnan(wanted[i]))) continue;
    most = std::max(most, std::abs(got[i] - wanted[i]) / std::max(std::abs(wanted[i]), 1e-30));
  }
  return most;
}

struct Shape3 {
  int64_t outer, n, inner;
};
// Short, a vector more or less, one piece, one more, a length that pieces divide, one that they do not, pieces of pieces.
constexpr Shape3 shapes[] = {{1, 1, 1},     {3, 0, 2},    {2, 7, 3},    {1, 64, 1},   {5, 65, 1},
                             {2, 4096, 1},  {1, 4097, 1}, {2, 8192, 1}, {1, 5003, 2}, {1, 300, 600},
                             {2, 40, 1100}, {9, 3000, 1}, {1, 9000, 40}};

}  // namespace

TEST_CASE("[scans] rows along memory run in lanes, in square blocks that are turned on the way in and out") {
  Backend* llvm = device("llvm");
  if (!llvm) KONTOR_SKIP("no LLVM");
  for (const char* dtype : {"f32", "f64", "i32", "u8", "bf16", "f8e4m3"})
    for (const char* shape : {"[8, 16]", "[19, 45]", "[3, 11, 70]", "[33, 31]"})
      for (const char* call :
           {"cumsum({})", "cummax({})", "cumprod({} + {})", "linear_scan({} * {}, {}, -1)"}) {
        if (!is_float(parse_dtype(dtype)) && std::string_view(call).starts_with("linear")) continue;
        const std::string x = std::string(dtype) + shape;
        std::string expression = call;
        for (size_t at; (at = expression.find("{}")) != std::string::npos;) expression.replace(at, 2, x);
        if (expression.starts_with("cum")) expression.insert(expression.size() - 1, ", -1");
        INFO(expression);
        const Graph graph = make_graph({parse_expression(expression)});
        std::vector<Array> inputs;
        for (const Ref& input : graph.inputs)
          inputs.push_back(random_array(input->dtype, static_shape(*input), 5 + inputs.size()));
        CHECK(difference(run_graph(graph, *llvm, inputs), evaluate_graph(graph, inputs, {})) == "");
      }
  const Schedule made = schedule(make_graph({parse_expression("cumsum(f32[64, 256], 1)")}), llvm->target());
  REQUIRE(made.kernels.size() == 1);
  CHECK(made.kernels[0].moves.find("vectorise i0v 8") != std::string::npos);
  const std::string text = source_of(made.kernels[0].tree, "scan", *llvm).text;
  CHECK(text.find("masked.scatter") == std::string::npos);
  CHECK(text.find("masked.gather") == std::string::npos);
}

TEST_CASE("[scans] plain loops come to the same") {
  for (const Shape3& s : shapes) {
    INFO(s.outer << " x " << s.n << " x " << s.inner);
    const Shape shape{s.outer, s.n, s.inner};
    const Tensor x = Tensor::uniform(shape, 0.5, 1.5), whole = Tensor::randint(shape, -9, 9);
    const Tensor keep = Tensor::uniform(shape, 0.2, 1.0);
    const std::vector<double> v = values(x), w = values(whole), k = values(keep);
    auto loop = [&](const std::vector<double>& from, double start, auto step) {
      return scanned(from, s.n, s.inner, start, step);
    };
    const double rounding = 1e-6 * std::sqrt(static_cast<double>(s.n) + 1);
    CHECK(values(whole.cumsum(1)) == loop(w, 0, [](double p, double e, size_t) { return p + e; }));
    CHECK(values(x.cummax(1)) ==
          loop(v, -infinity, [](double p, double e, size_t) { return std::max(p, e); }));
    CHECK(values(x.cummin(-2)) ==
          loop(v, infinity, [](double p, double e, size_t) { return std::min(p, e); }));
    CHECK(distance(values(x.cumsum(1)), loop(v, 0, [](double p, double e, size_t) { return p + e; })) <
          rounding);
    const Tensor near = 1 + (x - 1) / static_cast<double>(s.n + 1);
    CHECK(distance(values(near.cumprod(1)), loop(values(near), 1, [](double p, double e, size_t) {
                     return p * e;
                   })) < 1e-6 * (4 + static_cast<double>(s.n)));
    CHECK(distance(values(linear_scan(keep, x, 1)),
                   loop(v, 0, [&](double p, double e, size_t i) { return p * k[i] + e; })) < 2e-6);
    CHECK(distance(values(x.logcumsumexp(1)), loop(v, -infinity, [](double p, double e, size_t) {
                     return std::log(std::exp(p) + std::exp(e));
                   })) < rounding);
  }
}

TEST_CASE("[scans] along the first and the last axis, narrow floats, numbers as factors") {
  const Tensor x = Tensor::arange(12, DType::F32).reshape({3, 4});
  CHECK(x.cumsum(0).to_vector<float>() == std::vector<float>{0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21});
  CHECK(x.cumsum(-1).to_vector<float>() == std::vector<float>{0, 1, 3, 6, 4, 9, 15, 22, 8, 17, 27, 38});
  CHECK(linear_scan(0.5, x.slice(0, 0, 1), 1).to_vector<float>() == std::vector<float>{0, 1, 2.5, 4.25});
  const Tensor ones = Tensor::ones({4096}, DType::BF16).cumsum(0);
  CHECK(ones.dtype() == DType::BF16);
  CHECK(ones.slice(0, 4095).cast(DType::F32).to_vector<float>() == std::vector<float>{4096});
  CHECK(Tensor::ones({300}, DType::U8).cumsum(0).dtype() == DType::U64);
}

TEST_CASE("[scans] logcumsumexp of what overflows, of infinities and of nothing so far") {
  const float most = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::from(std::vector<float>{-most, -most, -1000, 90, 1000, 3, most, 5});
  const std::vector<float> y = x.logcumsumexp(0).to_vector<float>();
  CHECK(y == std::vector<float>{-most, -most, -1000, 90, 1000, 1000, most, most});
}

TEST_CASE("[scans] the same bits whatever the number of threads, and inside of a larger graph") {
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 3}) {
    OnDevice on("llvm", threads);
    Tensor x = Tensor::normal({3, 9000});
    results.push_back((x.cumsum(1) * 2).to_vector<float>());
    x.realize();
    results.push_back((x.cumsum(1) * 2).to_vector<float>());
  }
  for (const std::vector<float>& r : results) CHECK(r == results[0]);
}

TEST_CASE("[scans] gradients through pieces") {
  const int64_t n = 9001;
  Tensor x = Tensor::uniform({n}, 0.9, 1.1), weight = Tensor::normal({n});
  x.realize();
  const std::vector<double> v = values(x), w = values(weight);
  std::vector<double> wanted(v.size());
  double later = 0;
  for (size_t i = v.size(); i-- > 0;) wanted[i] = later += w[i];
  double most = 0;
  for (double e : wanted) most = std::max(most, std::abs(e));
  const std::vector<double> got = values(gradient((x.cumsum(0) * weight).sum(), {x})[0]);
  for (size_t i = 0; i < got.size(); i += 97) CHECK(std::abs(got[i] - wanted[i]) < 1e-5 * most);
  // y = 0.999 y + x: h[j] = w[j] + 0.999 h[j+1].
  later = 0;
  for (size_t i = v.size(); i-- > 0;) wanted[i] = later = w[i] + later * static_cast<double>(0.999F);
  const std::vector<double> moving = values(gradient((linear_scan(0.999, x, 0) * weight).sum(), {x})[0]);
  for (size_t i = 0; i < moving.size(); i += 97) CHECK(std::abs(moving[i] - wanted[i]) < 1e-4);
}

TEST_CASE("[scans] what overflows only on the way of another order does not") {
  const int64_t n = 8192;
  const std::vector<double> zeros(static_cast<size_t>(n));
  CHECK(values(linear_scan(2, Tensor::zeros({n}), 0)) == zeros);
  const Tensor tens = mod(Tensor::arange(n, DType::F32), 2) * 9.9 + 0.1;  // 0.1, 10, 0.1, ..
  for (double p : values(tens.cumprod(0))) REQUIRE((p > 0.09 && p < 1.1));
  std::vector<float> some(static_cast<size_t>(n), 1.0F);
  some[10] = std::numeric_limits<float>::infinity();
  CHECK(values(Tensor::from(some).logcumsumexp(0)).back() == infinity);
  Tensor x = where(Tensor::arange(n) < 4096, 0.98, 1.03);
  x.realize();
  for (double d : values(gradient(x.cumprod(0).slice(0, 0, 4096).sum(), {x})[0])) REQUIRE(std::isfinite(d));
}

TEST_CASE("[scans] gradients of narrow floats add up in f32; of a prefix of -inf they are 0") {
  Tensor x = where(Tensor::arange(1000) < 1, 2, 1).cast(DType::BF16);
  x.realize();
  CHECK(values(gradient(x.cummax(0).sum(), {x})[0])[0] == 1000);
  Tensor y = Tensor::from(std::vector<float>{-static_cast<float>(infinity), 0});
  y.realize();
  CHECK(values(gradient(y.logcumsumexp(0).slice(0, 1).sum(), {y})[0]) == std::vector<double>{0, 1});
}

TEST_CASE("[scans] a scan is read after each of its steps: moves that would not keep that are refused") {
  const Ref kernel = tree::parse(R"(kernel k(y f32[8], x f32[8]) ->
  p sum f32
  p = 0.0
  loop i 8
    p <- x[i]
    y[i] = p
)");
  CHECK_THAT(error_of([&] { vectorise(kernel, "i", 8); }), Contains("read after each of its steps"));
  CHECK_THAT(error_of([&] { sink(kernel, "i"); }), Contains("go on with 'p'"));
  const Ref halves = split(kernel, "i", 4, "j");
  CHECK_THAT(error_of([&] { vectorise(halves, "j", 4); }), Contains("read after each of its steps"));
  const Ref rows = tree::parse(R"(kernel k(y f32[4, 8], x f32[4, 8]) ->
  p sum f32
  p = 0.0
  loop i 8
    loop r 4
      p <- x[r, i]
      y[r, i] = p
)");
  CHECK_THAT(error_of([&] { reorder(rows, "i", {}); }), Contains("read after each of its steps"));
}

TEST_CASE("[scans] what is no scan is refused") {
  CHECK_THAT(error_of([] { Tensor::ones({3, 4}).cumsum(2); }), Contains("cumsum: f32[3, 4]: no axis 2"));
  CHECK_THAT(error_of([] { linear_scan(2, Tensor::ones({3}, DType::I32), 0); }),
             Contains("takes floats, not i32"));
  CHECK_THAT(error_of([] { linear_scan(Tensor::ones({3}), Tensor::ones({4}), 0); }),
             Contains("linear_scan: "));
  const Ref x = parse_expression("f32[3]");
  CHECK_THROWS_WITH(make(Op::Reduce, {x, x}, {.ints = {static_cast<int64_t>(Fold::Linear), 0}}),
                    Contains("only a scan has this fold"));
}
