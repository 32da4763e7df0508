// The rules. What a row says of data and `at` is exact: data * 2^at is the value, bit for bit, wherever no exponent leaves the normal
// range. What it says of `predicted` is where the value is expected to be, for data whose root mean square is about 1.
//   x + y   data: x 2^(ex - e) + y 2^(ey - e)    e = max(ex, ey), which is sqrt(4^ex + 4^ey) rounded down to a power of two
//   x y     data: x y                            e = ex + ey
//   dot     data: dot(x, y)                      at = ex + ey; predicted: the same + log2(sqrt(K)) rounded down
#include "scalify/rules.h"

#include <algorithm>

#include "graph/folds.h"
#include "graph/functions/formula.h"
#include "graph/transforms/op_table.h"

namespace kontor::scalify {

namespace {

using Rule = Scaled (*)(const Step&);

// --- leaves

Scaled leaf(const Step& s) { return {.data = Ref(&s.node)}; }

/// A power of two is an exponent alone: what is multiplied by it costs nothing. (What a program holds in a narrow float of its own
/// stays at exponent 0: rounding it is part of what it means.)
Scaled number(const Step& s) {
  const double value = const_float(s.node);
  Scaled out{.data = Ref(&s.node), .non_negative = value >= 0};
  int64_t k = 0;
  if (!is_narrow(s.node.dtype) && is_power_of_two(value, k)) {
    out.data = constant(s.node.dtype, value < 0 ? -1.0 : 1.0);
    out.at = out.predicted = k;
  } else if (value == 0 || !std::isfinite(value)) {
    out.any_scale = true;
  } else {
    out.predicted = std::ilogb(value);
  }
  return out;
}

/// The bounds of an integer say how large it can be; what it is as a float is known as it is.
Scaled from_integer(const Step& s) {
  return {.data = s.with({}), .non_negative = s[0].data->bounds.lo >= 0 || s[0].data->dtype == DType::Bool};
}

// --- elementwise

/// Known only of values: they are computed at exponent 0, and what comes out is there.
Scaled of_values(const Step& s) {
  std::vector<Ref> values;
  for (size_t i = 0; i < s.from.size(); i++) values.push_back(s.value(i));
  return {.data = s.with(values)};
}

Scaled same(const Step& s) {
  Scaled out = s[0];
  out.data = s.with({});
  return out;
}

Scaled negated(const Step& s) {
  Scaled out = same(s);
  out.non_negative = false;
  return out;
}

Scaled magnitude(const Step& s) {
  Scaled out = same(s);
  out.non_negative = true;
  return out;
}

/// An odd exponent goes into the data: sqrt(x 2^(2k+1)) = sqrt(2 x) 2^k.
Scaled square_root(const Step& s) {
  const Exponent k = half(s[0].at);
  Scaled out = s[0];
  out.data = s.with({times_power(s[0].data, s[0].at - k * 2)});
  out.at = k, out.predicted = half(s[0].predicted), out.non_negative = true;
  return out;
}

Scaled whole_number(const Step& s) {
  Scaled out = of_values(s);
  out.predicted = s[0].predicted, out.non_negative = s[0].non_negative && s.node.is(Op::Floor);
  return out;
}

/// A program's own rounding to a narrower float is of the value; a wider one holds the data as it is.
Scaled cast(const Step& s) {
  const DType from = s[0].data->dtype, to = s.node.dtype;
  if (!is_float(from)) return from_integer(s);
  if (!is_float(to)) return of_values(s);
  Scaled out = s[0];
  const FloatFormat &a = row(from).format, &b = row(to).format;
  const bool widens =
      b.mantissa_bits >= a.mantissa_bits && b.least() <= a.least() && b.greatest() >= a.greatest();
  if (!widens && !s[0].any_scale) out.at = 0;
  out.data = s.with({widens || s[0].any_scale ? s[0].data : s.value(0)});
  return out;
}

Scaled together(const Step& s, std::initializer_list<size_t> sources, std::vector<Ref> before = {}) {
  const Aligned a = aligned(s, sources);
  before.insert(before.end(), a.data.begin(), a.data.end());
  return {s.with(before), a.at, a.predicted, a.any_scale, a.non_negative};
}

Scaled sum(const Step& s) {
  Scaled out = together(s, {0, 1});
  out.non_negative = out.non_negative && s.node.is(Op::Add);
  // Rounded up, sqrt(4^a + 4^b) is above both; to the nearest it is the greater one, as rounded down.
  if (s.options.rounding == ScaleRounding::Up && !s[0].any_scale && !s[1].any_scale)
    out.predicted = out.predicted + 1;
  return out;
}

Scaled extreme(const Step& s) {
  Scaled out = together(s, {0, 1});
  if (s.node.is(Op::Max)) out.non_negative = s[0].non_negative || s[1].non_negative;
  return out;
}

Scaled product(const Step& s) {
  const bool square = s.node[0] == s.node[1];
  return {s.with({}), s[0].at + s[1].at, s[0].predicted + s[1].predicted, s[0].any_scale || s[1].any_scale,
          square || (s[0].non_negative && s[1].non_negative)};
}

Scaled quotient(const Step& s) {
  return {s.with({}), s[0].at - s[1].at, s[0].predicted - s[1].predicted, s[0].any_scale || s[1].any_scale,
          s[0].non_negative && s[1].non_negative};
}

/// x y + z at one exponent: the factor goes to x, which it does not round.
Scaled fused(const Step& s) {
  const Scaled xy{{}, s[0].at + s[1].at, s[0].predicted + s[1].predicted, s[0].any_scale || s[1].any_scale};
  const Scaled& z = s[2];
  const bool same_sign = s.node[0] == s.node[1] || (s[0].non_negative && s[1].non_negative);
  Scaled out{
      .data = {}, .any_scale = xy.any_scale && z.any_scale, .non_negative = same_sign && z.non_negative};
  out.at = z.any_scale ? xy.at : xy.any_scale ? z.at : max(xy.at, z.at);
  out.predicted = z.any_scale ? xy.predicted : xy.any_scale ? z.predicted : max(xy.predicted, z.predicted);
  const Ref x = xy.any_scale ? s[0].data : times_power(s[0].data, xy.at - out.at);
  out.data = s.with({x, s[1].data, z.any_scale ? z.data : times_power(z.data, z.at - out.at)});
  return out;
}

/// Exponents that f32 data may be apart without one of two numbers vanishing that the other would have to be told from.
constexpr int64_t comparable = 32;

Scaled comparison(const Step& s) {
  const Scaled &a = s[0], &b = s[1];
  const Exponent apart = a.at - b.at;
  if (a.any_scale || b.any_scale || apart.is_zero()) return {.data = s.with({})};
  if (apart.is_static() && std::abs(apart.fixed) <= comparable)
    return {.data = s.with(aligned(s, {0, 1}).data)};
  // In f64 both have room, whatever lies between them.
  const Ref x = fn::cast(a.data, DType::F64), y = fn::cast(b.data, DType::F64);
  const Exponent down = min(apart, 0), up = max(apart, 0);
  return {.data = s.with({times_power(x, down), times_power(y, -up)})};
}

Scaled choice(const Step& s) { return together(s, {1, 2}, {s[0].data}); }

// --- movement: of positions and extents nothing changes

Scaled pad(const Step& s) { return together(s, {0, 1}); }

// --- folds

std::span<const int64_t> axes_of(const Node& n) { return std::span(n.arg.ints).subspan(1); }

Scaled total(const Step& s) {
  Scaled out = same(s);
  out.predicted = out.predicted + s.growth(count_along(s.node[0]->shape, axes_of(s.node)), s[0].non_negative);
  return out;
}

Scaled dot(const Step& s) {
  Scaled out = product(s);
  out.predicted = out.predicted + s.growth(count_along(s.node[0]->shape, axes_of(s.node)), out.non_negative);
  return out;
}

/// As far as the exponent of n factors is one that an f32 has.
Scaled product_of_all(const Step& s) {
  constexpr int64_t most = 120;
  const int64_t count = count_along(s.node[0]->shape, axes_of(s.node));
  const auto fits = [&](const Exponent& e) { return e.is_static() && std::abs(e.fixed) * count <= most; };
  Scaled out = s[0];
  const bool as_it_is = s[0].any_scale || (count > 0 && fits(s[0].at)) || s[0].at.is_zero();
  out.data = s.with({as_it_is ? s[0].data : s.value(0)});
  out.at = as_it_is ? s[0].at * count : 0;
  out.predicted = count > 0 && fits(s[0].predicted) ? s[0].predicted * count : Exponent();
  return out;
}

/// Counts have no scale; means and squared distances have.
Scaled moments(const Step& s) {
  Scaled out = of_values(s);
  const Exponent of_mean = s[1].predicted;
  const int64_t grown = s.growth(count_along(s.node[0]->shape, axes_of(s.node)), true);
  const Exponent predicted[] = {0, of_mean, of_mean * 2 + grown};
  out.predicted = predicted[part_in(s.node)];
  return out;
}

Scaled reduce(const Step& s) {
  switch (fold_in(s.node)) {
    case Fold::Sum:     return total(s);
    case Fold::Dot:     return dot(s);
    case Fold::Prod:    return product_of_all(s);
    case Fold::Max:
    case Fold::Min:     return same(s);
    case Fold::Moments: return moments(s);
    default:            return of_values(s);  // the softmax's pair, places, and a program's own
  }
}

/// What steps begin with is the last source, at the exponent of what they make.
Scaled scan(const Step& s) {
  const size_t axis = static_cast<size_t>(s.node.at(1)), start = s.from.size() - 1;
  const int64_t along[] = {static_cast<int64_t>(axis)}, count = count_along(s.node[0]->shape, along);
  switch (fold_in(s.node)) {
    case Fold::Max:
    case Fold::Min: return together(s, {0, 1});
    case Fold::Sum: {
      Scaled out = together(s, {0, 1});
      const Exponent grown = s[0].predicted + s.growth(count, s[0].non_negative);
      out.predicted = s[1].any_scale ? grown : max(grown, s[1].predicted);
      return out;
    }
    case Fold::Linear: {  // state * a + b: a is a number, b and the state are of one scale
      Scaled out = together(s, {1, start}, {s.value(0)});
      out.non_negative = false;
      return out;
    }
    case Fold::Dot: {
      const Exponent xy = s[0].at + s[1].at, grown = s[0].predicted + s[1].predicted + s.growth(count, false);
      const Exponent at = s[2].any_scale ? xy : max(xy, s[2].at);
      const Ref x = times_power(s[0].data, xy - at),
                begin = s[2].any_scale ? s[2].data : times_power(s[2].data, s[2].at - at);
      return {s.with({x, s[1].data, begin}), at, s[2].any_scale ? grown : max(grown, s[2].predicted)};
    }
    default: return of_values(s);
  }
}

// --- indexed

/// Values folded into a base: terms of one place add up as far as there are more values than places.
Scaled scatter(const Step& s) {
  const Fold fold = fold_in(s.node);
  if (fold != Fold::Sum && fold != Fold::Max && fold != Fold::Min) return of_values(s);
  Scaled out = together(s, {0, 1});
  if (fold != Fold::Sum) return out;
  int64_t values = 1, places = 1;
  for (const Ref& d : s.node[1]->shape) values *= d->is_const() ? extent(d) : 0;
  for (const Ref& d : s.node[0]->shape) places *= d->is_const() ? extent(d) : 1;
  const Exponent grown = s[1].predicted + s.growth(values / std::max<int64_t>(places, 1), s[1].non_negative);
  out.predicted = s[0].any_scale ? grown : max(s[0].predicted, grown);
  return out;
}

Scaled put(const Step& s) { return together(s, {0, 1}); }

Scaled source_itself(const Step& s) { return s[0]; }

/// Only of integers, or of none: what is reached by nothing that has a scale.
Scaled plain(const Step& s) { return {.data = s.with({})}; }

// clang-format off
constexpr OpRule<Rule> rows[] = {
    {Op::Const, number},
    {Op::Scalar, leaf}, {Op::Variable, leaf}, {Op::Buffer, leaf}, {Op::Iota, leaf},
    {Op::Mark,     source_itself},
    {Op::Copy,     same},
    {Op::Neg,      negated},
    {Op::Abs,      magnitude},
    {Op::Sqrt,     square_root},
    {Op::Floor,    whole_number},
    {Op::Ceil,     whole_number},
    {Op::Cast,     cast},
    {Op::Bitcast,  of_values},
    {Op::Add,      sum},
    {Op::Sub,      sum},
    {Op::Mul,      product},
    {Op::Div,      quotient},
    {Op::Max,      extreme},
    {Op::Min,      extreme},
    {Op::Lt, comparison}, {Op::Le, comparison}, {Op::Eq, comparison}, {Op::Ne, comparison},
    {Op::Where,    choice},
    {Op::Fma,      fused},
    {Op::Not, plain}, {Op::IDiv, plain}, {Op::Mod, plain}, {Op::And, plain}, {Op::Or, plain}, {Op::Xor, plain},
    {Op::Shl, plain}, {Op::Shr, plain}, {Op::Sort, plain},
    {Op::Reshape, same}, {Op::Permute, same}, {Op::Expand, same}, {Op::Shrink, same}, {Op::Flip, same},
    {Op::Window, same}, {Op::Unwindow, same},
    {Op::Pad,      pad},
    {Op::Reduce,   reduce},
    {Op::Scan,     scan},
    {Op::Gather,   same},
    {Op::Scatter,  scatter},
    {Op::Put,      put},
};
// clang-format on

constexpr OpTable<Rule> table("scalify", rows);

bool is_of_floats(const Step& s) {
  return is_float(s.node.dtype) ||
         std::ranges::any_of(s.from, [](const Scaled* x) { return is_float(x->data->dtype); });
}

}  // namespace

bool has_rule(Op op) { return table.has(op) || op == Op::Call; }

Scaled scaled(const Step& step) {
  const Rule rule = table[step.node.op];
  return is_of_floats(step) ? rule(step) : plain(step);
}

}  // namespace kontor::scalify
