// Gradients of recurrent layers. All gates are computed again by one product over all steps; step by step there is only what
// a step hands to the one before; weights get theirs by one product. (The body's gradient would add up a padded tensor and a
// product of weights for each step.)
#include "graph/transforms/recurrent_gradient.h"

#include "graph/functions/recurrent.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

/// What each step began with: [batch, n, size], from the first state [batch, size] and those after each step.
Term before(const Ref& first, const Ref& after) {
  Dims size = after->shape;
  size[1] = ix::sub(size[1], 1);
  const Ref earlier = fn::shrink(after, Dims(3, index(0)), size);
  return Term(fn::cat({fn::unsqueeze(fn::in_accumulator(first), 1), earlier}, 1));
}

Term step(const Term& x, int64_t t) { return Term(fn::select(x.node, 1, t)); }
Term slope_of_sigmoid(const Term& y) { return y * (1.0 - y); }
Term slope_of_tanh(const Term& y) { return 1.0 - y * y; }
Term product(const Term& a, const Ref& b) { return Term(fn::matmul(a.node, b)); }

/// Steps from the last to the first as [batch, n, ..].
Ref in_order(const std::vector<Ref>& steps) { return fn::over_time({steps.rbegin(), steps.rend()}); }

/// [batch, n, k] -> [batch * n, k].
Ref rows(const Ref& x) { return fn::reshape(x, {ix::mul(x->shape[0], x->shape[1]), x->shape[2]}); }

void add_weight(Tape& to, const Ref& weight, const Ref& gates, const Term& states) {
  if (!to.wants(weight)) return;
  const Ref sum = fn::matmul(fn::transpose(rows(gates), 0, 1), rows(states.node));
  to.add(weight, fn::cast(sum, weight->dtype));
}

void add_as(Tape& to, const Ref& source, const Ref& cotangent) {
  to.add(source, fn::cast(cotangent, source->dtype));
}

}  // namespace

void lstm_back(Tape& to, const Node& n, const Term& g) {
  const Ref &gates = n[1], &weight = n[2], &first_hidden = n[3], &first_cell = n[4];
  const int64_t steps = extent(gates->shape[1]);
  if (steps == 0) return;
  const Term states = wide(output_of(n)), up = wide(g), cells = fn::gate(states, 2, 1);
  const Ref w = fn::in_accumulator(weight);
  const Term hidden_before = before(first_hidden, fn::gate(states, 2, 0).node);
  const Term cell_before = before(first_cell, cells.node);
  const Term all = wide(Term(gates)) + product(hidden_before, fn::transpose(w, 0, 1));
  const Term in = unary("sigmoid", fn::gate(all, 4, 0)), keep = unary("sigmoid", fn::gate(all, 4, 1));
  const Term fresh = unary("tanh", fn::gate(all, 4, 2)), out = unary("sigmoid", fn::gate(all, 4, 3));
  const Term seen = unary("tanh", cells);
  // What one of the cell (or of the hidden state) comes to in each gate.
  const Term to_in = fresh * slope_of_sigmoid(in), to_keep = cell_before * slope_of_sigmoid(keep);
  const Term to_fresh = in * slope_of_tanh(fresh), to_out = seen * slope_of_sigmoid(out);
  const Term to_cell = out * slope_of_tanh(seen), up_hidden = fn::gate(up, 2, 0),
             up_cell = fn::gate(up, 2, 1);
  std::vector<Ref> of_gates;
  Term hidden = step(up_hidden, steps - 1), cell = step(up_cell, steps - 1);
  for (int64_t t = steps - 1; t >= 0; t--) {
    cell = fn::stored(cell + hidden * step(to_cell, t));
    const Ref joined = fn::cat({(cell * step(to_in, t)).node, (cell * step(to_keep, t)).node,
                                (cell * step(to_fresh, t)).node, (hidden * step(to_out, t)).node},
                               -1);
    of_gates.push_back(fn::stored(Term(joined)).node);
    hidden = product(Term(of_gates.back()), w), cell = cell * step(keep, t);
    if (t > 0) hidden = hidden + step(up_hidden, t - 1), cell = cell + step(up_cell, t - 1);
    hidden = fn::stored(hidden);
  }
  const Ref together = in_order(of_gates);
  add_as(to, gates, together);
  add_weight(to, weight, together, hidden_before);
  add_as(to, first_hidden, hidden.node);
  add_as(to, first_cell, cell.node);
}

void gru_back(Tape& to, const Node& n, const Term& g) {
  const Ref &gates = n[1], &weight = n[2], &bias = n[3], &first = n[4];
  const int64_t steps = extent(gates->shape[1]);
  if (steps == 0) return;
  const Term up = wide(g), x = wide(Term(gates)), hidden_before = before(first, wide(output_of(n)).node);
  const Ref w = fn::in_accumulator(weight);
  const Term q(fn::add(product(hidden_before, fn::transpose(w, 0, 1)).node, fn::in_accumulator(bias)));
  const Term reset = unary("sigmoid", fn::gate(x, 3, 0) + fn::gate(q, 3, 0));
  const Term keep = unary("sigmoid", fn::gate(x, 3, 1) + fn::gate(q, 3, 1));
  const Term fresh = unary("tanh", fn::gate(x, 3, 2) + reset * fn::gate(q, 3, 2));
  const Term to_fresh = (1.0 - keep) * slope_of_tanh(fresh);
  const Term to_keep = (hidden_before - fresh) * slope_of_sigmoid(keep);
  const Term to_reset = to_fresh * fn::gate(q, 3, 2) * slope_of_sigmoid(reset), to_state = to_fresh * reset;
  std::vector<Ref> of_gates, of_state;
  Term hidden = step(up, steps - 1);
  for (int64_t t = steps - 1; t >= 0; t--) {
    const Ref first_two = fn::cat({(hidden * step(to_reset, t)).node, (hidden * step(to_keep, t)).node}, -1);
    of_gates.push_back(fn::stored(Term(fn::cat({first_two, (hidden * step(to_fresh, t)).node}, -1))).node);
    of_state.push_back(fn::stored(Term(fn::cat({first_two, (hidden * step(to_state, t)).node}, -1))).node);
    hidden = hidden * step(keep, t) + product(Term(of_state.back()), w);
    if (t > 0) hidden = hidden + step(up, t - 1);
    hidden = fn::stored(hidden);
  }
  add_as(to, gates, in_order(of_gates));
  const Ref together = in_order(of_state);
  add_weight(to, weight, together, hidden_before);
  if (to.wants(bias)) add_as(to, bias, fn::sum(together, Ints{0, 1}, false));
  add_as(to, first, hidden.node);
}

}  // namespace kontor
