// Sizes: extents, and integers of every argument, at the ends of their type; work on nothing.
#include <kontor/kontor.h>

#include <algorithm>
#include <chrono>
#include <climits>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"
#include "graph/graph.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

using Longs = std::vector<int64_t>;
constexpr int64_t big = int64_t{1} << 32, bigger = int64_t{1} << 62;

// A valid value of each parameter, by "function.parameter" or by the parameter's name alone.
struct Base {
  std::string_view parameter, expression;
};
constexpr Base bases[] = {
    {"conv1d.x", "f32[1, 2, 5]"},
    {"conv1d.weight", "f32[2, 2, 3]"},
    {"conv3d.x", "f32[1, 2, 3, 3, 3]"},
    {"conv3d.weight", "f32[2, 2, 2, 2, 2]"},
    {"conv_transpose.x", "f32[1, 2, 5]"},
    {"conv_transpose.weight", "f32[2, 2, 3]"},
    {"output_padding", "0"},
    {"max_pool.x", "f32[1, 1, 5]"},
    {"avg_pool.x", "f32[1, 1, 5]"},
    {"group_norm.x", "f32[1, 2, 3]"},
    {"nll.labels", "i64[2]"},
    {"targets", "f32[2, 3]"},
    {"nonzero.mask", "f32[2, 3]"},
    {"masked_select.mask", "f32[2, 3]"},
    {"p", "f32[2, 3]"},
    {"weights", "f32[2, 3]"},
    {"fill", "7"},
    {"ignored", "2"},
    {"truncated_normal.low", "-1.0"},
    {"truncated_normal.high", "1.0"},
    {"conv2d.x", "f32[1, 2, 5, 5]"},
    {"conv2d.weight", "f32[2, 2, 3, 3]"},
    {"max_pool2d.x", "f32[1, 1, 4, 4]"},
    {"avg_pool2d.x", "f32[1, 1, 4, 4]"},
    {"matmul.b", "f32[3, 2]"},
    {"cross_entropy.logits", "f32[2, 3]"},
    {"cross_entropy.labels", "i64[2]"},
    {"instance_norm.x", "f32[1, 2, 3]"},
    {"one_hot.x", "i64[3]"},
    {"bit_not.x", "i32[3]"},
    {"pick.indices", "i64[2]"},
    {"take.indices", "i64[2]"},
    {"put.value", "f32[1, 3]"},
    {"unwindow.x", "f32[2, 3]"},
    {"squeeze.x", "f32[1, 3]"},
    {"where.condition", "bool[2, 3]"},
    {"bitcast.dtype", "i32"},
    {"x", "f32[2, 3]"},
    {"a", "i64[2, 3]"},
    {"b", "i64[2, 3]"},
    {"c", "f32[2, 3]"},
    {"y", "f32[2, 3]"},
    {"fma.a", "f32[2, 3]"},
    {"fma.b", "f32[2, 3]"},
    {"linear_scan.a", "f32[2, 3]"},
    {"linear_scan.b", "f32[2, 3]"},
    {"matmul.a", "f32[2, 3]"},
    {"transpose.a", "0"},
    {"transpose.b", "1"},
    {"tensors", "[f32[2, 3], f32[2, 3]]"},
    {"shape", "[2, 3]"},
    {"reshape.shape", "[3, 2]"},
    {"full.value", "1"},
    {"order", "[1, 0]"},
    {"low_high", "[1, 0, 0, 1]"},
    {"axes", "[1]"},
    {"norm.order", "2.0"},
    {"loss", "f32[2, 3]"},
    {"scalify.values", "f16"},
    {"exponent", "3"},
    {"tensordot.axes", "1"},
    {"tensordot.a", "f32[2, 3]"},
    {"tensordot.b", "f32[3, 2]"},
    {"outer.a", "f32[3]"},
    {"outer.b", "f32[2]"},
    {"formula", "\"ij,kj->ik\""},
    {"gather.indices", "i64[2, 3]"},
    {"scatter.indices", "i64[2, 3]"},
    {"scatter_add.indices", "i64[2, 3]"},
    {"searchsorted.values", "f32[2]"},
    {"values", "f32[2, 3]"},
    {"sorted", "f32[3]"},
    {"topk.k", "1"},
    {"argtopk.k", "1"},
    {"attention.q", "f32[2, 3]"},
    {"attention.k", "f32[2, 3]"},
    {"attention.v", "f32[2, 3]"},
    {"full_like.value", "1"},
    {"repeats", "[2, 2]"},
    {"times", "2"},
    {"shift", "1"},
    {"count", "2"},
    {"linspace.begin", "0.0"},
    {"linspace.end", "3.0"},
    {"layer_norm.axes", "1"},
    {"squeeze.axes", "[0]"},
    {"axis", "0"},
    {"index", "0"},
    {"size", "2"},
    {"extent", "4"},
    {"stride", "1"},
    {"padding", "1"},
    {"dilation", "1"},
    {"groups", "1"},
    {"classes", "3"},
    {"arange.begin", "0.0"},
    {"arange.end", "3.0"},
    {"begin", "0"},
    {"end", "1"},
    {"step", "1"},
    {"arange.step", "1.0"},
    {"n", "3"},
    {"from", "0"},
    {"low", "0"},
    {"high", "5"},
    {"dtype", "f32"},
    {"randint.dtype", "i64"},
    {"iota.dtype", "i64"},
    {"permutation.dtype", "i64"},
    {"name", "\"m\""},
    {"correction", "0"},
};

Argument number(int64_t n) { return {.kind = Argument::Number, .numbers = {Number::of(n)}}; }

// Of the few forms that stand in the table above.
Argument argument(std::string_view text) {
  if (text[0] == '"') return {.kind = Argument::Text, .text = std::string(text.substr(1, text.size() - 2))};
  if (text.starts_with("[f32")) {
    const Ref x = parse_expression("f32[2, 3]"), y = parse_expression("f32[2, 3]");
    return {.kind = Argument::Tensors, .tensors = {x, y}};
  }
  if (text[0] == '[') {
    Argument out{.kind = Argument::Numbers};
    for (char c : text)
      if (c >= '0' && c <= '9') out.numbers.push_back(Number::of(int64_t{c - '0'}));
    return out;
  }
  if (text.find('[') != std::string_view::npos)
    return {.kind = Argument::Tensor, .tensors = {parse_expression(text)}};
  if (text.find('.') != std::string_view::npos)
    return {.kind = Argument::Number, .numbers = {Number::of(std::stod(std::string(text)))}};
  if (text[0] >= '0' && text[0] <= '9') return number(std::stoll(std::string(text)));
  return {.kind = Argument::Dtype, .dtype = parse_dtype(text)};
}

Argument base_of(const FunctionRow& row, const Parameter& p) {
  const std::string full = std::string(row.name) + "." + std::string(p.name);
  for (std::string_view name : {std::string_view(full), p.name})
    for (const Base& b : bases)
      if (b.parameter == name) return argument(b.expression);
  if (!p.fallback.empty()) return {};
  FAIL("no value for " << full);
  return {};
}

bool is_small(const Graph& g) {
  for (const Node* n : topological(g.outputs)) {
    double count = 1;
    for (const Ref& d : n->shape) count *= static_cast<double>(d->bounds.hi);
    if (count > 1'000) return false;
  }
  return true;
}

// Calls, and where it is a value of a small graph computes it with and without lowering (that of numbers beside tensors
// is others' to test). True if it is a value.
bool called(const FunctionRow& row, const std::vector<Argument>& arguments, bool computes = true) {
  Ref out;
  try {
    out = call_function(row, arguments);
  } catch (const Error& e) {
    CHECK(std::string(e.what()).size() > 8);
    return false;
  }
  const Graph g = make_graph({out});
  if (!computes || !is_small(g)) return true;
  std::vector<Array> inputs;
  std::vector<int64_t> scalars;
  for (const Ref& i : g.inputs) inputs.push_back(Array::make(i->dtype, static_shape(*i)));
  for (const Ref& s : g.scalars) scalars.push_back(s->at(1));
  const Evaluation wanted = evaluate_graph(g, inputs, scalars);
  const Run got = run_trees(g, {.vector_bytes = 32}, inputs, scalars);
  CHECK(difference(got, wanted, 1e-4) == "");
  return true;
}

}  // namespace

TEST_CASE("[sizes] every integer of every function at the ends of its type is a value or an Error") {
  OnDevice on("interp");
  const int64_t ends[] = {
      INT64_MIN,     INT64_MIN + 1, -(int64_t{1} << 60), -1, 0, 1, (int64_t{1} << 60) - 1, bigger,
      INT64_MAX - 1, INT64_MAX};
  for (const FunctionRow& row : functions()) {
    const std::vector<Parameter> wanted = parameters(row);
    std::vector<Argument> arguments;
    for (const Parameter& p : wanted) arguments.push_back(base_of(row, p));
    INFO(row.name);
    CHECK(called(row, arguments, false));
    for (size_t i = 0; i < arguments.size(); i++) {
      INFO(wanted[i].name);
      const Argument base = arguments[i];
      const bool operand = base.kind == Argument::Tensor && wanted[i].type == "operand";
      for (int64_t end : ends) {
        INFO(end);
        if (operand) {
          arguments[i] = number(end);
          called(row, arguments, false);
        }
        for (size_t k = 0; k < base.numbers.size(); k++) {
          arguments[i] = base;
          arguments[i].numbers[k] = Number::of(end);
          if (base.numbers[k].kind == Number::Float)
            arguments[i].numbers[k] = Number::of(static_cast<double>(end));
          called(row, arguments);
        }
      }
      arguments[i] = base;
    }
  }
}

// What is not in the table of functions. Each takes an integer; what it does with the ends of the type is a value or an Error.
struct Taker {
  const char* name;
  void (*take)(int64_t n);
};
constexpr Taker takers[] = {
    {"size", [](int64_t n) { Tensor::ones({2, 3}).size(n); }},
    {"operator[]", [](int64_t n) { Tensor::ones({2, 3})[n].realize(); }},
    {"eye", [](int64_t n) { Tensor::eye(n); }},
    {"arange", [](int64_t n) { Tensor::arange(n); }},
    {"arange u8", [](int64_t n) { Tensor::arange(n, DType::U8); }},
    {"Variable lo", [](int64_t n) { Variable("n", n, 5); }},
    {"Variable hi",
     [](int64_t n) {
       Variable v("n", 0, n);
       Tensor::zeros({v, 4}).sum(1) + 1;
     }},
    {"Variable set",
     [](int64_t n) {
       Variable v("n", 0, 5);
       v.set(n);
     }},
    {"Variable, any",
     [](int64_t n) {
       Variable v("n", INT64_MIN, INT64_MAX);
       v.set(n);
       (Tensor::ones({2}) + v).realize();
     }},
    {"Scalar", [](int64_t n) { (Tensor::ones({2}) + Scalar(n)).realize(); }},
    {"Scalar u8",
     [](int64_t n) {
       Scalar s(n, DType::U8);
       s.int_value();
     }},
    {"Scalar f32",
     [](int64_t n) {
       Scalar s(n, DType::F32);
       s.int_value();
     }},
    {"from", [](int64_t n) { Tensor::from_memory(nullptr, DType::F32, {n, 0}); }},
    {"expand", [](int64_t n) { Tensor::ones({1}).expand({n, 1}); }},
    {"reshape", [](int64_t n) { Tensor::ones({0}).reshape({n, 0}); }},
    {"seed",
     [](int64_t n) {
       Context::current().seed(static_cast<uint64_t>(n));
       Tensor::uniform({2}).realize();
     }},
    {"random_counter",
     [](int64_t n) {
       Context::current().set_random_counter(static_cast<uint64_t>(n));
       Tensor::uniform({5}).realize();
     }},
    {"threads",
     [](int64_t n) {
       Context context(
           {.device = "interp", .threads = static_cast<int>(std::clamp<int64_t>(n, INT_MIN, INT_MAX))});
     }},
    {"memory_budget",
     [](int64_t n) { Context context({.device = "interp", .threads = 1, .memory_budget = n}); }},
    {"Linear in", [](int64_t n) { nn::Linear(n, 3); }},
    {"Linear out", [](int64_t n) { nn::Linear(3, n); }},
    {"Conv2d groups", [](int64_t n) { nn::Conv2d(4, 4, 3, 1, 0, true, 1, n); }},
    {"Conv1d size", [](int64_t n) { nn::Conv1d(3, 3, n); }},
    {"Conv3d size", [](int64_t n) { nn::Conv3d(3, 3, {n}); }},
    {"ConvTranspose out", [](int64_t n) { nn::ConvTranspose(3, n, {2, 2}); }},
    {"BatchNorm", [](int64_t n) { nn::BatchNorm norm(n); }},
    {"GroupNorm groups", [](int64_t n) { nn::GroupNorm norm(n, 6); }},
    {"LSTM size", [](int64_t n) { nn::LSTM lstm(3, n); }},
    {"GRU in", [](int64_t n) { nn::GRU gru(n, 3); }},
    {"Conv2d in", [](int64_t n) { nn::Conv2d(n, 3, 3); }},
    {"Conv2d size", [](int64_t n) { nn::Conv2d(3, 3, n); }},
    {"Conv2d stride", [](int64_t n) { nn::Conv2d(1, 1, 2, n)(Tensor::ones({1, 1, 4, 4})).realize(); }},
    {"Conv2d padding", [](int64_t n) { nn::Conv2d(1, 1, 2, 1, n)(Tensor::ones({1, 1, 4, 4})); }},
    {"InstanceNorm", [](int64_t n) { nn::InstanceNorm norm(n); }},
    {"LayerNorm", [](int64_t n) { nn::LayerNorm norm(n); }},
    {"without_classes", [](int64_t n) { nn::without_classes(Tensor::ones({2, 3}), std::span(&n, 1)); }},
};

TEST_CASE("[sizes] integers outside of the table of functions") {
  OnDevice on("interp");
  for (const Taker& taker : takers)
    for (int64_t n :
         {INT64_MIN, INT64_MIN + 1, int64_t{-1}, int64_t{0}, int64_t{1}, big, bigger, INT64_MAX}) {
      INFO(taker.name << " " << n);
      try {
        taker.take(n);
      } catch (const Error& e) {
        CHECK(std::string(e.what()).size() > 8);
      }
    }
}

TEST_CASE("[sizes] products and sums of extents that are too large name operation and extents") {
  OnDevice on("interp");
  struct Row {
    std::string text, message;
  };
  Tensor x = Tensor::from({1.f}, {1});
  const std::string most = ": more than 1152921504606846975 elements";
  const Row rows[] = {
      {error_of([] { Tensor::zeros({big, big}).elements(); }), "full: [4294967296, 4294967296]" + most},
      {error_of([] { Tensor::ones({bigger}).realize(); }), "full: [4611686018427387904]" + most},
      {error_of([] { Tensor::from({1.f}, {-1, -1}); }), "from: [-1, -1]: a dimension may be -1"},
      {error_of([] { Tensor::from(std::vector<float>{}, {0, big, big}); }),
       "from: [0, 4294967296, 4294967296]" + most},
      {error_of([&] { x.pad({INT64_MAX, INT64_MAX}); }), "pad: f32[1] by 9223372036854775807" + most},
      {error_of([&] { x.window(0, bigger, 1, bigger); }),
       "window: f32[1]: axis 0 is shorter than 4611686018427387904 taps at distance 4611686018427387904"},
      {error_of([&] { x.expand({-5}); }), "expand: [-5]: a dimension may be -5"},
      {error_of([&] { x.reshape(Shape(65, 1)); }), "reshape: 65 axes; a tensor has at most 64"},
      {error_of([&] { Tensor::uniform({big, big}); }), "uniform: [4294967296, 4294967296]" + most},
      {error_of([] { Tensor::arange(300, DType::U8); }), "iota: 299 does not fit in u8"},
      {error_of([] { Tensor::arange(0, 300, 1, DType::U8); }), "arange: 299 does not fit in u8"},
      {error_of([] { Tensor::arange(0, 1e6, 1, DType::F16); }), "arange: 999999 does not fit in f16"},
      {error_of([] { Tensor::arange(-1, 2, 1, DType::U32); }), "arange: -1 does not fit in u32"},
  };
  for (const Row& row : rows) CHECK(row.text == row.message);
  CHECK(Tensor::arange(3, 0, -1, DType::U8).to_vector<int64_t>() == Longs{3, 2, 1});
}

TEST_CASE("[sizes] what no memory holds is an Error that says so") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    INFO(device);
    CHECK(error_of([] { Tensor::ones({int64_t{1} << 50}).realize(); }).find("memory") != std::string::npos);
    Tensor x = Tensor::from({1, 2}, {2, 1});
    Tensor wide = x.expand({2, int64_t{1} << 52}).sum(0);  // stored whole between two kernels
    CHECK(error_of([&] { (wide / wide.max()).realize(); }).find("memory") != std::string::npos);
  }
}

TEST_CASE("[sizes] empty work takes no time, whatever its other extents") {
  const int64_t many = int64_t{1} << 40;
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    INFO(device);
    const auto start = std::chrono::steady_clock::now();
    for (const Shape& shape : {Shape{0, many}, Shape{many, 0}, Shape{many, 0, 4096}}) {
      Tensor x = Tensor::from(std::vector<float>{}, shape);
      CHECK((x * 2 + 1).exp().to_vector<float>().empty());
      CHECK(x.transpose().flip().tanh().to_vector<float>().empty());
      CHECK(x.sum().item<float>() == 0);
      CHECK(x.prod().item<float>() == 1);
      CHECK((x.flatten() + 1).sum(0).item<float>() == 0);
      CHECK(gradient((x * x).sum(), {x})[0].to_vector<float>().empty());
    }
    Tensor a = Tensor::from(std::vector<float>{}, {many, 0}),
           b = Tensor::from(std::vector<float>{}, {0, many});
    CHECK(b.matmul(a).to_vector<float>().empty());
    CHECK(a.sum(0).to_vector<float>().empty());
    CHECK(cat({a, a}, 1).shape() == Longs{many, 0});
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    CHECK(seconds < 60);
  }
}
