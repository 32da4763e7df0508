// Elements along an axis at positions of their own: PyTorch's gather and scatter.
#include <algorithm>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

Ref along(const Dims& shape, size_t axis) {
  Dims thin(shape.size(), index(1));
  thin[axis] = shape[axis];
  return broadcast(reshape(iota(shape[axis], DType::I64), thin), shape);
}

namespace {

/// Where each index points to: an index tensor for each of x's axes, behind `src`.
std::vector<Ref> pointed_at(std::string_view who, const Ref& x, const Ref& indices, int64_t which,
                            std::vector<Ref> src) {
  check_indices(who, x, indices);
  const size_t axis = static_cast<size_t>(axis_of(who, *x, which));
  bool fits = x->rank() == indices->rank();
  for (size_t a = 0; fits && a < x->rank(); a++)
    fits = a == axis || indices->shape[a] == x->shape[a] ||
           indices->shape[a]->bounds.hi <= x->shape[a]->bounds.lo;
  if (!fits)
    fail("{}: {} by {} on axis {}: needs as many axes, the others not longer", who, describe(*x),
         describe(*indices), which);
  for (size_t a = 0; a < x->rank(); a++)
    src.push_back(a == axis ? from_start(indices, x->shape[a]) : along(indices->shape, a));
  return src;
}

Ints all_axes(const Ref& x, Ints out) {
  for (size_t a = 0; a < x->rank(); a++) out.push_back(static_cast<int64_t>(a));
  return out;
}

void check_values(std::string_view who, const Ref& indices, const Ref& values) {
  if (values->shape != indices->shape)
    fail("{}: {} at {}: needs a value for each index", who, describe(*values), describe(*indices));
}

}  // namespace

Ref gather(const Ref& x, const Ref& indices, int64_t axis) {
  return make(Op::Gather, pointed_at("gather", x, indices, axis, {x}), {.ints = all_axes(x, {})});
}

Ref scatter_add(const Ref& x, const Ref& indices, const Ref& values, int64_t axis) {
  check_values("scatter_add", indices, values);
  if (x->dtype == DType::Bool) fail("scatter_add: {}: takes numbers", describe(*x));
  const Ref base = in_accumulator(x), terms = in_accumulator(cast(values, x->dtype));
  const Ref sum = make(Op::Scatter, pointed_at("scatter_add", x, indices, axis, {base, terms}),
                       {.ints = all_axes(x, {static_cast<int64_t>(Fold::Sum)})});
  return cast(sum, x->dtype);
}

/// Which value comes to stand where is scattered, the greatest number of each place; then values are read.
Ref scatter(const Ref& x, const Ref& indices, const Ref& values, int64_t axis) {
  check_values("scatter", indices, values);
  if (is_int(ix::product(indices->shape), 0)) return x;
  const Ref count = ix::product(indices->shape);
  const Ref numbers = reshape(iota(count, DType::I64), indices->shape);
  const Ref none = splat(index(-1), x->shape);
  const Ref last = make(Op::Scatter, pointed_at("scatter", x, indices, axis, {none, numbers}),
                        {.ints = all_axes(x, {static_cast<int64_t>(Fold::Max)})});
  const Ref all = reshape(cast(values, x->dtype), {count});
  const Ref at = clamp(last, Input(index(0)), Input(ix::sub(count, 1)));
  return where(ge(last, 0), make(Op::Gather, {all, at}, {.ints = {0}}), x);
}

namespace {

/// Positions in row-major order of the first `size` elements that are not 0, the number of elements where there is none.
Ref chosen(std::string_view who, const Ref& mask, int64_t size) {
  if (size < 0) fail("{}: {}: {} elements", who, describe(*mask), size);
  check_dims(who, Dims{index(size)});
  const Ref flat = reshape(mask, {ix::product(mask->shape)});
  const Ref before = cumsum(cast(cast(flat, DType::Bool), DType::I64), 0);
  return searchsorted(before, add(iota(index(size), DType::I64), 1), false);
}

}  // namespace

Ref nonzero(const Ref& mask, int64_t size, int64_t fill) {
  const Ref at = chosen("nonzero", mask, size);
  return where(lt(at, Input(ix::product(mask->shape))), at, Input(fill));
}

/// From x with `fill` as one more element behind its last.
Ref masked_select(const Ref& given, const Ref& given_mask, int64_t size, const Input& fill) {
  const Ref both[] = {given, given_mask};
  const Dims shape = broadcast_shape("masked_select", both);
  const Ref x = broadcast(given, shape), at = chosen("masked_select", broadcast(given_mask, shape), size);
  const Ref longer = pad(reshape(x, {ix::product(shape)}), {0, 1}, fill);
  return make(Op::Gather, {longer, at}, {.ints = {0}});
}

Ref narrow(const Ref& x, int64_t which, const Input& begin, int64_t size) {
  const int64_t axis = axis_of("narrow", *x, which);
  const Ref& dim = x->shape[static_cast<size_t>(axis)];
  if (size < 0 || dim->bounds.hi < size) fail("narrow: {}: {} slices of axis {}", describe(*x), size, which);
  if (begin.node) {
    check_indices("narrow", x, begin.node);
    if (begin.node->rank() != 0) fail("narrow: begins at {}, not at one number", describe(*begin.node));
    return slices_from(x, axis, cast(from_start(begin.node, dim), DType::I64), index(size));
  }
  if (begin.number.kind == Number::Float)
    fail("narrow: {} from {} on: positions are integers", describe(*x), begin.number.f);
  const int64_t at = const_int(*number_constant("narrow", begin.number, DType::I64));
  const Ref from = at < 0 ? ix::add(dim, at) : index(at);
  if (from->bounds.lo < 0 || ix::sub(ix::sub(dim, from), size)->bounds.lo < 0)
    fail("narrow: {}: {} slices from {} on do not lie inside of axis {}", describe(*x), size, at, which);
  Dims first(x->rank(), index(0)), part = x->shape;
  first[static_cast<size_t>(axis)] = from;
  part[static_cast<size_t>(axis)] = index(size);
  return shrink(x, first, part);
}

}  // namespace kontor::fn
