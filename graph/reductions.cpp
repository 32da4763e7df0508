// Folds and what is made of them: sums, extremes, moments, softmax, losses, norms.
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "graph/formula.h"
#include "graph/index.h"
#include "graph/shape.h"
#include "graph/unary.h"

namespace kontor::inline v0::fn {

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

Ref reduce(Fold fold, const std::vector<Ref>& sources, const Ints& axes, bool keepdims) {
  if (axes.empty() && fold != Fold::Dot) return sources[0];
  Ints ints{static_cast<int64_t>(fold)};
  ints.insert(ints.end(), axes.begin(), axes.end());
  Ref out = make(Op::Reduce, sources, {.ints = ints});
  if (!keepdims) return out;
  Dims shape = sources[0]->shape;
  for (int64_t a : axes) shape[static_cast<size_t>(a)] = index(1);
  return reshape(out, shape);
}

/// Sums of small integers are 64 bits wide, as in NumPy.
static Ref widened(const Ref& x) {
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

static Ref extreme(std::string_view who, Fold fold, const Ref& x, const AxisList& axes, bool keepdims) {
  Ints which = axes_of(who, x, axes);
  for (int64_t a : which)
    if (is_int(x->shape[static_cast<size_t>(a)], 0))
      fail("{}: {}: axis {} has no elements", who, describe(*x), a);
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

/// Divides by `count` - correction; a count that is known is multiplied as a divisor once, not as a reciprocal.
static Ref divided(const Ref& total, const Ref& count, int64_t correction) {
  Ref n = ix::sub(count, index(correction));
  Ref divisor = n->is_const() ? constant(total->dtype, static_cast<double>(n->at(0))) : cast(n, total->dtype);
  return div(total, divisor);
}

Ref mean(const Ref& x, const AxisList& axes, bool keepdims) {
  Ref f = as_float(x);
  Ints which = axes_of("mean", x, axes);
  return divided(reduce(Fold::Sum, {f}, which, keepdims), count_of(x, which), 0);
}

Ref var(const Ref& x, const AxisList& axes, bool keepdims, int64_t correction) {
  Ref f = as_float(x);
  Ints which = axes_of("var", x, axes);
  Ref centred = sub(f, mean(f, which, true));
  return divided(reduce(Fold::Sum, {square(centred)}, which, keepdims), count_of(x, which), correction);
}

Ref any(const Ref& x, const AxisList& axes, bool keepdims) {
  return reduce(Fold::Max, {cast(x, DType::Bool)}, axes_of("any", x, axes), keepdims);
}

Ref all(const Ref& x, const AxisList& axes, bool keepdims) {
  return reduce(Fold::Min, {cast(x, DType::Bool)}, axes_of("all", x, axes), keepdims);
}

/// The first position among those that equal the extreme (or are NaN).
static Ref position(std::string_view who, Fold fold, const Ref& x, std::optional<int64_t> axis,
                    bool keepdims) {
  if (!axis) return position(who, fold, reshape(x, {ix::product(x->shape)}), 0, false);
  int64_t a = axis_of(who, *x, *axis);
  Ref best = extreme(who, fold, x, Ints{a}, true);
  Ref hit = eq(x, best);
  if (is_float(x->dtype)) hit = logical_or(hit, isnan(x));
  const Ref& n = x->shape[static_cast<size_t>(a)];
  Ref at = iota(n, DType::I64);
  for (int64_t i = a + 1; i < static_cast<int64_t>(x->rank()); i++) at = unsqueeze(at, -1);
  Ref last = ix::sub(n, index(1));
  return reduce(Fold::Min, {where(hit, at, Input(last))}, {a}, keepdims);
}

Ref argmax(const Ref& x, std::optional<int64_t> axis, bool keepdims) {
  return position("argmax", Fold::Max, x, axis, keepdims);
}
Ref argmin(const Ref& x, std::optional<int64_t> axis, bool keepdims) {
  return position("argmin", Fold::Min, x, axis, keepdims);
}

Ref softmax(const Ref& given, int64_t which) {
  int64_t axis = axis_of("softmax", *given, which);
  Ref x = as_float(given);
  Ref e = exp(sub(x, extreme("softmax", Fold::Max, x, Ints{axis}, true)));
  // One division a row: its reciprocal costs half an ulp more and a quarter of the time.
  return call("softmax", mul(e, div(1, reduce(Fold::Sum, {e}, {axis}, true))), {x}, {axis});
}

/// log of the sum of exp along `axis`, which is kept.
static Ref log_sum_exp(const Ref& x, int64_t axis, const Ref& greatest) {
  return log(reduce(Fold::Sum, {exp(sub(x, greatest))}, {axis}, true));
}

Ref log_softmax(const Ref& given, int64_t which) {
  int64_t axis = axis_of("log_softmax", *given, which);
  Ref x = as_float(given);
  Ref greatest = extreme("log_softmax", Fold::Max, x, Ints{axis}, true);
  return call("log_softmax", sub(sub(x, greatest), log_sum_exp(x, axis, greatest)), {x}, {axis});
}

Ref pick(const Ref& x, const Ref& indices) {
  if (is_float(indices->dtype) || indices->dtype == DType::Bool)
    fail("pick: {} by {}: indices are integers", describe(*x), describe(*indices));
  if (x->rank() != indices->rank() + 1 ||
      !std::equal(indices->shape.begin(), indices->shape.end(), x->shape.begin()))
    fail("pick: {} by {}: needs one index for each row", describe(*x), describe(*indices));
  std::vector<Ref> src{x};
  Ints axes;
  for (size_t i = 0; i < x->rank(); i++) axes.push_back(static_cast<int64_t>(i));
  for (size_t i = 0; i < indices->rank(); i++) {
    Ref at = iota(indices->shape[i], DType::I64);
    for (size_t j = i + 1; j < indices->rank(); j++) at = unsqueeze(at, -1);
    src.push_back(broadcast(at, indices->shape));
  }
  src.push_back(indices);
  return make(Op::Gather, src, {.ints = axes});
}

Ref cross_entropy(const Ref& logits, const Ref& labels) {
  if (logits->rank() == 0 || logits->rank() != labels->rank() + 1 || is_float(labels->dtype))
    fail("cross_entropy: {} by {}: needs logits [.., classes] and integer labels [..]", describe(*logits),
         describe(*labels));
  if (!std::equal(labels->shape.begin(), labels->shape.end(), logits->shape.begin()))
    fail("cross_entropy: {} by {}: needs one label for each row", describe(*logits), describe(*labels));
  Ref x = as_float(logits);
  int64_t axis = static_cast<int64_t>(x->rank()) - 1;
  Ref greatest = extreme("cross_entropy", Fold::Max, x, Ints{axis}, true);
  Ref total = squeeze(add(log_sum_exp(x, axis, greatest), greatest), Ints{axis});
  return call("cross_entropy", sub(total, pick(x, labels)), {x, labels});
}

static Ref normalised(const Ref& x, const Ints& axes, double eps) {
  Ref centred = sub(x, mean(x, axes, true));
  Ref variance = mean(square(centred), axes, true);
  return mul(centred, record_unary(*find_unary("rsqrt"), add(variance, Input(eps))));
}

static Ref scaled(std::string_view who, const Ref& x, const Ref& weight, const Ref& bias, const Dims& shape,
                  size_t first) {
  Dims aligned(x->rank(), index(1));
  std::copy(shape.begin(), shape.end(), aligned.begin() + static_cast<ptrdiff_t>(first));
  Ref out = x;
  for (const Ref& p : {weight, bias}) {
    if (!p) continue;
    if (p->shape != shape)
      fail("{}: {}: weight and bias are {}, not {}", who, describe(*x), describe_shape(p->shape),
           describe_shape(shape));
    out = p == weight && out == x ? mul(out, reshape(p, aligned)) : add(out, reshape(p, aligned));
  }
  return out;
}

Ref layer_norm(const Ref& given, int64_t axes, const Ref& weight, const Ref& bias, double eps) {
  int64_t rank = static_cast<int64_t>(given->rank());
  if (axes < 1 || axes > rank) fail("layer_norm: {}: over the last {} axes", describe(*given), axes);
  Ref x = as_float(given);
  Ints over;
  for (int64_t a = rank - axes; a < rank; a++) over.push_back(a);
  Dims shape(x->shape.end() - axes, x->shape.end());
  return scaled("layer_norm", normalised(x, over, eps), weight, bias, shape,
                static_cast<size_t>(rank - axes));
}

Ref instance_norm(const Ref& given, const Ref& weight, const Ref& bias, double eps) {
  if (given->rank() < 3) fail("instance_norm: {}: needs [n, c, ..]", describe(*given));
  Ref x = as_float(given);
  Ints over;
  for (int64_t a = 2; a < static_cast<int64_t>(x->rank()); a++) over.push_back(a);
  return scaled("instance_norm", normalised(x, over, eps), weight, bias, {x->shape[1]}, 1);
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

Ref take(const Ref& x, const Ref& indices, int64_t which) {
  if (is_float(indices->dtype) || indices->dtype == DType::Bool)
    fail("take: {} by {}: indices are integers", describe(*x), describe(*indices));
  int64_t axis = axis_of("take", *x, which);
  Ref at = indices;
  const Ref& dim = x->shape[static_cast<size_t>(axis)];
  if (kind(at->dtype) == Kind::Signed) {
    if (dim->bounds.hi > dtype_bounds(at->dtype).hi) at = cast(at, DType::I64);
    at = where(lt(at, 0), add(at, cast(broadcast(dim, at->shape), at->dtype)), at);
  }
  Ref out = make(Op::Gather, {x, at}, {.ints = {axis}});
  // Gather puts the axes of the indices first; they belong where the axis was.
  Ints order;
  int64_t wide = static_cast<int64_t>(indices->rank());
  for (int64_t a = 0; a < axis; a++) order.push_back(wide + a);
  for (int64_t a = 0; a < wide; a++) order.push_back(a);
  for (int64_t a = wide + axis; a < static_cast<int64_t>(out->rank()); a++) order.push_back(a);
  return permute(out, order);
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
  Ref begin = at.node ? cast(at.node, DType::I64) : number_constant("put", at.number, DType::I64);
  if (begin->rank() != 0) fail("put: the index is {}, not one number", describe(*at.node));
  std::vector<Ref> src{x, v};
  for (size_t i = 0; i < x->rank(); i++) src.push_back(static_cast<int64_t>(i) == axis ? begin : index(0));
  return make(Op::Put, src);
}

}  // namespace kontor::inline v0::fn
