// Recurrent layers over time, as one Call each: step by step forwards; their gradients stand in
// graph/transforms/recurrent_gradient.cpp.
#include "graph/functions/recurrent.h"

#include <algorithm>

#include "base/error.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

/// gates [batch, n, parts * size], weight [parts * size, size] and states [batch, size], or Error.
void check_recurrent(std::string_view who, int64_t parts, const Ref& gates, const Ref& weight,
                     std::initializer_list<Ref> states) {
  if (gates->rank() != 3 || weight->rank() != 2 || !is_float(gates->dtype) || !is_float(weight->dtype))
    fail("{}: {} by {}: needs gates [batch, n, {} * size] and a weight [{} * size, size], floats", who,
         describe(*gates), describe(*weight), parts, parts);
  if (!gates->shape[1]->is_const()) fail("{}: {}: the number of steps is not fixed", who, describe(*gates));
  const Ref& size = weight->shape[1];
  if (weight->shape[0] != ix::mul(size, parts) || gates->shape[2] != weight->shape[0] || !size->is_const())
    fail("{}: {} by {}: sizes differ", who, describe(*gates), describe(*weight));
  for (const Ref& s : states)
    if (s->shape != Dims{gates->shape[0], size} || !is_float(s->dtype))
      fail("{}: {} by {}: begins with {}, not {}", who, describe(*gates), describe(*weight), describe(*s),
           describe_shape(Dims{gates->shape[0], size}));
}

Ref at_step(const Ref& gates, int64_t t) { return select(gates, 1, t); }

Ref over_time_or_none(const std::vector<Ref>& steps, const Ref& like) {
  return steps.empty() ? fill(like->dtype, 0, {like->shape[0], index(0), like->shape[1]}) : over_time(steps);
}

}  // namespace

// A few at a time, and these again: each element of a kernel that puts some together chooses between all of them.
Ref over_time(const std::vector<Ref>& steps) {
  constexpr size_t few = 8;
  std::vector<Ref> parts;
  for (const Ref& s : steps) parts.push_back(unsqueeze(s, 1));
  while (parts.size() > 1) {
    std::vector<Ref> longer;
    for (size_t begin = 0; begin < parts.size(); begin += few) {
      const auto first = parts.begin() + static_cast<ptrdiff_t>(begin);
      const auto count = static_cast<ptrdiff_t>(std::min(few, parts.size() - begin));
      longer.push_back(count == 1 ? *first : make(Op::Copy, {cat({first, first + count}, 1)}));
    }
    parts = std::move(longer);
  }
  return parts[0];
}

Term gate(const Term& gates, int64_t parts, int64_t which) {
  const int64_t size = extent(gates.node->shape.back()) / parts;
  return Term(slice(gates.node, -1, which * size, (which + 1) * size, 1));
}

Ref lstm(const Ref& gates, const Ref& weight, const Ref& hidden, const Ref& cell) {
  check_recurrent("lstm", 4, gates, weight, {hidden, cell});
  const Ref given = in_accumulator(gates), w = transpose(in_accumulator(weight), 0, 1);
  Term h(in_accumulator(hidden)), c(in_accumulator(cell));
  std::vector<Ref> hs, cs;
  for (int64_t t = 0; t < extent(gates->shape[1]); t++) {
    const Term all(add(at_step(given, t), matmul(h.node, w)));
    const Term in = unary("sigmoid", gate(all, 4, 0)), keep = unary("sigmoid", gate(all, 4, 1));
    c = stored(keep * c + in * unary("tanh", gate(all, 4, 2)));
    h = stored(unary("sigmoid", gate(all, 4, 3)) * unary("tanh", c));
    hs.push_back(h.node), cs.push_back(c.node);
  }
  const Ref both = cat({over_time_or_none(hs, h.node), over_time_or_none(cs, c.node)}, -1);
  return call("lstm", cast(both, gates->dtype), {gates, weight, hidden, cell});
}

Ref gru(const Ref& gates, const Ref& weight, const Ref& bias, const Ref& hidden) {
  check_recurrent("gru", 3, gates, weight, {hidden});
  if (bias->shape != Dims{weight->shape[0]} || !is_float(bias->dtype))
    fail("gru: bias {}: needs [{}]", describe(*bias), describe_dim(weight->shape[0]));
  const Ref given = in_accumulator(gates), w = transpose(in_accumulator(weight), 0, 1),
            b = in_accumulator(bias);
  Term h(in_accumulator(hidden));
  std::vector<Ref> hs;
  for (int64_t t = 0; t < extent(gates->shape[1]); t++) {
    const Term x(at_step(given, t)), q(add(matmul(h.node, w), b));
    const Term reset = unary("sigmoid", gate(x, 3, 0) + gate(q, 3, 0));
    const Term keep = unary("sigmoid", gate(x, 3, 1) + gate(q, 3, 1));
    const Term fresh = unary("tanh", gate(x, 3, 2) + reset * gate(q, 3, 2));
    h = stored(fresh + keep * (h - fresh));
    hs.push_back(h.node);
  }
  return call("gru", cast(over_time_or_none(hs, h.node), gates->dtype), {gates, weight, bias, hidden});
}

}  // namespace kontor::fn
