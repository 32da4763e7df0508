// Movement functions: each checks what users can get wrong, then records one or two movement ops.
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

static Ref moved(Op op, const Ref& x, const Dims& a) {
  std::vector<Ref> src{x};
  src.insert(src.end(), a.begin(), a.end());
  return make(op, src);
}

static Dims infer_shape(const Ref& x, Dims shape) {
  Ref known = index(1);
  int unknown = -1;
  for (size_t i = 0; i < shape.size(); i++) {
    if (!is_int(shape[i], -1)) {
      if (shape[i]->bounds.lo < 0)
        fail("reshape: {} to {}: a dimension may be {}", describe(*x), describe_shape(shape),
             shape[i]->bounds.lo);
      known = ix::mul(known, shape[i]);
    } else if (unknown >= 0) {
      fail("reshape: {} to {}: more than one -1", describe(*x), describe_shape(shape));
    } else {
      unknown = static_cast<int>(i);
    }
  }
  if (unknown < 0) return shape;
  if (is_int(known, 0)) fail("reshape: {} to {}: -1 could be anything", describe(*x), describe_shape(shape));
  shape[static_cast<size_t>(unknown)] = ix::idiv(ix::product(x->shape), known);
  return shape;
}

Ref reshape(const Ref& x, const Dims& wanted) {
  Dims shape = infer_shape(x, wanted);
  if (shape == x->shape) return x;
  Ref before = ix::product(x->shape), after = ix::product(shape);
  if (before != after)
    fail("reshape: {} to {}: {} elements become {}", describe(*x), describe_shape(wanted),
         describe_dim(before), describe_dim(after));
  const Ref& from = x->is(Op::Reshape) ? x->src[0] : x;
  return from->shape == shape ? from : moved(Op::Reshape, from, shape);
}

Ref flatten(const Ref& x, int64_t from) {
  if (x->rank() == 0) return reshape(x, {index(1)});
  size_t first = static_cast<size_t>(axis_of("flatten", *x, from));
  Dims shape(x->shape.begin(), x->shape.begin() + static_cast<ptrdiff_t>(first));
  shape.push_back(ix::product(std::span(x->shape).subspan(first)));
  return reshape(x, shape);
}

Ref permute(const Ref& x, const Ints& wanted) {
  Ints order = wanted, sorted;
  if (order.size() == x->rank())
    for (int64_t& a : order) a = axis_of("permute", *x, a);
  sorted = order;
  std::sort(sorted.begin(), sorted.end());
  Ints all(x->rank());
  std::iota(all.begin(), all.end(), 0);
  if (sorted != all)
    fail("permute: {}: ({}) does not name each axis once", describe(*x), fmt::join(wanted, ", "));
  return order == all ? x : make(Op::Permute, {x}, {.ints = order});
}

Ref transpose(const Ref& x, int64_t a, int64_t b) {
  Ints order(x->rank());
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[static_cast<size_t>(axis_of("transpose", *x, a))],
            order[static_cast<size_t>(axis_of("transpose", *x, b))]);
  return permute(x, order);
}

Ref expand(const Ref& x, const Dims& wanted) {
  Dims shape = wanted;
  bool fits = shape.size() >= x->rank();
  for (size_t i = 0; fits && i < x->rank(); i++) {
    Ref& to = shape[shape.size() - x->rank() + i];
    if (is_int(to, -1)) to = x->shape[i];
    fits = to == x->shape[i] || is_int(x->shape[i], 1);
  }
  if (!fits) fail("expand: {} to {}: only dimensions of 1 expand", describe(*x), describe_shape(wanted));
  return broadcast(x, shape);
}

Ref pad(const Ref& x, const Ints& low_high, const Input& value) {
  if (low_high.size() != 2 * x->rank())
    fail("pad: {}: {} numbers given, needs low and high of each axis", describe(*x), low_high.size());
  Dims amounts;
  for (size_t i = 0; i < low_high.size(); i++) {
    if (low_high[i] < 0) fail("pad: {}: {} is negative", describe(*x), low_high[i]);
    amounts.push_back(index(low_high[i]));
  }
  if (std::all_of(low_high.begin(), low_high.end(), [](int64_t v) { return v == 0; })) return x;
  Ref fill = value.node ? cast(value.node, x->dtype) : number_constant("pad", value.number, x->dtype);
  if (fill->rank() != 0) fail("pad: {}: the value is {}, not one number", describe(*x), describe(*fill));
  amounts.insert(amounts.begin(), fill);
  return moved(Op::Pad, x, amounts);
}

Ref shrink(const Ref& x, const Dims& begin, const Dims& size) {
  if (size == x->shape) return x;
  std::vector<Ref> src{x};
  for (size_t i = 0; i < size.size(); i++) {
    src.push_back(begin[i]);
    src.push_back(size[i]);
  }
  return make(Op::Shrink, src);
}

/// Splits each axis of `n` into n / step rows and takes the first of each: how a step is taken without an op of its own.
static Ref every(const Ref& x, size_t axis, int64_t step) {
  Ref window = make(Op::Window, {x}, {.ints = {static_cast<int64_t>(axis), step, 1, 1}});
  return reshape(window, [&] {
    Dims shape = window->shape;
    shape.erase(shape.begin() + static_cast<ptrdiff_t>(axis) + 1);
    return shape;
  }());
}

Ref slice(const Ref& x, int64_t which, int64_t begin, int64_t end, int64_t step) {
  size_t axis = static_cast<size_t>(axis_of("slice", *x, which));
  if (step == 0) fail("slice: {}: a step of 0", describe(*x));
  if (!x->shape[axis]->is_const()) fail("slice: {}: axis {} has no fixed size", describe(*x), which);
  int64_t n = x->shape[axis]->at(0);
  if (step < 0) {  // Python's x[begin:end:-s] is the flipped axis from its end
    auto mirrored = [n](int64_t at) {
      return at == INT64_MAX ? n : n - 1 - std::clamp<int64_t>(at < 0 ? at + n : at, -1, n - 1);
    };
    const int64_t stride = step == INT64_MIN ? INT64_MAX : -step;
    return slice(flip(x, Ints{which}), which, begin == INT64_MAX ? 0 : mirrored(begin), mirrored(end),
                 stride);
  }
  auto within = [n](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + n : at, 0, n); };
  int64_t from = within(begin), to = std::max(from, within(end));
  Dims first(x->rank(), index(0)), size = x->shape;
  first[axis] = index(from);
  size[axis] = index(to - from);
  Ref part = shrink(x, first, size);
  return step == 1 || to - from == 0 ? part : every(part, axis, step);
}

Ref select(const Ref& x, int64_t which, int64_t at) {
  size_t axis = static_cast<size_t>(axis_of("select", *x, which));
  const Ref& dim = x->shape[axis];
  int64_t least = dim->bounds.lo;
  if (at < -least || at >= least)
    fail("select: {}: no index {} on axis {}{}", describe(*x), at, which,
         dim->is_const() ? "" : fmt::format(", whose size may be {}", least));
  Dims first(x->rank(), index(0)), size = x->shape;
  first[axis] = at < 0 ? ix::add(dim, at) : index(at);
  size[axis] = index(1);
  return squeeze(shrink(x, first, size), Ints{static_cast<int64_t>(axis)});
}

Ref flip(const Ref& x, const AxisList& axes) {
  Ints which = axes_of("flip", x, axes);
  return which.empty() ? x : make(Op::Flip, {x}, {.ints = which});
}

Ref squeeze(const Ref& x, const AxisList& axes) {
  Ints which = axes_of("squeeze", x, axes);
  Dims shape;
  for (size_t i = 0; i < x->rank(); i++) {
    bool named = std::find(which.begin(), which.end(), static_cast<int64_t>(i)) != which.end();
    bool one = is_int(x->shape[i], 1);
    if (named && axes && !one) fail("squeeze: {}: axis {} has not size 1", describe(*x), i);
    if (!named || !one) shape.push_back(x->shape[i]);
  }
  return reshape(x, shape);
}

Ref unsqueeze(const Ref& x, int64_t axis) {
  int64_t rank = static_cast<int64_t>(x->rank());
  if (axis < -rank - 1 || axis > rank) fail("unsqueeze: {}: no axis {}", describe(*x), axis);
  Dims shape = x->shape;
  shape.insert(shape.begin() + (axis < 0 ? axis + rank + 1 : axis), index(1));
  return reshape(x, shape);
}

Ref window(const Ref& x, int64_t which, int64_t size, int64_t stride, int64_t dilation) {
  int64_t axis = axis_of("window", *x, which);
  const Ref& dim = x->shape[static_cast<size_t>(axis)];
  if (size < 1 || stride < 1 || dilation < 1)
    fail("window: {}: size {}, stride {}, dilation {}: each must be at least 1", describe(*x), size, stride,
         dilation);
  if (dim->bounds.lo < reach(size, dilation))
    fail("window: {}: axis {} {} shorter than {} taps at distance {}", describe(*x), which,
         dim->is_const() ? "is" : "may be", size, dilation);
  if (size == 1 && stride == 1) return unsqueeze(x, axis + 1);
  if (stride == size && dilation == 1) {  // no element is used twice: a reshape, whose gradient is one too
    Dims first(x->rank(), index(0)), part = x->shape, shape = x->shape;
    part[static_cast<size_t>(axis)] = ix::mul(ix::idiv(dim, size), index(size));
    shape[static_cast<size_t>(axis)] = ix::idiv(dim, size);
    shape.insert(shape.begin() + axis + 1, index(size));
    return reshape(shrink(x, first, part), shape);
  }
  return make(Op::Window, {x}, {.ints = {axis, stride, dilation, size}});
}

Ref unwindow(const Ref& x, int64_t which, const Ref& extent, int64_t stride, int64_t dilation) {
  int64_t axis = axis_of("unwindow", *x, which);
  if (axis + 1 >= static_cast<int64_t>(x->rank()))
    fail("unwindow: {}: axis {} has no taps after it", describe(*x), which);
  if (stride < 1 || dilation < 1 || extent->bounds.lo < 0)
    fail("unwindow: {}: extent {}, stride {}, dilation {}", describe(*x), describe_dim(extent), stride,
         dilation);
  const Ref &outputs = x->shape[static_cast<size_t>(axis)], &taps = x->shape[static_cast<size_t>(axis) + 1];
  if (reach(outputs->bounds.hi, stride) > most_elements || reach(taps->bounds.hi, dilation) > most_elements)
    fail("unwindow: {}: stride {} or dilation {} reaches beyond {} elements", describe(*x), stride, dilation,
         most_elements);
  return make(Op::Unwindow, {x, extent}, {.ints = {axis, stride, dilation}});
}

static Ref padded_to(const Ref& x, size_t axis, const Ref& before, const Ref& after) {
  Dims amounts(2 * x->rank(), index(0));
  amounts[2 * axis] = before;
  amounts[2 * axis + 1] = after;
  amounts.insert(amounts.begin(), constant(x->dtype, int64_t{0}));
  return moved(Op::Pad, x, amounts);
}

// More tensors than this are put together in pieces of so many, stored, and these again: each element of a piece chooses
// between all its parts.
constexpr size_t most_parts = 32;

static std::vector<Ref> in_pieces(const std::vector<Ref>& tensors, int64_t axis) {
  std::vector<Ref> pieces;
  for (size_t begin = 0; begin < tensors.size(); begin += most_parts) {
    const size_t end = std::min(begin + most_parts, tensors.size());
    const Ref piece =
        cat({tensors.begin() + static_cast<ptrdiff_t>(begin), tensors.begin() + static_cast<ptrdiff_t>(end)},
            axis);
    pieces.push_back(end - begin > 1 ? make(Op::Copy, {piece}) : piece);
  }
  return pieces;
}

/// Each tensor is padded to the whole and the parts are chosen between by position: no element is added to another.
Ref cat(const std::vector<Ref>& given, int64_t which) {
  if (given.empty()) fail("cat: no tensors");
  std::vector<Input> values(given.begin(), given.end());
  DType dtype = operand_dtype("cat", values);
  size_t axis = static_cast<size_t>(axis_of("cat", *given[0], which));
  Ref total = index(0);
  for (const Ref& t : given) {
    Dims a = t->shape, b = given[0]->shape;
    if (a.size() == b.size()) a[axis] = b[axis];
    if (a != b)
      fail("cat: {} x {}: shapes differ elsewhere than on axis {}", describe(*given[0]), describe(*t), which);
    total = ix::add(total, t->shape[axis]);
    check_dims("cat", std::span(&total, 1));
  }
  if (given.size() > 2 * most_parts) {
    std::vector<Ref> same;
    for (const Ref& t : given) same.push_back(cast(t, dtype));
    return cat(in_pieces(same, which), which);
  }
  Ref out, begin = index(0), position = iota(total, DType::I64);
  for (size_t i = axis + 1; i < given[0]->rank(); i++) position = unsqueeze(position, -1);
  for (const Ref& t : given) {
    Ref end = ix::add(begin, t->shape[axis]);
    Ref part = padded_to(cast(t, dtype), axis, begin, ix::sub(total, end));
    out = out ? where(lt(position, Input(begin)), out, part) : part;
    begin = end;
  }
  return out;
}

Ref stack(const std::vector<Ref>& tensors, int64_t axis) {
  if (tensors.empty()) fail("stack: no tensors");
  std::vector<Ref> wider;
  for (const Ref& t : tensors) {
    if (t->shape != tensors[0]->shape)
      fail("stack: {} x {}: shapes differ", describe(*tensors[0]), describe(*t));
    wider.push_back(unsqueeze(t, axis));
  }
  return cat(wider, axis);
}

}  // namespace kontor::fn
