// The gradient's table and driver.
#include "graph/transforms/gradient.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/guard.h"
#include "graph/functions/unary.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/shape.h"
#include "graph/transforms/calls.h"
#include "graph/transforms/dot_gradient.h"
#include "graph/transforms/op_table.h"
#include "graph/transforms/tape.h"

namespace kontor {

namespace {

Ints as_ints(std::span<const int64_t> v) { return {v.begin(), v.end()}; }

// --- elementwise

void nothing(Tape&, const Node&, const Term&) {}

void max_or_min(Tape& to, const Node& n, const Term& g) {
  // As the op chooses: the first source only where it is strictly beyond the second (a tie goes to the second).
  Term first = n.is(Op::Max) ? source(n, 1) < source(n, 0) : source(n, 0) < source(n, 1);
  to.add(n[0], where(first, g, 0.0).node);
  to.add(n[1], where(first, 0.0, g).node);
}

void divide(Tape& to, const Node& n, const Term& g) {
  Term q = g / source(n, 1);
  to.add(n[0], q.node);
  if (to.wants(n[1])) to.add(n[1], (-(q * output_of(n))).node);
}

void choose(Tape& to, const Node& n, const Term& g) {
  to.add(n[1], where(source(n, 0), g, 0.0).node);
  to.add(n[2], where(source(n, 0), 0.0, g).node);
}

void multiply(Tape& to, const Node& n, const Term& g) {
  if (to.wants(n[0])) to.add(n[0], (g * source(n, 1)).node);
  if (to.wants(n[1])) to.add(n[1], (g * source(n, 0)).node);
}

void fused(Tape& to, const Node& n, const Term& g) {
  multiply(to, n, g);
  to.add(n[2], g.node);
}

// --- movement

void permute_back(Tape& to, const Node& n, const Term& g) {
  Ints inverse(n.rank());
  for (size_t i = 0; i < n.rank(); i++) inverse[static_cast<size_t>(n.at(i))] = static_cast<int64_t>(i);
  to.add(n[0], fn::permute(g.node, inverse));
}

void expand_back(Tape& to, const Node& n, const Term& g) {
  Ints axes;
  for (size_t i = 0; i < n.rank(); i++)
    if (n.shape[i] != n[0]->shape[i]) axes.push_back(static_cast<int64_t>(i));
  to.add(n[0], fn::reduce(Fold::Sum, {g.node}, axes, true));
}

void pad_back(Tape& to, const Node& n, const Term& g) {
  Dims begin;
  for (size_t i = 0; i < n.rank(); i++) begin.push_back(n[2 + 2 * i]);
  Ref inside = fn::shrink(g.node, begin, n[0]->shape);
  to.add(n[0], inside);
  if (to.wants(n[1])) to.add(n[1], fn::sub(fn::sum(g.node, {}, false), fn::sum(inside, {}, false)));
}

void shrink_back(Tape& to, const Node& n, const Term& g) {
  std::vector<Ref> src{g.node, constant(n.dtype, 0.0)};
  for (size_t i = 0; i < n.rank(); i++) {
    src.push_back(n[1 + 2 * i]);
    src.push_back(ix::sub(ix::sub(n[0]->shape[i], n[1 + 2 * i]), n.shape[i]));
  }
  to.add(n[0], make(Op::Pad, src));
}

void window_back(Tape& to, const Node& n, const Term& g) {
  int64_t axis = n.at(0);
  Ref spread = fn::unwindow(g.node, axis, n[0]->shape[static_cast<size_t>(axis)], n.at(1), n.at(2));
  to.add(n[0], fn::reduce(Fold::Sum, {spread}, {axis + 1}, false));
}

/// g with zeros behind, where an unwindow's extent was less than its windows reach: they were left out.
Ref as_far_as_windows(const Node& n, const Ref& g) {
  size_t axis = static_cast<size_t>(n.at(0));
  const Ref &positions = n[0]->shape[axis], &taps = n.shape[axis + 1];
  if (!positions->is_const() || !n.shape[axis]->is_const()) return g;
  int64_t reach = (extent(positions) - 1) * n.at(1) + (extent(taps) - 1) * n.at(2) + 1;
  Ints low_high(2 * n.rank(), 0);
  low_high[2 * axis + 1] = std::max<int64_t>(reach - extent(n.shape[axis]), 0);
  return fn::pad(g, low_high, 0);
}

/// g[i, k] belongs to x[o, k] where i = o*stride + k*dilation: the diagonal j = k of the windows of g.
void unwindow_back(Tape& to, const Node& n, const Term& g) {
  int64_t axis = n.at(0);
  Ref taps = n.shape[static_cast<size_t>(axis) + 1];
  if (is_int(ix::product(n[0]->shape), 0)) return;  // there is nothing to have a gradient
  Ref windows =
      make(Op::Window, {as_far_as_windows(n, g.node)}, {.ints = {axis, n.at(1), n.at(2), extent(taps)}});
  Ref j = fn::iota(taps, DType::I64), k = j;
  for (size_t i = static_cast<size_t>(axis) + 2; i < windows->rank(); i++) j = fn::unsqueeze(j, -1);
  for (size_t i = static_cast<size_t>(axis) + 3; i < windows->rank(); i++) k = fn::unsqueeze(k, -1);
  Ref diagonal = fn::where(fn::eq(j, k), windows, 0.0);
  Ref part = fn::reduce(Fold::Sum, {diagonal}, {axis + 1}, false);
  Dims begin(n.rank(), index(0));
  to.add(n[0], fn::shrink(part, begin, n[0]->shape));
}

// --- folds

Ref spread(const Node& n, const Ref& g) {
  Dims kept = n[0]->shape;
  for (size_t i = 1; i < n.arg.ints.size(); i++) kept[static_cast<size_t>(n.at(i))] = index(1);
  return fn::broadcast(fn::reshape(g, kept), n[0]->shape);
}

Ints reduced_axes(const Node& n) { return as_ints(std::span(n.arg.ints).subspan(1)); }

/// Right where factors are 0: there the product of the others is what counts.
void product_back(Tape& to, const Node& n, const Term& g) {
  Term x = source(n, 0), zero = x == 0.0, safe = where(zero, 1.0, x);
  Ints axes = as_ints(std::span(n.arg.ints).subspan(1));
  Term others(spread(n, fn::reduce(Fold::Prod, {safe.node}, axes, false)));
  Term zeros(spread(n, fn::reduce(Fold::Sum, {zero.as(n.dtype).node}, axes, false)));
  Term up = Term(spread(n, g.node)) * others;
  to.add(n[0], where(zeros == 0.0, up / safe, where(zero & (zeros == 1.0), up, 0.0)).node);
}

void extreme_back(Tape& to, const Node& n, const Term& g) {
  Ints axes = as_ints(std::span(n.arg.ints).subspan(1));
  Term hit = source(n, 0) == Term(spread(n, Ref(&n)));
  Term count(fn::reduce(Fold::Sum, {hit.as(fn::accumulator(n.dtype)).node}, axes, false));
  to.add(n[0], where(hit, Term(spread(n, (wide(g) / count).as(n.dtype).node)), 0.0).node);
}

void dot_back(Tape& to, const Node& n, const Term& g) {
  for (size_t i = 0; i < 2; i++) {
    if (!to.wants(n[i])) continue;
    const DotCotangent c = dot_cotangent(n, g.node, i);
    to.add(c.of, materialised(c));
  }
}

/// Of values (m, l) with the maximum M: dL/dl = exp(m - M), dL/dm = l exp(m - M) less L where M follows m.
void softmax_stats_back(Tape& to, const Node& n, const Term& g) {
  const bool is_sum = part_in(n) == 1;
  const Ref most = with_part(n, 0);
  const Term hit = source(n, 0) == Term(spread(n, most));
  const Term count(fn::reduce(Fold::Sum, {hit.as(n.dtype).node}, reduced_axes(n), false));
  const Term moved = is_sum ? -(g * output_of(n)) : g;  // what the maximum gets
  Term of_max = where(hit, Term(spread(n, (moved / count).node)), 0.0);
  if (!is_sum) return to.add(n[0], of_max.node);
  const Term share = unary("exp", source(n, 0) - Term(spread(n, most))) * Term(spread(n, g.node));
  to.add(n[0], fma(share, source(n, 1), of_max).node);
  to.add(n[1], share.node);
}

/// Of values (n, mean, squares) with the mean M of N: dM/dmean = n / N, dS/dmean = 2 n (mean - M), dS/dsquares = 1. Counts
/// have no slope.
void moments_back(Tape& to, const Node& n, const Term& g) {
  const size_t part = part_in(n);
  if (part == 0) return;
  const Term up(spread(n, g.node)), weight = source(n, 0);
  if (part == 1) return to.add(n[1], (up * weight / Term(spread(n, with_part(n, 0)))).node);
  to.add(n[1], (up * weight * (source(n, 1) - Term(spread(n, with_part(n, 1)))) * 2.0).node);
  to.add(n[2], up.node);
}

/// Of a program's own folds only the values are known, not how they hang on what is folded.
bool is_custom(Tape& to, const Node& n) {
  const Fold fold = fold_in(n);
  if (!row(fold).custom) return false;
  for (const Ref& s : n.src)
    if (is_float(s->dtype) && to.wants(s))
      fail("gradient: the fold '{}' is the program's own and has none; detach() what it folds",
           plain_name(fold));
  return true;
}

void reduce_back(Tape& to, const Node& n, const Term& g) {
  if (is_custom(to, n)) return;
  switch (fold_in(n)) {
    case Fold::Sum:          return to.add(n[0], spread(n, g.node));
    case Fold::Prod:         return product_back(to, n, g);
    case Fold::Max:
    case Fold::Min:          return extreme_back(to, n, g);
    case Fold::Dot:          return dot_back(to, n, g);
    case Fold::ArgMax:
    case Fold::ArgMin:       return;  // of integers
    case Fold::SoftmaxStats: return softmax_stats_back(to, n, g);
    case Fold::Moments:      return moments_back(to, n, g);
    case Fold::Linear:
    case Fold::PairDot:      break;  // no Reduce has the one; the other is made of what has its gradient
  }
  broken("gradient: no row for a reduction by {}", row(fold_in(n)).name);
}

/// What a step hands back to the value that it began with is a recurrence from the end; what it hands to its values is that
/// times their slopes.
void scan_back(Tape& to, const Node& n, const Term& g) {
  if (is_custom(to, n)) return;
  const Fold fold = fold_in(n);
  const int64_t axis = n.at(1);
  const Term before(fn::shifted(Ref(&n), n.src.back(), axis)), one = before.constant(1);
  std::optional<Term> so_far;  // none: 1
  std::vector<Term> slopes(static_cast<size_t>(row(fold).arity), one);
  switch (fold) {
    case Fold::Sum:  break;
    case Fold::Prod: so_far = source(n, 0), slopes[0] = before; break;
    case Fold::Max:
    case Fold::Min:  {
      const Term stays = fold == Fold::Max ? source(n, 0) < before : before < source(n, 0);
      so_far = where(stays, one, 0.0), slopes[0] = where(stays, 0.0, one);
      break;
    }
    case Fold::Dot:    slopes = {source(n, 1), source(n, 0)}; break;
    case Fold::Linear: so_far = source(n, 0), slopes[0] = before; break;
    default:           broken("gradient: a scan by {}", row(fold).name);
  }
  const Term back(fn::from_the_end(so_far ? wide(*so_far).node : Ref(), wide(g).node, axis));
  for (size_t i = 0; i < slopes.size(); i++) to.add(n[i], (back * wide(slopes[i])).as(n.dtype).node);
  if (!to.wants(n.src.back()) || is_int(n.shape[static_cast<size_t>(axis)], 0)) return;
  const Term first = so_far ? back * wide(*so_far) : back;
  to.add(n.src.back(), fn::select(first.as(n.dtype).node, axis, 0));
}

// --- indexed

void gather_back(Tape& to, const Node& n, const Term& g) {
  const Ref values = wide(g).node;
  std::vector<Ref> src{fn::full(n[0]->shape, 0.0, values->dtype), values};
  src.insert(src.end(), n.src.begin() + 1, n.src.end());
  Ints ints{static_cast<int64_t>(Fold::Sum)};
  ints.insert(ints.end(), n.arg.ints.begin(), n.arg.ints.end());
  to.add(n[0], fn::cast(make(Op::Scatter, src, {.ints = ints}), n.dtype));
}

void scatter_back(Tape& to, const Node& n, const Term& g) {
  if (fold_in(n) != Fold::Sum) fail("gradient: a scatter that does not sum");
  to.add(n[0], g.node);
  std::vector<Ref> src{g.node};
  src.insert(src.end(), n.src.begin() + 2, n.src.end());
  to.add(n[1], make(Op::Gather, src, {.ints = as_ints(std::span(n.arg.ints).subspan(1))}));
}

void put_back(Tape& to, const Node& n, const Term& g) {
  std::vector<Ref> zeros{g.node, fn::full(n[1]->shape, 0.0, n.dtype)};
  zeros.insert(zeros.end(), n.src.begin() + 2, n.src.end());
  to.add(n[0], make(Op::Put, zeros));
  Ref box = g.node;
  Dims begin;
  for (size_t i = 0; i < n.rank(); i++) {
    const bool known = n[2 + i]->is_const();
    begin.push_back(known ? n[2 + i] : index(0));
    if (!known) box = fn::slices_from(box, static_cast<int64_t>(i), n[2 + i], n[1]->shape[i]);
  }
  to.add(n[1], fn::shrink(box, begin, n[1]->shape));
}

// --- Calls

void call_back(Tape& to, const Node& n, const Term& g) {
  const CallRow* call = find_call(n.arg.text);
  if (call && call->gradient) return call->gradient(to, n, g);
  const UnaryRow* unary = call ? nullptr : find_unary(n.arg.text);
  if (!unary || !unary->gradient) return to.add(n[0], g.node);
  to.add(n[1], unary->gradient(wide(source(n, 1)), wide(output_of(n)), wide(g)).as(n.dtype).node);
}

// clang-format off
constexpr OpRule<GradientRule> rows[] = {
    {Op::Const, nothing}, {Op::Scalar, nothing}, {Op::Variable, nothing}, {Op::Buffer, nothing}, {Op::Iota, nothing},
    {Op::Mark,     [](Tape& to, const Node& n, const Term& g) { to.add(n[0], g.node); }},
    {Op::Copy,     [](Tape& to, const Node& n, const Term& g) { to.add(n[0], g.node); }},
    {Op::Call,     call_back},
    {Op::Neg,      [](Tape& to, const Node& n, const Term& g) { to.add(n[0], (-g).node); }},
    {Op::Abs,      [](Tape& to, const Node& n, const Term& g) { to.add(n[0], (g * Term(fn::sign(n[0]))).node); }},
    {Op::Sqrt,     [](Tape& to, const Node& n, const Term& g) { to.add(n[0], (g * 0.5 / output_of(n)).node); }},
    {Op::Cast,     [](Tape& to, const Node& n, const Term& g) { if (to.wants(n[0])) to.add(n[0], g.as(n[0]->dtype).node); }},
    {Op::Add,      [](Tape& to, const Node& n, const Term& g) { to.add(n[0], g.node); to.add(n[1], g.node); }},
    {Op::Sub,      [](Tape& to, const Node& n, const Term& g) { to.add(n[0], g.node); if (to.wants(n[1])) to.add(n[1], (-g).node); }},
    {Op::Mul,      multiply},
    {Op::Div,      divide},
    {Op::Max,      max_or_min},
    {Op::Min,      max_or_min},
    {Op::Where,    choose},
    {Op::Fma,      fused},
    {Op::Not, nothing}, {Op::Floor, nothing}, {Op::Ceil, nothing}, {Op::Bitcast, nothing}, {Op::IDiv, nothing}, {Op::Mod, nothing},
    {Op::And, nothing}, {Op::Or, nothing}, {Op::Xor, nothing}, {Op::Shl, nothing}, {Op::Shr, nothing},
    {Op::Sort, nothing}, {Op::Lt, nothing}, {Op::Le, nothing}, {Op::Eq, nothing}, {Op::Ne, nothing},
    {Op::Reshape,  [](Tape& to, const Node& n, const Term& g) { to.add(n[0], fn::reshape(g.node, n[0]->shape)); }},
    {Op::Permute,  permute_back},
    {Op::Expand,   expand_back},
    {Op::Pad,      pad_back},
    {Op::Shrink,   shrink_back},
    {Op::Flip,     [](Tape& to, const Node& n, const Term& g) { to.add(n[0], fn::flip(g.node, n.arg.ints)); }},
    {Op::Window,   window_back},
    {Op::Unwindow, unwindow_back},
    {Op::Reduce,   reduce_back},
    {Op::Scan,     scan_back},
    {Op::Gather,   gather_back},
    {Op::Scatter,  scatter_back},
    {Op::Put,      put_back},
};
// clang-format on

constexpr OpTable<GradientRule> table("gradient", rows);

}  // namespace

bool has_gradient_row(Op op) { return table.has(op); }

void hand_back(Tape& tape) {
  for (size_t i = tape.order().size(); i-- > 0;) {
    const Node& n = *tape.order()[i];
    if (const Ref g = tape.of(&n)) table[n.op](tape, n, Term(g));
  }
}

std::vector<Ref> gradient(const Ref& loss, std::span<const Ref> wrt) {
  Ref count = ix::product(loss->shape);
  if (!is_float(loss->dtype) || !is_int(count, 1))
    fail("gradient: the loss is {}, not one float", describe(*loss));
  Tape tape(loss, wrt);
  hand_back(tape);
  std::vector<Ref> out;
  for (const Ref& w : wrt) {
    Ref g = tape.of(w.get());
    out.push_back(g ? g : fn::full(w->shape, 0.0, w->dtype));
  }
  return out;
}

// Leaves and Marks only, since what is computed may be another node than the one in the loss.
static std::vector<Tensor> gradient_of(const Tensor& loss, std::span<const Tensor> wrt) {
  Ref root = node_of(loss);
  std::vector<Ref> nodes;
  bool itself = false;
  for (const Tensor& t : wrt) {
    nodes.push_back(node_of(t));
    const Node& n = *nodes.back();
    itself = itself || nodes.back() == root;
    if (!is_float(n.dtype))
      fail("gradient: argument {} is {}: integers have no gradient", nodes.size(), describe(n));
    if (!n.is(Op::Buffer) && !n.is(Op::Mark))
      fail("gradient: argument {} ({}) is computed, by {}: realize() it or mark() it before it is used",
           nodes.size(), describe(n), row(n.op).name);
  }
  if (root->is(Op::Buffer) && !itself)
    fail("gradient: the loss was computed already; take gradients before reading it");
  std::vector<Tensor> out;
  for (Ref& g : gradient(root, nodes)) out.push_back(tensor_of(std::move(g)));
  return out;
}

std::vector<Tensor> v0::gradient(const Tensor& loss, std::span<const Tensor> wrt) {
  return guarded("gradient", [&] { return gradient_of(loss, wrt); });
}

}  // namespace kontor
