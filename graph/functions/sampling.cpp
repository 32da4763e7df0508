// Draws that go by weights: of one element, of several with and without putting them back.
#include <limits>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

Ref bernoulli(const Ref& given) {
  const Ref p = as_float(given);
  const DType dtype = p->dtype == DType::F64 ? DType::F64 : DType::F32;
  return lt(uniform(p->shape, 0, 1, dtype), cast(p, dtype));
}

namespace {

Dims with_last(Dims shape, const Ref& last) {
  shape.back() = last;
  return shape;
}

/// Sums of the weights so far, in one chain, so that they never fall; where `count` numbers between 0 and the last of them are met
/// first. An element whose weight is 0 is never: the sum does not rise there.
Ref with_replacement(const Ref& w, int64_t count) {
  const Ref &n = w->shape.back(), last = ix::sub(n, 1);
  const auto axis = static_cast<int64_t>(w->rank()) - 1;
  const Ref zero = splat(constant(w->dtype, 0.0), {w->shape.begin(), w->shape.end() - 1});
  const Ref sums = make(Op::Scan, {w, zero}, {.ints = {static_cast<int64_t>(Fold::Sum), axis}});
  Dims begin(w->rank(), index(0)), drawn = with_last(w->shape, index(count));
  begin.back() = last;
  const Ref total = broadcast(shrink(sums, begin, with_last(w->shape, index(1))), drawn);
  const Ref at = searchsorted(sums, mul(uniform(drawn, 0, 1, w->dtype), total), true);
  return minimum(at, Input(last));
}

}  // namespace

/// Without putting them back: the first of clocks that ring after an exponential time each, at a rate of its weight.
Ref multinomial(const Ref& weights, int64_t count, bool replacement) {
  constexpr std::string_view who = "multinomial";
  if (weights->rank() == 0 || count < 0) fail("{}: {} of {}", who, count, describe(*weights));
  const int64_t least = weights->shape.back()->bounds.lo;
  if (least < (replacement ? 1 : count))
    fail("{}: {} of {}: there are not as many", who, count, describe(*weights));
  const Term given(cast(weights, DType::F64)), w = where(given > 0.0, given, 0.0);
  if (replacement) return with_replacement(w.node, count);
  const Term time = -unary("log1p", -Term(uniform(weights->shape, 0, 1, DType::F64)));
  const Term never = w.constant(std::numeric_limits<double>::infinity());
  return argtopk(where(w > 0.0, time / w, never).node, count, -1, false);
}

}  // namespace kontor::fn
