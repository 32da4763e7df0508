// Folds and what is made of them: sums, extremes, moments, softmax, losses, norms.
#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

Ints axes_of(std::string_view who, const Ref& x, const AxisList& axes) {
  Ints out(x->rank());
  std::iota(out.begin(), out.end(), 0);
  if (!axes) return out;
  out.clear();
  for (int64_t a : *axes) out.push_back(axis_of(who, *x, a));
  std::sort(out.begin(), out.end());
  if (std::adjacent_find(out.begin(), out.end()) != out.end())
    fail("{}: {}: an axis is named twice in ({})", who, describe(*x), fmt::join(*axes, ", "));
  return out;
}

static Ref with_axes_kept(const Ref& reduced, const Node& from, const Ints& axes) {
  Dims shape = from.shape;
  for (int64_t a : axes) shape[static_cast<size_t>(a)] = index(1);
  return reshape(reduced, shape);
}

Ref reduce(Fold fold, const std::vector<Ref>& sources, const Ints& axes, bool keepdims) {
  if (axes.empty() && !row(fold).is_dot) return sources[0];
  Ints ints{static_cast<int64_t>(fold)};
  ints.insert(ints.end(), axes.begin(), axes.end());
  const bool rounds = fold != Fold::Max && fold != Fold::Min;
  std::vector<Ref> terms;
  for (const Ref& s : sources) terms.push_back(rounds ? in_accumulator(s) : s);
  Ref out = cast(make(Op::Reduce, terms, {.ints = ints}), sources[0]->dtype);
  return keepdims ? with_axes_kept(out, *sources[0], axes) : out;
}

Ref part_of(Fold fold, size_t part, const std::vector<Ref>& values, const Ints& axes, bool keepdims) {
  Ints ints{fold_code(fold, part)};
  ints.insert(ints.end(), axes.begin(), axes.end());
  const Ref out = make(Op::Reduce, values, {.ints = ints});
  return keepdims ? with_axes_kept(out, *values[0], axes) : out;
}

Ref widened(const Ref& x) {
  Kind k = kind(x->dtype);
  if (k == Kind::Float) return x;
  return cast(x, k == Kind::Unsigned ? DType::U64 : DType::I64);
}

Ref sum(const Ref& x, const AxisList& axes, bool keepdims) {
  return reduce(Fold::Sum, {widened(x)}, axes_of("sum", x, axes), keepdims);
}

Ref prod(const Ref& x, const AxisList& axes, bool keepdims) {
  return reduce(Fold::Prod, {widened(x)}, axes_of("prod", x, axes), keepdims);
}

static void require_elements(std::string_view who, const Ref& x, const Ints& axes) {
  for (int64_t a : axes)
    if (is_int(x->shape[static_cast<size_t>(a)], 0))
      fail("{}: {}: axis {} has no elements", who, describe(*x), a);
}

static Ref extreme(std::string_view who, Fold fold, const Ref& x, const AxisList& axes, bool keepdims) {
  Ints which = axes_of(who, x, axes);
  require_elements(who, x, which);
  return reduce(fold, {x}, which, keepdims);
}

Ref max(const Ref& x, const AxisList& axes, bool keepdims) {
  return extreme("max", Fold::Max, x, axes, keepdims);
}
Ref min(const Ref& x, const AxisList& axes, bool keepdims) {
  return extreme("min", Fold::Min, x, axes, keepdims);
}

static Ref count_of(const Ref& x, const Ints& axes) {
  Ref n = index(1);
  for (int64_t a : axes) n = ix::mul(n, x->shape[static_cast<size_t>(a)]);
  return n;
}

/// Whether a row is read from memory anew by each pass over it: then one pass pays, though it computes more (bench/RESULTS.md).
static bool is_beyond_caches(const Ref& x, const Ints& axes) {
  constexpr int64_t most = 1 << 17;  // 512 KiB of f32, half of the L2 cache of a Zen 4
  return count_of(x, axes)->bounds.lo > most;
}

/// Divides by `count` - correction; a count that is known is multiplied as a divisor once, not as a reciprocal.
static Ref divided(const Ref& total, const Ref& count, int64_t correction) {
  Ref n = ix::sub(count, index(correction));
  Ref divisor = n->is_const() ? constant(total->dtype, static_cast<double>(n->at(0))) : cast(n, total->dtype);
  return div(total, divisor);
}

/// What a mean is computed in: of integers the exact sum, as far as a 64-bit one holds it.
static Ref mean_terms(const Ref& x) {
  if (is_float(x->dtype)) return in_accumulator(x);
  return row(x->dtype).bits < 64 ? widened(x) : cast(x, DType::F64);
}

Ref mean(const Ref& x, const AxisList& axes, bool keepdims) {
  Ints which = axes_of("mean", x, axes);
  Ref total = reduce(Fold::Sum, {mean_terms(x)}, which, keepdims);
  return cast(divided(as_float(total), count_of(x, which), 0), is_float(x->dtype) ? x->dtype : DType::F32);
}

/// x - y of integers as f32: the difference is exact, whatever lies between.
static Ref difference(const Ref& x, const Ref& y) {
  Term a(x), b(y), below = a < b;
  Term size = where(below, b - a, a - b).as(DType::U64).as(DType::F32);
  return where(below, -size, size).node;
}

/// x less the first element along the axes, as floats to sum up: as large as the elements differ, not as they are, so
/// that sums keep the digits that a variance is made of. The first element is one of those summed up: it is never further
/// from the mean than the square root of their number times the deviation.
static Ref from_first(const Ref& x, const Ints& axes) {
  Dims begin(x->rank(), index(0)), size = x->shape;
  bool some = true;
  for (int64_t a : axes) {
    some = some && size[static_cast<size_t>(a)]->bounds.lo > 0;
    size[static_cast<size_t>(a)] = index(1);
  }
  const bool exact = is_float(x->dtype) || row(x->dtype).bits <= 16;  // as floats
  const Ref terms = exact ? in_accumulator(as_float(x)) : widened(x);
  if (!some || axes.empty()) return as_float(terms);
  const Ref first = broadcast(detach(shrink(terms, begin, size)), x->shape);
  return exact ? sub(terms, first) : difference(terms, first);
}

/// x less its mean along the axes, as floats to sum up.
static Ref centred(const Ref& x, const Ints& axes) {
  const Ref far = from_first(x, axes);
  return sub(far, mean(far, axes, true));
}

Ref var(const Ref& x, const AxisList& axes, bool keepdims, int64_t correction) {
  Ints which = axes_of("var", x, axes);
  const Ref count = count_of(x, which);
  if (count->bounds.hi <= correction)
    fail("var: {} over axes ({}): {} values with a correction of {}", describe(*x), fmt::join(which, ", "),
         describe_dim(count), correction);
  // Distances from a mean that was rounded add up to something: the square of their mean is what that adds to the squares'.
  if (is_beyond_caches(x, which)) {
    const Ref far = from_first(x, which), one = splat(constant(far->dtype, int64_t{1}), far->shape);
    const Ref squares =
        part_of(Fold::Moments, 2, {one, far, fill(far->dtype, 0, far->shape)}, which, keepdims);
    return cast(divided(squares, count, correction), is_float(x->dtype) ? x->dtype : DType::F32);
  }
  const Ref far = centred(x, which);
  const Ref squares = reduce(Fold::Sum, {square(far)}, which, keepdims);
  const Ref rest = detach(reduce(Fold::Sum, {far}, which, keepdims));
  const Ref total = sub(squares, mul(rest, divided(rest, count, 0)));
  return cast(divided(total, count, correction), is_float(x->dtype) ? x->dtype : DType::F32);
}

Ref any(const Ref& x, const AxisList& axes, bool keepdims) {
  return reduce(Fold::Max, {cast(x, DType::Bool)}, axes_of("any", x, axes), keepdims);
}

Ref all(const Ref& x, const AxisList& axes, bool keepdims) {
  return reduce(Fold::Min, {cast(x, DType::Bool)}, axes_of("all", x, axes), keepdims);
}

/// Positions along an axis, to be read beside x.
static Ref positions(const Ref& x, int64_t axis, DType dtype) {
  Ref at = iota(x->shape[static_cast<size_t>(axis)], dtype);
  for (int64_t i = axis + 1; i < static_cast<int64_t>(x->rank()); i++) at = unsqueeze(at, -1);
  return at;
}

/// Of an axis that the fold's index does not count: the least position of what equals the extreme, or is NaN.
static Ref long_position(const Ref& x, int64_t axis, bool greatest, bool keepdims) {
  Ref hit = eq(x, reduce(greatest ? Fold::Max : Fold::Min, {x}, {axis}, true));
  if (is_float(x->dtype)) hit = logical_or(hit, isnan(x));
  const Ref last = ix::sub(x->shape[static_cast<size_t>(axis)], index(1));
  return reduce(Fold::Min, {where(hit, positions(x, axis, DType::I64), Input(last))}, {axis}, keepdims);
}

/// Integers that order as x does, with -0 equal to 0. NaN is the greatest, or the least.
static Ref ordered(const Ref& x, bool nan_is_greatest) {
  if (!is_float(x->dtype)) return x;
  const DType wide = x->dtype == DType::F64 ? DType::F64 : DType::F32;
  const DType integer = wide == DType::F64 ? DType::I64 : DType::I32;
  const DType natural = unsigned_of(row(integer).bits);
  const int64_t most = dtype_bounds(integer).hi;
  const Term value = Term(x).as(wide), bits = (value + 0.0).bits(integer);
  const Term negative = bits >> (row(integer).bits - 1);  // all bits, or none
  const Term key = bits ^ (negative.bits(natural) >> 1).bits(integer);
  return where(value != value, key.integer(nan_is_greatest ? most : -most - 1), key).node;
}

/// The position of the first that is as far out as any; NaN is further out than numbers.
static Ref position(Fold fold, const Ref& x, std::optional<int64_t> axis, bool keepdims) {
  if (!axis) return position(fold, reshape(x, {ix::product(x->shape)}), 0, false);
  const std::string_view who = row(fold).name;
  const int64_t a = axis_of(who, *x, *axis);
  require_elements(who, x, {a});
  if (x->shape[static_cast<size_t>(a)]->bounds.hi > std::numeric_limits<int32_t>::max())
    return long_position(x, a, fold == Fold::ArgMax, keepdims);
  const Ref at = broadcast(positions(x, a, DType::I32), x->shape);
  return cast(part_of(fold, 1, {ordered(x, fold == Fold::ArgMax), at}, {a}, keepdims), DType::I64);
}

Ref argmax(const Ref& x, std::optional<int64_t> axis, bool keepdims) {
  return position(Fold::ArgMax, x, axis, keepdims);
}
Ref argmin(const Ref& x, std::optional<int64_t> axis, bool keepdims) {
  return position(Fold::ArgMin, x, axis, keepdims);
}

Ref softmax(const Ref& given, int64_t which) {
  int64_t axis = axis_of("softmax", *given, which);
  Ref arg = as_float(given), x = in_accumulator(arg);
  Ref e = unary("exp", sub(x, extreme("softmax", Fold::Max, x, Ints{axis}, true)));
  // One division a row: its reciprocal costs half an ulp more and a quarter of the time.
  Ref out = mul(e, div(1, reduce(Fold::Sum, {e}, {axis}, true)));
  return call("softmax", cast(out, arg->dtype), {arg}, {axis});
}

Ref logsumexp(const Ref& given, const AxisList& axes, bool keepdims) {
  const Ints which = axes_of("logsumexp", given, axes);
  const Ref arg = as_float(given), x = in_accumulator(arg);
  Ref greatest, sum;
  if (is_beyond_caches(x, which)) {
    const Ref one = splat(constant(x->dtype, int64_t{1}), x->shape);
    greatest = part_of(Fold::SoftmaxStats, 0, {x, one}, which, true);
    sum = part_of(Fold::SoftmaxStats, 1, {x, one}, which, true);
  } else {
    const Term most(reduce(Fold::Max, {x}, which, true)), size = abs(most);
    greatest = where(size == number(size, std::numeric_limits<double>::infinity()), 0.0, most).node;
    sum = reduce(Fold::Sum, {unary("exp", sub(x, greatest))}, which, true);
  }
  const Ref out = call("logsumexp", cast(add(greatest, unary("log", sum)), arg->dtype), {arg});
  return keepdims ? out : squeeze(out, which);
}

/// log of the sum of exp along `axis`, which is kept.
static Ref log_sum_exp(const Ref& x, int64_t axis, const Ref& greatest) {
  return unary("log", reduce(Fold::Sum, {unary("exp", sub(x, greatest))}, {axis}, true));
}

Ref log_softmax(const Ref& given, int64_t which) {
  int64_t axis = axis_of("log_softmax", *given, which);
  Ref arg = as_float(given), x = in_accumulator(arg);
  Ref greatest = extreme("log_softmax", Fold::Max, x, Ints{axis}, true);
  Ref out = sub(sub(x, greatest), log_sum_exp(x, axis, greatest));
  return call("log_softmax", cast(out, arg->dtype), {arg}, {axis});
}

/// Negative indices count from the end; what is out of range stays so.
Ref from_start(const Ref& indices, const Ref& dim) {
  if (kind(indices->dtype) != Kind::Signed) return indices;
  Ref at = dim->bounds.hi > dtype_bounds(indices->dtype).hi ? cast(indices, DType::I64) : indices;
  return where(lt(at, 0), add(at, cast(broadcast(dim, at->shape), at->dtype)), at);
}

void check_indices(std::string_view who, const Ref& x, const Ref& indices) {
  if (!is_integer(indices->dtype))
    fail("{}: {} by {}: indices are integers", who, describe(*x), describe(*indices));
}

Ref element_of_rows(const Ref& x, const Ref& at) {
  std::vector<Ref> src{x};
  Ints axes;
  for (size_t i = 0; i < x->rank(); i++) axes.push_back(static_cast<int64_t>(i));
  for (size_t i = 0; i < at->rank(); i++) {
    Ref row_number = iota(at->shape[i], DType::I64);
    for (size_t j = i + 1; j < at->rank(); j++) row_number = unsqueeze(row_number, -1);
    src.push_back(broadcast(row_number, at->shape));
  }
  src.push_back(at);
  return make(Op::Gather, src, {.ints = axes});
}

Ref pick(const Ref& x, const Ref& indices) {
  check_indices("pick", x, indices);
  if (x->rank() != indices->rank() + 1 ||
      !std::equal(indices->shape.begin(), indices->shape.end(), x->shape.begin()))
    fail("pick: {} by {}: needs one index for each row", describe(*x), describe(*indices));
  return element_of_rows(x, from_start(indices, x->shape.back()));
}

Ref cross_entropy_of_rows(const Ref& logits, const Ref& labels) {
  if (logits->rank() == 0 || logits->rank() != labels->rank() + 1 || !is_integer(labels->dtype))
    fail("cross_entropy: {} by {}: needs logits [.., classes] and integer labels [..]", describe(*logits),
         describe(*labels));
  if (!std::equal(labels->shape.begin(), labels->shape.end(), logits->shape.begin()))
    fail("cross_entropy: {} by {}: needs one label for each row", describe(*logits), describe(*labels));
  Ref arg = as_float(logits), x = in_accumulator(arg);
  int64_t axis = static_cast<int64_t>(x->rank()) - 1;
  Ref greatest = extreme("cross_entropy", Fold::Max, x, Ints{axis}, true);
  Ref total = squeeze(add(log_sum_exp(x, axis, greatest), greatest), Ints{axis});
  // A label is a class: -1 is none, not the last one.
  return call("cross_entropy", cast(sub(total, element_of_rows(x, labels)), arg->dtype), {arg, labels});
}

static Ref normalised(const Ref& x, const Ints& axes, double eps) {
  Ref far = centred(x, axes);
  Ref variance = mean(square(far), axes, true);
  return mul(far, unary("rsqrt", add(variance, Input(eps))));
}

/// `x`, which has sums of `given` in it, times weight plus bias, rounded once.
static Ref scaled(std::string_view who, const Ref& given, const Ref& x, const Ref& weight, const Ref& bias,
                  const Dims& shape, size_t first) {
  Dims aligned(x->rank(), index(1));
  std::copy(shape.begin(), shape.end(), aligned.begin() + static_cast<ptrdiff_t>(first));
  Ref out = x;
  DType dtype = as_float(given)->dtype;
  for (const Ref& p : {weight, bias}) {
    if (!p) continue;
    if (p->shape != shape)
      fail("{}: {}: weight and bias are {}, not {}", who, describe(*given), describe_shape(p->shape),
           describe_shape(shape));
    dtype = promote(dtype, p->dtype);
    const Ref factor = reshape(in_accumulator(p), aligned);
    out = p == weight && out == x ? mul(out, factor) : add(out, factor);
  }
  return cast(out, dtype);
}

Ref layer_norm(const Ref& given, int64_t axes, const Ref& weight, const Ref& bias, double eps) {
  int64_t rank = static_cast<int64_t>(given->rank());
  if (axes < 1 || axes > rank) fail("layer_norm: {}: over the last {} axes", describe(*given), axes);
  Ints over;
  for (int64_t a = rank - axes; a < rank; a++) over.push_back(a);
  Dims shape(given->shape.end() - axes, given->shape.end());
  return scaled("layer_norm", given, normalised(given, over, eps), weight, bias, shape,
                static_cast<size_t>(rank - axes));
}

Ref instance_norm(const Ref& given, const Ref& weight, const Ref& bias, double eps) {
  if (given->rank() < 3) fail("instance_norm: {}: needs [n, c, ..]", describe(*given));
  Ints over;
  for (int64_t a = 2; a < static_cast<int64_t>(given->rank()); a++) over.push_back(a);
  return scaled("instance_norm", given, normalised(given, over, eps), weight, bias, {given->shape[1]}, 1);
}

Ref group_norm(const Ref& given, int64_t groups, const Ref& weight, const Ref& bias, double eps) {
  if (given->rank() < 2) fail("group_norm: {}: needs [n, c, ..]", describe(*given));
  const Ref& channels = given->shape[1];
  if (!channels->is_const() || groups < 1 || extent(channels) % groups != 0)
    fail("group_norm: {}: {} groups of {} channels", describe(*given), groups, describe_dim(channels));
  Dims apart = given->shape;
  apart[1] = index(groups);
  apart.insert(apart.begin() + 2, index(extent(channels) / groups));
  Ints over;
  for (int64_t a = 2; a < static_cast<int64_t>(apart.size()); a++) over.push_back(a);
  const Ref normal = reshape(normalised(reshape(given, apart), over, eps), given->shape);
  return scaled("group_norm", given, normal, weight, bias, {channels}, 1);
}

Ref batch_norm(const Ref& given, const Ref& centre, const Ref& variance, const Ref& weight, const Ref& bias,
               double eps) {
  constexpr std::string_view who = "batch_norm";
  if (given->rank() < 2) fail("{}: {}: needs [n, c, ..]", who, describe(*given));
  const Dims channels{given->shape[1]};
  if (!centre != !variance)
    fail("{}: {}: a mean without a variance, or the other way", who, describe(*given));
  if (!centre) {
    Ints over{0};
    for (int64_t a = 2; a < static_cast<int64_t>(given->rank()); a++) over.push_back(a);
    return scaled(who, given, normalised(given, over, eps), weight, bias, channels, 1);
  }
  if (centre->shape != channels || variance->shape != channels)
    fail("{}: {}: mean and variance are {} and {}, not {}", who, describe(*given), describe(*centre),
         describe(*variance), describe_shape(channels));
  Dims thin(given->rank() - 1, index(1));
  thin[0] = channels[0];
  const auto wide = [&](const Ref& x) { return reshape(in_accumulator(as_float(x)), thin); };
  const Ref scale = unary("rsqrt", add(wide(variance), Input(eps)));
  const Ref out = mul(sub(in_accumulator(as_float(given)), wide(centre)), scale);
  return scaled(who, given, out, weight, bias, channels, 1);
}

Ref numbers_for(const Ref& x, const Ref& count) {
  const bool holds = kind(x->dtype) != Kind::Bool && count->bounds.hi - 1 <= dtype_bounds(x->dtype).hi;
  return iota(count, holds ? x->dtype : DType::I64);
}

Ref one_hot(const Ref& x, int64_t classes, DType dtype) {
  if (is_float(x->dtype)) fail("one_hot: {}: takes integers", describe(*x));
  if (classes < 1) fail("one_hot: {} classes", classes);
  return cast(eq(unsqueeze(x, -1), numbers_for(x, index(classes))), dtype);
}

/// Gather puts the axes of the positions first; here they come where the axis was.
static Ref slices_at(const Ref& x, const Ref& at, int64_t axis) {
  Ref out = make(Op::Gather, {x, at}, {.ints = {axis}});
  Ints order;
  int64_t wide = static_cast<int64_t>(at->rank());
  for (int64_t a = 0; a < axis; a++) order.push_back(wide + a);
  for (int64_t a = 0; a < wide; a++) order.push_back(a);
  for (int64_t a = wide + axis; a < static_cast<int64_t>(out->rank()); a++) order.push_back(a);
  return permute(out, order);
}

Ref take(const Ref& x, const Ref& indices, int64_t which) {
  check_indices("take", x, indices);
  int64_t axis = axis_of("take", *x, which);
  return slices_at(x, from_start(indices, x->shape[static_cast<size_t>(axis)]), axis);
}

Ref slices_from(const Ref& x, int64_t axis, const Ref& begin, const Ref& count) {
  return slices_at(x, add(splat(begin, {count}), iota(count, DType::I64)), axis);
}

/// Where a put begins, of rank 0; a number is checked at once.
static Ref put_begin(const Ref& x, size_t axis, const Input& at, const Ref& slices, const Ref& value) {
  const Ref& dim = x->shape[axis];
  if (ix::sub(dim, slices)->bounds.hi < 0)
    fail("put: {} into {}: more slices than axis {} has", describe(*value), describe(*x), axis);
  if (at.node) {
    check_indices("put", x, at.node);
    if (at.node->rank() != 0) fail("put: the index is {}, not one number", describe(*at.node));
    const Ref at_i64 = cast(at.node, DType::I64);
    return kind(at.node->dtype) == Kind::Signed ? from_start(at_i64, dim) : at_i64;
  }
  if (at.number.kind == Number::Float) fail("put: {} by {}: indices are integers", describe(*x), at.number.f);
  const int64_t i = const_int(*number_constant("put", at.number, DType::I64));
  const Ref begin = i < 0 ? ix::add(dim, index(i)) : index(i);
  const Ref rest = ix::sub(ix::sub(dim, slices), begin);
  if (begin->bounds.hi < 0 || rest->bounds.hi < 0)
    fail("put: {} into {}: slices from {} on do not lie inside of axis {}", describe(*value), describe(*x), i,
         axis);
  return begin;
}

Ref put(const Ref& x, int64_t which, const Input& at, const Ref& value) {
  int64_t axis = axis_of("put", *x, which);
  Ref v = cast(value, x->dtype);
  bool slice = v->rank() + 1 == x->rank();
  if (slice) v = unsqueeze(v, axis);
  bool fits = v->rank() == x->rank();
  for (size_t i = 0; fits && i < x->rank(); i++)
    fits = static_cast<int64_t>(i) == axis || v->shape[i] == x->shape[i];
  if (!fits)
    fail("put: {} into {} on axis {}: shapes differ elsewhere", describe(*value), describe(*x), which);
  const size_t along = static_cast<size_t>(axis);
  const Ref begin = put_begin(x, along, at, v->shape[along], value);
  std::vector<Ref> src{x, v};
  for (size_t i = 0; i < x->rank(); i++) src.push_back(i == along ? begin : index(0));
  return make(Op::Put, src);
}

}  // namespace kontor::fn
