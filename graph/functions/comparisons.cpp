// Comparisons of values of any two dtypes, exact: what is compared are the numbers, not what a common dtype makes of them.
#include <bit>
#include <cmath>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/index/sum.h"
#include "graph/scalar.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

using ix::Int128;

/// The dtype that holds all values of both; Void where there is none (64-bit integers beside others).
DType holding(DType a, DType b) {
  if (is_float(a) == is_float(b) || kind(a) == Kind::Bool || kind(b) == Kind::Bool) {
    DType both = promote(a, b);
    return is_float(both) && !is_float(a) && !is_float(b) ? DType::Void : both;
  }
  const DType whole = is_float(a) ? b : a, real = accumulator(is_float(a) ? a : b);
  return row(whole).bits * 2 <= row(real).bits ? real : DType::Void;
}

Ref compared(Op op, const Ref& a, const Ref& b) { return make(op, {a, b}); }
Ref truth(const Ref& like, bool value) { return splat(constant(DType::Bool, int64_t{value}), like->shape); }

/// A signed integer with a u64. `op` is Lt, Le, Eq or Ne.
Ref across_signs(Op op, const Ref& a, const Ref& b) {
  const bool first = kind(a->dtype) == Kind::Signed;
  const Term negative = Term(first ? a : b) < 0.0;
  const Term as_unsigned(compared(op, cast(a, DType::U64), cast(b, DType::U64)));
  const bool holds = op == Op::Ne || (first && op != Op::Eq);  // of a negative one
  return (holds ? negative | as_unsigned : (!negative) & as_unsigned).node;
}

/// An integer i with a float x that cannot hold it: i rounded says which is greater, unless it is x; then x as an integer
/// is exact, or one beyond them all. NaN is neither.
Ref whole_with_real(Op op, const Ref& a, const Ref& b) {
  const bool first = !is_float(a->dtype);
  const Term i(first ? a : b), x(in_accumulator(first ? b : a));
  const Term rounded = i.as(x.node->dtype), near = x.as(i.node->dtype);
  const DType whole = i.node->dtype;
  const Term beyond = !(x < std::ldexp(1.0, row(whole).bits - (kind(whole) == Kind::Signed)));
  const Term tie = rounded == x;
  if (op == Op::Eq || op == Op::Ne) {
    const Term same = tie & (!beyond) & (i == near);
    return op == Op::Eq ? same.node : (!same).node;
  }
  const Term exact(first ? compared(op, i.node, near.node) : compared(op, near.node, i.node));
  const Term of_tie = first ? beyond | exact : (!beyond) & exact;
  return ((first ? rounded < x : x < rounded) | (tie & of_tie)).node;
}

Ref of_tensors(Op op, const Ref& a, const Ref& b) {
  const DType dtype = holding(a->dtype, b->dtype);
  if (dtype != DType::Void) return compared(op, cast(a, dtype), cast(b, dtype));
  return is_float(a->dtype) || is_float(b->dtype) ? whole_with_real(op, a, b) : across_signs(op, a, b);
}

/// x with a number: x op number, or number op x where `swapped`.
struct WithNumber {
  Op op;
  bool swapped;

  Ref operator()(const Ref& x, const Ref& number) const {
    const Ref constant = splat(number, x->shape);
    return swapped ? compared(op, constant, x) : compared(op, x, constant);
  }
  /// x with a number between `low` and the next one up, neither of which it is: x < it means x <= low.
  Ref above(const Ref& x, const Ref& low) const {
    if (op == Op::Eq || op == Op::Ne) return op == Op::Ne ? truth(x, true) : truth(x, false);
    return swapped ? WithNumber{Op::Lt, true}(x, low) : WithNumber{Op::Le, false}(x, low);
  }
  Ref below(const Ref& x, const Ref& high) const {
    if (op == Op::Eq || op == Op::Ne) return op == Op::Ne ? truth(x, true) : truth(x, false);
    return swapped ? WithNumber{Op::Le, true}(x, high) : WithNumber{Op::Lt, false}(x, high);
  }
  /// With a number that is greater, or less, than every x.
  Ref decided(const Ref& x, bool greater) const {
    return truth(x, op == Op::Ne || (op != Op::Eq && greater != swapped));
  }

  Ref integers(const Ref& x, Int128 n) const {
    const Bounds b = dtype_bounds(x->dtype);
    const bool wide = x->dtype == DType::U64;
    if (n < (wide ? 0 : Int128{b.lo})) return decided(x, false);
    if (n > (wide ? Int128{UINT64_MAX} : Int128{b.hi})) return decided(x, true);
    return (*this)(x, constant(x->dtype, static_cast<int64_t>(n)));
  }

  /// Integers with a number that may have a fraction.
  Ref integers(const Ref& x, double n) const {
    if (std::isnan(n)) return truth(x, op == Op::Ne);
    if (std::abs(n) >= 0x1p70) return decided(x, n > 0);
    const double low = std::floor(n);
    if (low == n) return integers(x, static_cast<Int128>(n));
    if (op == Op::Eq || op == Op::Ne) return truth(x, op == Op::Ne);
    return swapped ? WithNumber{Op::Lt, true}.integers(x, static_cast<Int128>(low))
                   : WithNumber{Op::Le, false}.integers(x, static_cast<Int128>(low));
  }

  /// Floats with an integer, which their dtype rounds.
  Ref floats(const Ref& given, const Number& number, Int128 n) const {
    const Ref x = in_accumulator(given);
    const Ref rounded = number_constant("compare", number, x->dtype);
    const Int128 c = static_cast<Int128>(std::bit_cast<double>(rounded->at(0)));
    return c == n ? (*this)(x, rounded) : c < n ? above(x, rounded) : below(x, rounded);
  }

  Ref of(const Ref& x, const Number& n) const {
    const Int128 whole = n.kind == Number::Unsigned ? Int128{static_cast<uint64_t>(n.i)} : Int128{n.i};
    if (x->dtype == DType::Bool) return of(cast(x, DType::U8), n);
    if (!is_float(x->dtype)) return n.kind == Number::Float ? integers(x, n.f) : integers(x, whole);
    if (n.kind != Number::Float) return floats(x, n, whole);
    const Ref weak = number_constant("compare", n, x->dtype);  // 0.1 beside an f32 is 0.1f
    const double rounded = std::bit_cast<double>(weak->at(0));
    const bool kept = std::isfinite(rounded) || rounded == n.f || std::isnan(n.f);
    const Ref y = kept ? x : in_accumulator(x);
    return (*this)(y, kept ? weak : number_constant("compare", n, y->dtype));
  }
};

Ref compare(std::string_view who, Op op, const Input& a, const Input& b) {
  if (a.node && !b.node) return WithNumber{op, false}.of(a.node, b.number);
  if (b.node && !a.node) return WithNumber{op, true}.of(b.node, a.number);
  auto tensor = [&](const Input& v) {
    return v.node ? v.node : number_constant(who, v.number, operand_dtype(who, std::span(&v, 1)));
  };
  const Ref both[] = {tensor(a), tensor(b)};
  const Dims shape = broadcast_shape(who, both);
  return of_tensors(op, broadcast(both[0], shape), broadcast(both[1], shape));
}

}  // namespace

Ref eq(const Input& a, const Input& b) { return compare("eq", Op::Eq, a, b); }
Ref ne(const Input& a, const Input& b) { return compare("ne", Op::Ne, a, b); }
Ref lt(const Input& a, const Input& b) { return compare("lt", Op::Lt, a, b); }
Ref le(const Input& a, const Input& b) { return compare("le", Op::Le, a, b); }
Ref gt(const Input& a, const Input& b) { return compare("gt", Op::Lt, b, a); }
Ref ge(const Input& a, const Input& b) { return compare("ge", Op::Le, b, a); }

}  // namespace kontor::fn
