// The table of Calls, with their gradients' rules.
#include "graph/transforms/calls.h"

#include "graph/functions/scaling.h"
#include "graph/transforms/checkpoint.h"
#include "graph/transforms/recurrent_gradient.h"
#include "graph/transforms/scaled_gradient.h"
#include "graph/transforms/tape.h"

namespace kontor {

namespace {

void softmax_back(Tape& to, const Node& n, const Term& g) {
  Term y = wide(output_of(n)), up = wide(g);
  Ref total = fn::reduce(Fold::Sum, {(up * y).node}, {n.at(0)}, true);
  to.add(n[1], (y * (up - Term(fn::broadcast(total, n.shape)))).as(n.dtype).node);
}

void log_softmax_back(Tape& to, const Node& n, const Term& g) {
  Term y = wide(output_of(n)), up = wide(g);
  Ref total = fn::reduce(Fold::Sum, {up.node}, {n.at(0)}, true);
  to.add(n[1], (up - unary("exp", y) * Term(fn::broadcast(total, n.shape))).as(n.dtype).node);
}

void logsumexp_back(Tape& to, const Node& n, const Term& g) {
  const Term x = wide(source(n, 1)), y(fn::broadcast(wide(output_of(n)).node, n[1]->shape));
  const Term up(fn::broadcast(wide(g).node, n[1]->shape));
  to.add(n[1], (up * unary("exp", x - y)).as(n.dtype).node);
}

void cross_entropy_back(Tape& to, const Node& n, const Term& g) {
  const Ref &logits = n[1], &labels = n[2];
  Term p(fn::softmax(wide(Term(logits)).node, -1));
  Ref hit = fn::eq(fn::unsqueeze(labels, -1), fn::numbers_for(labels, logits->shape.back()));
  Term difference = where(Term(hit), p - 1.0, p);
  Term up(fn::broadcast(fn::unsqueeze(wide(g).node, -1), logits->shape));
  to.add(logits, (difference * up).as(logits->dtype).node);
}

void pow_back(Tape& to, const Node& n, const Term& g) {
  Term a = source(n, 1), b = source(n, 2), y = output_of(n);
  if (to.wants(n[1])) {
    Term slope(fn::pow(a.node, (b - 1.0).node));
    to.add(n[1], where(b == 0.0, 0.0, g * b * slope).node);
  }
  if (to.wants(n[2])) to.add(n[2], where(a == 0.0, 0.0, g * y * unary("log", a)).node);
}

void mod_back(Tape& to, const Node& n, const Term& g) {
  to.add(n[1], g.node);
  if (to.wants(n[2])) to.add(n[2], (-(g * Term(fn::floor_div(n[1], n[2])))).node);
}

/// The point's distance from the origin, squared, is 0 at the origin alone: there the angle has no slope.
void atan2_back(Tape& to, const Node& n, const Term& g) {
  Term y = wide(source(n, 1)), x = wide(source(n, 2)), square = fma(y, y, x * x);
  Term part = where(square == 0.0, 0.0, wide(g) / square);
  if (to.wants(n[1])) to.add(n[1], (part * x).as(n.dtype).node);
  if (to.wants(n[2])) to.add(n[2], (-(part * y)).as(n.dtype).node);
}

void straight_through(Tape& to, const Node& n, const Term& g) { to.add(n[1], g.as(n[1]->dtype).node); }

void nothing(Tape&, const Node&, const Term&) {}

/// Of a control of Scalify: what it says of gradients goes along with them.
void control_back(Tape& to, const Node& n, const Term& g) { to.add(n[1], fn::handed_back(n, g.node)); }

// clang-format off
constexpr CallRow table[] = {
    {"pow",           pow_back},
    {"mod",           mod_back},
    {"atan2",         atan2_back},
    {"softmax",       softmax_back,     CallRow::AlongAxis},
    {"log_softmax",   log_softmax_back, CallRow::AlongAxis},
    {"cross_entropy", cross_entropy_back},
    {"logsumexp",     logsumexp_back},
    {"detach",        nothing},
    {"attention",     attention_back},  // its scores are as many as queries times keys
    {"round_to",      straight_through},
    {"fake_quantise", straight_through, CallRow::OneForm},
    {"scaled_product", scaled_product_back, CallRow::OneForm},
    {"block_scales",  nothing,          CallRow::OneForm},
    {"tensor_scale",  nothing,          CallRow::OneForm},
    {"checkpoint",    checkpoint_back,  CallRow::OneForm},
    {"lstm",          lstm_back,        CallRow::OneForm},
    {"gru",           gru_back,         CallRow::OneForm},
    {"scalify",         control_back},
    {"cotangent",       control_back},
    {"set_scale",       control_back},
    {"rebalance",       control_back},
    {"stop_scale",      control_back},
    {"dynamic_rescale", control_back},
    {"cast_forward",    control_back},
    {"cast_backward",   control_back},
    {"scaled_data",     control_back},
    {"scale_of",        nothing},
    {"uniform",       nullptr,          CallRow::Draw},
    {"normal",        nullptr,          CallRow::Draw},
    {"randint",       nullptr,          CallRow::Draw},
    {"permutation",   nullptr,          CallRow::Draw},
};
// clang-format on

}  // namespace

const CallRow* find_call(std::string_view name) {
  for (const CallRow& row : table)
    if (row.name == name) return &row;
  return nullptr;
}

}  // namespace kontor
