// [dtypes] Every function in every dtype that users count on: recorded and run on llvm with the interpreter's bits, or
// refused where it is recorded, with a message; what is refused is listed here.
#include <algorithm>
#include <map>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"
#include "graph/functions/unary.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

constexpr DType usual_dtypes[] = {DType::Bool, DType::U8,  DType::I32, DType::I64,
                                  DType::U32,  DType::U64, DType::F32, DType::F64};

struct Row {
  std::string_view function, expression;  // T stands for the dtype
  std::string_view refuses = "";          // dtypes that it does not take (a bool beside a number is an i64)
  bool negative = true;                   // the inputs may be
};

constexpr std::string_view floats = "f32 f64", no_bool = "bool", no_floats = "bool u8 i32 i64 u32 u64";

// clang-format off
constexpr Row rows[] = {
    {"full",          "full([3, 5], 1, T)"},
    {"iota",          "iota(37, T)"},
    {"arange",        "arange(1, 9, 2, T)"},
    {"linspace",      "linspace(0, 1, 5, T)"},
    {"eye",           "eye(5, T)"},
    {"uniform",       "uniform([9], 0, 1, T)", "bool u8 i32 i64 u32 u64"},
    {"normal",        "normal([9], 0, 1, T)", "bool u8 i32 i64 u32 u64"},
    {"randint",       "randint([9], 0, 100, T)", "bool f32 f64"},
    {"permutation",   "permutation(23, T)", "bool f32 f64"},
    {"truncated_normal", "truncated_normal([9], 0, 1, -2, 2, T)", "bool u8 i32 i64 u32 u64"},
    {"add",           "T[3, 40] + T[40]"},
    {"sub",           "T[3, 40] - T[40]", no_bool},
    {"mul",           "T[3, 40] * T[40]"},
    {"div",           "T[40] / (T[40] + 3)"},
    {"floor_div",     "T[40] // (T[40] + 3)"},
    {"mod",           "mod(T[40], T[40] + 3)"},
    {"remainder",     "remainder(T[40], T[40] + 3)"},
    {"atan2",         "atan2(T[40], T[40])"},
    {"copysign",      "copysign(T[40], T[40])"},
    {"leaky_relu",    "leaky_relu(T[40])"},
    {"pow",           "pow(T[40], 3)"},
    {"maximum",       "maximum(T[40], T[40])"},
    {"minimum",       "minimum(T[40], T[40])"},
    {"fma",           "fma(T[40], T[40], T[40])", "bool u8 i32 i64 u32 u64"},
    {"eq",            "T[40] == T[40]"},
    {"ne",            "T[40] != T[40]"},
    {"lt",            "T[40] < T[40]"},
    {"le",            "T[40] <= T[40]"},
    {"gt",            "T[40] > T[40]"},
    {"ge",            "T[40] >= T[40]"},
    {"logical_and",   "logical_and(T[40], T[40])"},
    {"logical_or",    "logical_or(T[40], T[40])"},
    {"bit_and",       "T[40] & T[40]", floats},
    {"bit_or",        "T[40] | T[40]", floats},
    {"bit_xor",       "T[40] ^ T[40]", floats},
    {"bit_not",       "bit_not(T[40])", floats},
    {"shift_left",    "T[40] << 2", floats},
    {"shift_right",   "T[40] >> 1", floats},
    {"where",         "where(T[40] != 0, T[40], T[40])"},
    {"clamp",         "clamp(T[40], 1, 3)"},
    {"neg",           "neg(T[40])", no_bool},
    {"sign",          "sign(T[40])", no_bool},
    {"cast",          "cast(T[40], u8) + cast(cast(T[40], i64), u8)"},
    {"bitcast",       "bitcast(T[40], T)"},
    {"mark",          "mark(T[40], \"x\")"},
    {"sum",           "sum(T[3, 140], [1])"},
    {"prod",          "prod(T[3, 9], [1])"},
    {"max",           "max(T[3, 140], [1])"},
    {"min",           "min(T[3, 140], [0])"},
    {"mean",          "mean(T[3, 140], [1])"},
    {"var",           "var(T[3, 140], [1])"},
    {"stddev",        "stddev(T[3, 140], [1])"},
    {"norm",          "norm(T[3, 140], [1])"},
    {"any",           "any(T[3, 140], [1])"},
    {"all",           "all(T[3, 140], [1])"},
    {"argmax",        "argmax(T[3, 140], 1)"},
    {"logsumexp",     "logsumexp(T[3, 140], [1])"},
    {"argmin",        "argmin(T[3, 140], 0)"},
    {"cumsum",        "cumsum(T[3, 140], 1)"},
    {"cumprod",       "cumprod(T[3, 9], 1)"},
    {"cummax",        "cummax(T[3, 140], 1)"},
    {"cummin",        "cummin(T[3, 140], 0)"},
    {"logcumsumexp",  "logcumsumexp(T[3, 40], 1)"},
    {"linear_scan",   "linear_scan(T[3, 40], T[3, 40], 1)", "bool u8 i32 i64 u32 u64"},
    {"scalify",       "scalify(sum(T[3, 40]))", no_floats},
    {"set_scale",     "set_scale(T[40], 3)", no_floats},
    {"rebalance",     "rebalance(T[40], -2)", no_floats},
    {"stop_scale",    "stop_scale(T[40])", no_floats},
    {"dynamic_rescale", "dynamic_rescale(T[40])", no_floats},
    {"cast_forward",  "cast_forward(T[40], f8e4m3)", no_floats},
    {"cast_backward", "cast_backward(T[40], f8e5m2)", no_floats},
    {"scaled_data",   "scaled_data(T[40])", no_floats},
    {"scale_of",      "scale_of(T[40])", no_floats},
    {"reshape",       "reshape(T[6, 4], [3, -1]) == reshape(T[8, 3], [3, 8])"},
    {"flatten",       "flatten(T[2, 3, 4], 1)"},
    {"permute",       "permute(T[3, 4, 5], [2, 0, 1])"},
    {"transpose",     "transpose(T[19, 23])"},
    {"expand",        "expand(T[3, 1], [2, 3, 5])"},
    {"pad",           "pad(T[3, 4], [1, 2, 0, 3], 1)"},
    {"slice",         "slice(T[9, 10], 0, 1, 9, 3)"},
    {"select",        "select(T[4, 5, 3], 1, -2)"},
    {"flip",          "flip(T[4, 5], [1])"},
    {"squeeze",       "squeeze(T[4, 1, 5])"},
    {"unsqueeze",     "unsqueeze(T[4, 5], 1)"},
    {"window",        "window(T[3, 20], 1, 4, 2, 3)"},
    {"unwindow",      "unwindow(T[6, 3], 0, 13, 2, 1)"},
    {"cat",           "cat([T[3, 2], T[3, 4]], 1)"},
    {"stack",         "stack([T[3, 2], T[3, 2]], -1)"},
    {"matmul",        "matmul(T[9, 17], T[17, 33])", no_bool},
    {"sort",          "sort(T[3, 140], 1)"},
    {"argsort",       "argsort(T[3, 140], 1, true)"},
    {"topk",          "topk(T[3, 140], 5, 1)"},
    {"argtopk",       "argtopk(T[3, 140], 5, 1, false)"},
    {"median",        "median(T[3, 140], 1)"},
    {"searchsorted",  "searchsorted(sort(T[140], 0), T[40])"},
    {"gather",        "gather(T[7, 40], cast(i32[3, 40], i64), 0)", "", false},
    {"scatter",       "scatter(T[7, 40], i32[9, 40], T[9, 40], 0)", "", false},
    {"scatter_add",   "scatter_add(T[7, 40], i32[9, 40], T[9, 40], 0)", no_bool, false},
    {"narrow",        "narrow(T[9, 6], 0, 2, 4)"},
    {"nonzero",       "nonzero(T[5, 9], 20)"},
    {"masked_select", "masked_select(T[5, 9], T[9], 20, 1)"},
    {"bernoulli",     "bernoulli(T[40])"},
    {"multinomial",   "multinomial(T[3, 40], 5)"},
    {"full_like",     "full_like(T[5, 7], 1)"},
    {"tile",          "tile(T[3, 4], [2, 1, 3])"},
    {"repeat",        "repeat(T[3, 4], 3, 1)"},
    {"roll",          "roll(T[5, 7], 3, 1)"},
    {"tril",          "tril(T[5, 7], 1)"},
    {"triu",          "triu(T[5, 7], -1)"},
    {"diag",          "diag(diag(T[5, 7], 1), -2)"},
    {"outer",         "outer(T[5], T[7])"},
    {"tensordot",     "tensordot(T[3, 4, 5], T[4, 5, 6])", no_bool},
    {"einsum",        "einsum(\"iij,kj->ik\", [T[5, 5, 7], T[3, 7]])", no_bool},
    {"attention",     "attention(T[2, 5, 8], T[2, 7, 8], T[2, 7, 4], causal=true)"},
    {"conv2d",        "conv2d(T[2, 3, 8, 9], T[4, 3, 3, 3], T[4], padding=1)", no_bool},
    {"conv1d",        "conv1d(T[2, 4, 11], T[6, 2, 3], T[6], stride=2, padding=1, groups=2)", no_bool},
    {"conv3d",        "conv3d(T[2, 2, 4, 5, 6], T[3, 2, 2, 3, 2], padding=1)", no_bool},
    {"conv_transpose", "conv_transpose(T[2, 4, 3, 4], T[4, 3, 3, 2], T[6], stride=2, groups=2)", no_bool},
    {"max_pool",      "max_pool(T[2, 3, 11], 3, 2, padding=1, ceil=true)"},
    {"avg_pool",      "avg_pool(T[2, 3, 6, 7], 3, 2, padding=1, ceil=true, count_padding=false)"},
    {"max_pool2d",    "max_pool2d(T[2, 3, 6, 7], 2)"},
    {"avg_pool2d",    "avg_pool2d(T[2, 3, 6, 6], [2, 3])"},
    {"softmax",       "softmax(T[5, 37])"},
    {"log_softmax",   "log_softmax(T[5, 37])"},
    {"cross_entropy", "cross_entropy(f32[7, 10], T[7])", "bool f32 f64", false},
    {"nll",           "nll(f32[7, 10], T[7], 3)", "bool f32 f64", false},
    {"mse",           "mse(T[5, 37], T[37])"},
    {"binary_cross_entropy", "binary_cross_entropy(T[40], T[40])"},
    {"binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits(T[40], T[40])"},
    {"batch_norm",    "batch_norm(T[2, 3, 5, 6], weight=T[3], bias=T[3])"},
    {"group_norm",    "group_norm(T[2, 6, 5], 2, T[6], T[6])"},
    {"layer_norm",    "layer_norm(T[5, 37], 1, T[37], T[37])"},
    {"instance_norm", "instance_norm(T[2, 3, 5, 6], T[3], T[3])"},
    {"one_hot",       "one_hot(T[7], 5)", floats},
    {"take",          "take(T[9, 6], T[4, 2])", "bool f32 f64"},
    {"pick",          "pick(T[5, 6], T[5])", "bool f32 f64", false},
    {"put",           "put(T[6, 4], 0, 2, T[3, 4])"},
};
// clang-format on

std::string in_dtype(std::string_view expression, DType dtype) {
  std::string out;
  for (size_t i = 0; i < expression.size(); i++) {
    const bool alone =
        expression[i] == 'T' && (i == 0 || !std::isalnum(static_cast<unsigned char>(expression[i - 1])));
    out += alone ? std::string(name(dtype)) : std::string(1, expression[i]);
  }
  return out;
}

/// Small numbers, of both signs where `negative`, and fractions of floats.
Array numbers(const Node& leaf, int64_t seed, bool negative) {
  Array a = Array::make(leaf.dtype, static_shape(leaf));
  const bool below = negative && leaf.dtype != DType::Bool && kind(leaf.dtype) != Kind::Unsigned;
  for (int64_t i = 0; i < a.size(); i++) {
    const int64_t whole = (i * 5 + seed * 3) % 7 - (below ? 2 : 0);
    const double value = static_cast<double>(whole) + (is_float(leaf.dtype) ? 0.25 : 0);
    a.set(i, is_float(leaf.dtype) ? from_double(leaf.dtype, value)
                                  : from_int(leaf.dtype, leaf.dtype == DType::Bool ? whole % 2 : whole));
  }
  return a;
}

std::string verdict(const Row& row, const Graph& graph, Backend& backend) {
  std::vector<Array> inputs;
  for (const Ref& leaf : graph.inputs)
    inputs.push_back(numbers(*leaf, static_cast<int64_t>(inputs.size()), row.negative));
  std::vector<int64_t> scalars;
  for (const Ref& s : graph.scalars) scalars.push_back(s->at(1));
  try {
    const Evaluation wanted = evaluate_graph(graph, inputs, scalars);
    if (!wanted.error.empty() && row.negative) return "the row itself: " + wanted.error;
    return difference(run_graph(graph, backend, inputs, scalars), wanted);
  } catch (const std::exception& thrown) {
    return std::string("throws: ") + thrown.what();
  }
}

/// Those above, and the other rows of the unary table, which take every dtype.
std::vector<Row> all_rows() {
  static std::vector<std::string> expressions;  // what the rows show
  expressions.clear();
  std::vector<Row> out(std::begin(rows), std::end(rows));
  expressions.reserve(unary_table().size());
  for (const UnaryRow& unary : unary_table()) {
    if (std::any_of(std::begin(rows), std::end(rows), [&](const Row& r) { return r.function == unary.name; }))
      continue;
    expressions.push_back(std::string(unary.name) + "(T[40])");
    out.push_back({unary.name, expressions.back()});
  }
  return out;
}

bool listed(std::string_view list, std::string_view word) {
  return (" " + std::string(list) + " ").find(" " + std::string(word) + " ") != std::string::npos;
}

}  // namespace

TEST_CASE("[dtypes] every function in every dtype has the interpreter's bits, or refuses") {
  std::string why;
  Backend* llvm = device("llvm", &why);
  if (!llvm) KONTOR_SKIP(why);
  for (const Row& row : all_rows())
    for (DType dtype : usual_dtypes) {
      const std::string text = in_dtype(row.expression, dtype);
      INFO(text);
      Graph graph;
      const std::string refused = error_of([&] { graph = make_graph({parse_expression(text)}); });
      CHECK((refused.empty() ? "" : "refused") ==
            std::string(listed(row.refuses, name(dtype)) ? "refused" : ""));
      if (!refused.empty()) {
        INFO(refused);
        CHECK(refused.find("expression, line 1: ") == 0);  // followed by the function's own words
        CHECK(refused.size() > 30);
      } else {
        CHECK(verdict(row, graph, *llvm) == "");
      }
    }
}

TEST_CASE("[dtypes] there is a row for each function") {
  const std::vector<Row> all = all_rows();
  for (const FunctionRow& f : functions()) {
    INFO(f.name);
    CHECK(std::count_if(all.begin(), all.end(), [&](const Row& r) { return r.function == f.name; }) == 1);
  }
  CHECK(all.size() == functions().size());
}
