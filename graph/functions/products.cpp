// Sums of products: recorded as a Dot fold over broadcast views.
#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

Ref dot(const Ref& a, const Ref& b, const Ints& axes) {
  if (is_float(a->dtype)) return reduce(Fold::Dot, {a, b}, axes, false);
  return reduce(Fold::Sum, {make(Op::Mul, {a, b})}, axes, false);
}

/// [.., i, k] -> [.., i, 1, k] and [.., k, j] -> [.., 1, j, k], both expanded to [.., i, j, k].
static Ref dot_rows_columns(const Ref& a, const Ref& b, const Dims& batch) {
  Ref rows = unsqueeze(a, -2);
  Ref columns = unsqueeze(transpose(b, -1, -2), -3);
  Dims shape = batch;
  shape.insert(shape.end(), {a->shape[a->rank() - 2], b->shape[b->rank() - 1], a->shape[a->rank() - 1]});
  return dot(broadcast(rows, shape), broadcast(columns, shape), {static_cast<int64_t>(shape.size()) - 1});
}

static Dims batch_of(const Ref& x) { return {x->shape.begin(), x->shape.end() - 2}; }

static Dims broadcast_batches(const Ref& a, const Ref& b) {
  Dims x = batch_of(a), y = batch_of(b);
  if (x.size() < y.size()) x.insert(x.begin(), y.size() - x.size(), index(1));
  if (y.size() < x.size()) y.insert(y.begin(), x.size() - y.size(), index(1));
  for (size_t i = 0; i < x.size(); i++) {
    if (is_int(x[i], 1)) x[i] = y[i];
    if (x[i] != y[i] && !is_int(y[i], 1))
      fail("matmul: {} x {}: leading sizes {} and {} differ", describe(*a), describe(*b), describe_dim(x[i]),
           describe_dim(y[i]));
  }
  return x;
}

Ref matmul(const Ref& x, const Ref& y) {
  if (x->rank() == 0 || y->rank() == 0)
    fail("matmul: {} x {}: needs at least one axis each", describe(*x), describe(*y));
  const Input operands[] = {x, y};
  DType dtype = operand_dtype("matmul", operands);
  if (dtype == DType::Bool) fail("matmul: {} x {}: takes numbers", describe(*x), describe(*y));
  const Ref& inner_a = x->shape.back();
  const Ref& inner_b = y->shape[y->rank() == 1 ? 0 : y->rank() - 2];
  if (inner_a != inner_b)
    fail("matmul: {} x {}: inner sizes {} and {} differ", describe(*x), describe(*y), describe_dim(inner_a),
         describe_dim(inner_b));
  Ref a = cast(x, dtype), b = cast(y, dtype), wide_a = in_accumulator(a), wide_b = in_accumulator(b);
  Ref rows = a->rank() == 1 ? unsqueeze(wide_a, 0) : wide_a;
  Ref columns = b->rank() == 1 ? unsqueeze(wide_b, 1) : wide_b;
  Ref out = dot_rows_columns(rows, columns, broadcast_batches(rows, columns));
  if (b->rank() == 1) out = squeeze(out, Ints{-1});
  if (a->rank() == 1) out = squeeze(out, Ints{b->rank() == 1 ? -1 : -2});
  return call("matmul", cast(out, dtype), {a, b});
}

}  // namespace kontor::fn
