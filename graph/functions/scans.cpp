// Scans: what a fold has come to after each element of an axis. Long axes are cut into pieces that run side by side.
#include <limits>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

constexpr int64_t longest_piece = 4096, shortest_piece = 1024;

/// Elements in a piece of an axis of n: a number that divides n if there is one of about this size, so that none is padded.
int64_t piece_length(int64_t n) {
  for (int64_t length = longest_piece; length >= shortest_piece; length--)
    if (n % length == 0) return length;
  return longest_piece;
}

Dims without(const Dims& shape, int64_t axis) {
  Dims out = shape;
  out.erase(out.begin() + axis);
  return out;
}

Ref everywhere(const Ref& x, int64_t axis, double value) {
  return splat(constant(x->dtype, value), without(x->shape, axis));
}

/// x with `low` and `high` zeros around an axis.
Ref with_zeros(const Ref& x, int64_t axis, int64_t low, const Ref& high) {
  std::vector<Ref> src{x, constant(x->dtype, int64_t{0})};
  for (int64_t a = 0; a < static_cast<int64_t>(x->rank()); a++) {
    src.push_back(index(a == axis ? low : 0));
    src.push_back(a == axis ? high : index(0));
  }
  return make(Op::Pad, src);
}

/// The first n elements of an axis.
Ref first(const Ref& x, int64_t axis, const Ref& n) {
  Dims size = x->shape;
  size[static_cast<size_t>(axis)] = n;
  return shrink(x, Dims(x->rank(), index(0)), size);
}

/// The axis as two: pieces, and the elements of each.
Ref in_pieces(const Ref& x, int64_t axis, int64_t length) {
  const Ref &n = x->shape[static_cast<size_t>(axis)], count = ix::ceil_div(n, index(length));
  const Ref rest = ix::sub(ix::mul(count, length), n);
  const Ref padded = is_int(rest, 0) ? x : with_zeros(x, axis, 0, rest);
  Dims shape = without(x->shape, axis);
  shape.insert(shape.begin() + axis, {count, index(length)});
  return reshape(padded, shape);
}

Ref whole(const Ref& pieces, const Dims& shape, int64_t axis) {
  Dims joined = shape;
  const size_t a = static_cast<size_t>(axis);
  joined[a] = ix::mul(pieces->shape[a], pieces->shape[a + 1]);
  return first(reshape(pieces, joined), axis, shape[a]);
}

Ref chain(Fold fold, std::vector<Ref> sources, const Ref& start, int64_t axis) {
  sources.push_back(start);
  return make(Op::Scan, sources, {.ints = {static_cast<int64_t>(fold), axis}});
}

/// Whether a long axis runs in pieces: a product of a piece, or of its factors, may overflow where no element of the scan does.
bool runs_in_pieces(Fold fold) { return row(fold).splits && row(fold).merge != Fold::Prod; }

/// `before` (of x's shape without the axis) and then x along the axis.
Ref put_in_front(const Ref& before, const Ref& x, int64_t axis) {
  const Ref longer = with_zeros(x, axis, 1, index(0));
  Ref position = iota(longer->shape[static_cast<size_t>(axis)], DType::I64);
  while (static_cast<int64_t>(x->rank()) - static_cast<int64_t>(position->rank()) > axis)
    position = unsqueeze(position, -1);
  return where(eq(position, 0), broadcast(unsqueeze(before, axis), longer->shape), longer);
}

/// What each piece begins with: of the last nothing is asked.
Ref starts_of(Fold fold, const std::vector<Ref>& pieces, const Ref& start, int64_t axis) {
  std::vector<Ref> earlier;
  for (const Ref& p : pieces)
    earlier.push_back(first(p, axis, ix::sub(p->shape[static_cast<size_t>(axis)], index(1))));
  const Ref totals = reduce(fold, earlier, {axis + 1}, false);
  return put_in_front(start, running(row(fold).merge, {totals}, start, axis), axis);
}

/// x along an axis, from the fold's identity; rounded once where x is narrower than what sums are computed in.
Ref from_identity(std::string_view who, Fold fold, const Ref& x, int64_t which) {
  const Ref wide = fold == Fold::Sum || fold == Fold::Prod ? in_accumulator(x) : x;
  return cast(running(who, fold, {wide}, which), x->dtype);
}

}  // namespace

Ref running(Fold fold, const std::vector<Ref>& values, const Ref& start, int64_t axis) {
  const Ref& n = values[0]->shape[static_cast<size_t>(axis)];
  if (!n->is_const() || extent(n) <= longest_piece || !runs_in_pieces(fold))
    return chain(fold, values, start, axis);
  std::vector<Ref> pieces;
  for (const Ref& v : values) pieces.push_back(in_pieces(v, axis, piece_length(extent(n))));
  const Ref starts = starts_of(fold, pieces, start, axis);
  return whole(chain(fold, pieces, starts, axis + 1), values[0]->shape, axis);
}

Ref running(std::string_view who, Fold fold, const std::vector<Ref>& values, int64_t which) {
  const Ref& x = values[0];
  const int64_t axis = axis_of(who, *x, which);
  return running(fold, values, splat(identity(fold, x->dtype), without(x->shape, axis)), axis);
}

Ref shifted(const Ref& x, const Ref& before, int64_t axis) {
  return first(put_in_front(before, x, axis), axis, x->shape[static_cast<size_t>(axis)]);
}

Ref from_the_end(const Ref& slope, const Ref& g, int64_t axis) {
  const Ref zero = everywhere(g, axis, 0);
  if (!slope) return flip(running(Fold::Sum, {flip(g, Ints{axis})}, zero, axis), Ints{axis});
  const Ref slopes = shifted(flip(slope, Ints{axis}), zero, axis);
  return flip(running(Fold::Linear, {slopes, flip(g, Ints{axis})}, zero, axis), Ints{axis});
}

Ref cumsum(const Ref& x, int64_t axis) { return from_identity("cumsum", Fold::Sum, widened(x), axis); }
Ref cumprod(const Ref& x, int64_t axis) { return from_identity("cumprod", Fold::Prod, widened(x), axis); }
Ref cummax(const Ref& x, int64_t axis) { return from_identity("cummax", Fold::Max, x, axis); }
Ref cummin(const Ref& x, int64_t axis) { return from_identity("cummin", Fold::Min, x, axis); }

Ref linear_scan(const Input& a, const Input& b, int64_t which) {
  const Input operands[] = {a, b};
  const DType dtype = operand_dtype("linear_scan", operands);
  if (!is_float(dtype)) fail("linear_scan: takes floats, not {}", name(dtype));
  const std::vector<Ref> given = align("linear_scan", operands, dtype);
  const int64_t axis = axis_of("linear_scan", *given[1], which);
  const Ref x = in_accumulator(given[0]), y = in_accumulator(given[1]);
  return cast(running(Fold::Linear, {x, y}, everywhere(y, axis, 0), axis), dtype);
}

/// The greatest so far, and the sum of exp(x - it), which shrinks where a greater one comes.
Ref logcumsumexp(const Ref& given, int64_t which) {
  const Ref arg = as_float(given), x = in_accumulator(arg);
  const int64_t axis = axis_of("logcumsumexp", *x, which);
  const Ref greatest = detach(cummax(x, axis));
  const Ref none = splat(identity(Fold::Max, x->dtype), without(x->shape, axis));
  const Term most(greatest), size = abs(most);
  const Term shift = where(size == number(size, std::numeric_limits<double>::infinity()), 0.0, most);
  const Term before(shifted(greatest, none, axis));
  const Ref terms = linear_scan(unary("exp", before - shift).node, unary("exp", Term(x) - shift).node, axis);
  const Term sum(terms), nothing = sum == 0.0;  // so far, but for -inf: it has no slope
  const Term value = unary("log", where(nothing, 1.0, sum)) + shift;
  return cast(where(nothing, most, value).node, arg->dtype);
}

}  // namespace kontor::fn
