// Arrangements of tensors, made of movement ops and choices by position; deviations and norms.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

Ref full_like(const Ref& x, const Input& value) { return full(x->shape, value, x->dtype); }

Ref linspace(double begin, double end, int64_t count, DType dtype) {
  check_dtype("linspace", dtype);
  if (count < 0) fail("linspace: {} numbers", count);
  if (!std::isfinite(begin) || !std::isfinite(end)) fail("linspace: from {} to {}", begin, end);
  const Term i(iota(index(count), DType::F64));
  const double step = count > 1 ? (end - begin) / static_cast<double>(count - 1) : 0;
  const Term inner = i * step + begin;
  const Term exact = count > 1 ? where(i == static_cast<double>(count - 1), end, inner) : inner;
  return cast((is_float(dtype) ? exact : floor(exact)).node, dtype);
}

Ref repeat(const Ref& x, int64_t times, int64_t which) {
  const int64_t axis = axis_of("repeat", *x, which);
  if (times < 0) fail("repeat: {}: {} times", describe(*x), times);
  const Ref apart = unsqueeze(x, axis + 1);
  Dims shape = apart->shape, joined = x->shape;
  shape[static_cast<size_t>(axis) + 1] = index(times);
  joined[static_cast<size_t>(axis)] = ix::mul(joined[static_cast<size_t>(axis)], times);
  return reshape(broadcast(apart, shape), joined);
}

Ref tile(const Ref& x, const Ints& repeats) {
  Dims shape = x->shape;
  Ints times = repeats;
  if (times.size() < shape.size()) times.insert(times.begin(), shape.size() - times.size(), 1);
  shape.insert(shape.begin(), times.size() - shape.size(), index(1));
  Dims apart, wide, joined;
  for (size_t a = 0; a < shape.size(); a++) {
    if (times[a] < 0) fail("tile: {}: {} times", describe(*x), times[a]);
    apart.insert(apart.end(), {index(1), shape[a]});
    wide.insert(wide.end(), {index(times[a]), shape[a]});
    joined.push_back(ix::mul(shape[a], times[a]));
  }
  return reshape(broadcast(reshape(x, apart), wide), joined);
}

Ref roll(const Ref& x, int64_t shift, int64_t which) {
  const int64_t axis = axis_of("roll", *x, which);
  const Ref& dim = x->shape[static_cast<size_t>(axis)];
  if (!dim->is_const()) fail("roll: {}: axis {} has no fixed size", describe(*x), which);
  const int64_t n = extent(dim);
  if (n == 0) return x;
  const int64_t first = ((-(shift % n)) % n + n) % n;
  if (first == 0) return x;
  return cat({slice(x, axis, first, n, 1), slice(x, axis, 0, first, 1)}, axis);
}

namespace {

void need_matrix(std::string_view who, const Ref& x) {
  if (x->rank() < 2) fail("{}: {}: needs two axes", who, describe(*x));
}

/// The column less the row of each element.
Term beyond_diagonal(const Ref& x) {
  return Term(along(x->shape, x->rank() - 1)) - Term(along(x->shape, x->rank() - 2));
}

Ref zeros(const Ref& x) { return splat(constant(x->dtype, int64_t{0}), x->shape); }

/// The matrix with x on a diagonal.
Ref matrix_of(const Ref& x, int64_t diagonal) {
  const int64_t apart = std::abs(diagonal);
  const Ref n = ix::add(x->shape[0], apart);
  const Ref padded =
      pad(x, {0, apart}, 0);  // of the row of each element, or its column below the main diagonal
  const Ref everywhere = broadcast(unsqueeze(padded, diagonal >= 0 ? 1 : 0), {n, n});
  const Term on = beyond_diagonal(everywhere);
  return where((on == on.integer(diagonal)).node, everywhere, zeros(everywhere));
}

}  // namespace

Ref tril(const Ref& x, int64_t diagonal) {
  need_matrix("tril", x);
  const Term at = beyond_diagonal(x);
  return where((!(at.integer(diagonal) < at)).node, x, zeros(x));
}

Ref triu(const Ref& x, int64_t diagonal) {
  need_matrix("triu", x);
  const Term at = beyond_diagonal(x);
  return where((!(at < at.integer(diagonal))).node, x, zeros(x));
}

Ref diag(const Ref& x, int64_t diagonal) {
  if (diagonal > most_elements || diagonal < -most_elements)
    fail("diag: {}: no diagonal {}", describe(*x), diagonal);
  if (x->rank() == 1) return matrix_of(x, diagonal);
  need_matrix("diag", x);
  const int64_t rank = static_cast<int64_t>(x->rank());
  const Ref &rows = x->shape[x->rank() - 2], &columns = x->shape.back();
  const int64_t down = std::max<int64_t>(-diagonal, 0), right = std::max<int64_t>(diagonal, 0);
  const Ref count = ix::max(index(0), ix::min(ix::sub(rows, down), ix::sub(columns, right)));
  const Ref i = iota(count, DType::I64);
  const Ref out = make(Op::Gather, {x, add(i, Input(index(down))), add(i, Input(index(right)))},
                       {.ints = {rank - 2, rank - 1}});
  Ints order;  // Gather puts the positions' axis first
  for (int64_t a = 1; a < rank - 1; a++) order.push_back(a);
  order.push_back(0);
  return permute(out, order);
}

namespace {

/// A root of what is not negative; at 0, where its slope is infinite and that of what is below it 0, no gradient passes.
template <class Root>
Ref root_of(const Ref& x, const Root& root) {
  const Term sum(x), none = sum == 0.0;
  return where(none.node, zeros(x),
               root(where(none.node, splat(constant(x->dtype, int64_t{1}), x->shape), x)));
}

}  // namespace

Ref stddev(const Ref& x, const AxisList& axes, bool keepdims, int64_t correction) {
  return root_of(var(x, axes, keepdims, correction), [](const Ref& v) { return sqrt(v); });
}

Ref norm(const Ref& given, const AxisList& axes, bool keepdims, double order) {
  const Ref arg = as_float(given), x = in_accumulator(arg), size = abs(x);
  Ref out;
  if (std::isnan(order)) fail("norm: {}: of order NaN", describe(*given));
  if (std::isinf(order)) out = order > 0 ? max(size, axes, keepdims) : min(size, axes, keepdims);
  else if (order == 0) out = sum(cast(ne(x, 0), x->dtype), axes, keepdims);
  else if (order == 1) out = sum(size, axes, keepdims);
  else if (order == 2) out = root_of(sum(square(x), axes, keepdims), [](const Ref& s) { return sqrt(s); });
  else out = root_of(sum(pow(size, order), axes, keepdims), [&](const Ref& s) { return pow(s, 1 / order); });
  return cast(out, arg->dtype);
}

}  // namespace kontor::fn
