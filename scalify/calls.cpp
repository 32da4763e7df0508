// The table of Calls.
#include "scalify/calls.h"

#include "graph/dtype.h"

namespace kontor::scalify {

namespace {

using Arguments = std::span<const Scaled* const>;
using Prediction = Exponent (*)(const Node& call, Arguments of, const RuleOptions& options);

Exponent one(const Node&, Arguments, const RuleOptions&) { return 0; }
Exponent argument(const Node&, Arguments of, const RuleOptions&) { return of[0]->predicted; }
Exponent second(const Node&, Arguments of, const RuleOptions&) { return of[1]->predicted; }
/// Rows of T numbers whose sum is 1: their root mean square is 1/sqrt(T) for one that stands out, and 1/T for none.
Exponent share(const Node& call, Arguments of, const RuleOptions& options) {
  const Step step{call, of, options};
  return -step.growth(count_along(call.shape, std::span(call.arg.ints).first(1)), false);
}

struct Row {
  std::string_view name;
  /// Where the value is expected to be; null: the body's operations say it.
  Prediction predicted = nullptr;
  bool non_negative = false;
  bool kept = false;
};

// clang-format off
constexpr Row table[] = {
    // Their results are of the size of 1, whatever their arguments are.
    {.name = "exp",   .predicted = one, .non_negative = true},
    {.name = "exp2",  .predicted = one, .non_negative = true},
    {.name = "expm1", .predicted = one}, {.name = "log",   .predicted = one}, {.name = "log2",  .predicted = one},
    {.name = "log10", .predicted = one}, {.name = "log1p", .predicted = one}, {.name = "sin",   .predicted = one},
    {.name = "cos",   .predicted = one}, {.name = "tan",   .predicted = one}, {.name = "asin",  .predicted = one},
    {.name = "acos",  .predicted = one}, {.name = "atan",  .predicted = one}, {.name = "atan2", .predicted = one},
    {.name = "sinh",  .predicted = one}, {.name = "cosh",  .predicted = one}, {.name = "asinh", .predicted = one},
    {.name = "acosh", .predicted = one}, {.name = "atanh", .predicted = one}, {.name = "erf",   .predicted = one},
    {.name = "pow",   .predicted = one},
    {.name = "tanh",        .predicted = one, .kept = true},
    {.name = "sigmoid",     .predicted = one, .non_negative = true, .kept = true},
    {.name = "hardsigmoid", .predicted = one, .non_negative = true, .kept = true},
    // x times a gate between 0 and 1, or x beyond a bend.
    {.name = "gelu",      .predicted = argument, .kept = true}, {.name = "gelu_tanh", .predicted = argument, .kept = true},
    {.name = "silu",      .predicted = argument, .kept = true}, {.name = "hardswish", .predicted = argument, .kept = true},
    {.name = "mish",      .predicted = argument, .kept = true}, {.name = "elu",       .predicted = argument, .kept = true},
    {.name = "selu",      .predicted = argument, .kept = true},
    {.name = "softplus",  .predicted = one, .non_negative = true, .kept = true},
    {.name = "mod",       .predicted = second},
    // Along an axis.
    {.name = "softmax",       .predicted = share, .non_negative = true, .kept = true},
    {.name = "log_softmax",   .predicted = one},
    {.name = "logsumexp",     .predicted = one},
    {.name = "cross_entropy", .predicted = one},
    // Draws.
    {.name = "uniform", .predicted = one}, {.name = "normal", .predicted = one}, {.name = "randint", .predicted = one},
    {.name = "permutation", .predicted = one},
    // Of their bodies' operations: those that a power of two goes through, and those that have products in them.
    {.name = "relu", .kept = true}, {.name = "reciprocal"}, {.name = "rsqrt"}, {.name = "detach"}, {.name = "checkpoint"},
    {.name = "conv1d", .kept = true}, {.name = "conv2d", .kept = true}, {.name = "conv3d", .kept = true},
    {.name = "conv_transpose", .kept = true}, {.name = "matmul", .kept = true}, {.name = "attention", .kept = true}, {.name = "lstm", .kept = true}, {.name = "gru", .kept = true},
};
// clang-format on

const Row* find(std::string_view name) {
  for (const Row& row : table)
    if (row.name == name) return &row;
  return nullptr;
}

}  // namespace

bool is_known(std::string_view call) { return find(call) != nullptr; }

bool is_kept(std::string_view call) {
  const Row* row = find(call);
  return row && row->kept;
}

bool is_of_values(const Node& call) {
  const Row* row = find(call.arg.text);
  return row && row->predicted;
}

Scaled of_values(const Node& call, std::span<const Scaled* const> arguments, const RuleOptions& options) {
  const Row& row = *find(call.arg.text);
  const Step step{call, arguments, options};
  Substitution values;
  NodeSet met;
  bool changes = false;
  for (size_t i = 0; i < arguments.size(); i++) {
    const Ref now = step.value(i);
    changes = changes || now != call[1 + i];
    met.insert(call[1 + i].get());
    values.insert_or_assign(call[1 + i].get(), now);
  }
  Scaled out{.data = Ref(&call), .non_negative = row.non_negative};
  if (is_float(call.dtype)) out.predicted = row.predicted(call, arguments, options);
  if (!changes) return out;
  std::vector<const Node*> body;  // what is between the arguments and the result
  if (!values.contains(call[0].get()))
    append_topological(call[0].get(), met, body, [](const Node& n) { return std::span<const Ref>(n.src); });
  map_nodes(body, values, [&](const Node& n) { return with_sources(n, sources_in(values, n)); });
  out.data = values.at(call[0].get());
  return out;
}

}  // namespace kontor::scalify
