// Exponents fold as they are made; those that are measured are nodes of the graph, which has simplification of its own.
#include "scalify/exponent.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/scalar.h"

namespace kontor::scalify {

namespace {

Ref number(int64_t value) { return constant(DType::I32, value); }

/// All of it as one node.
Ref whole(const Exponent& e) {
  if (e.is_static()) return number(e.fixed);
  return e.fixed == 0 ? e.measured : make(Op::Add, {e.measured, number(e.fixed)});
}

template <Op op, class F>
Exponent chosen(const Exponent& a, const Exponent& b, const F& of_numbers) {
  if (a.measured == b.measured) return {of_numbers(a.fixed, b.fixed), a.measured};
  // 2^k of measured parts apart from what both have in common, so that max(r + 3, r' + 3) is max(r, r') + 3.
  const int64_t common = std::min(a.fixed, b.fixed);
  return {common, make(op, {whole({a.fixed - common, a.measured}), whole({b.fixed - common, b.measured})})};
}

/// Exponents whose powers are normal numbers of the dtype.
struct Range {
  int64_t least, greatest;
};
Range range_of(DType dtype) {
  const FloatFormat& f = row(dtype).format;
  return {1 - f.bias, std::min<int64_t>(f.greatest(), f.bias)};
}

/// The exponent of the constant power of two that x was multiplied by, and what it was multiplied with; null if there is none.
Ref before_factor(const Ref& x, int64_t& k) {
  if (!x->is(Op::Mul)) return {};
  const Node* factor = x->src[1].get();
  while (factor->is(Op::Expand) || factor->is(Op::Reshape)) factor = factor->src[0].get();
  if (!factor->is_const() || const_float(*factor) < 0 || !is_power_of_two(const_float(*factor), k)) return {};
  return x->src[0];
}

Ref times_static(const Ref& x, int64_t by) {
  if (x->is_const()) {
    const double exact = std::ldexp(const_float(*x), static_cast<int>(std::clamp<int64_t>(by, -4000, 4000)));
    return constant(x->dtype, exact);
  }
  int64_t k = 0;
  if (const Ref inner = before_factor(x, k)) return times_power(inner, by + k);
  const Range range = range_of(x->dtype);
  Ref out = x;
  for (int64_t rest = by; rest != 0;) {
    const int64_t part = std::clamp(rest, range.least, range.greatest);
    out = (Term(out) * std::ldexp(1.0, static_cast<int>(part))).node;
    rest -= part;
    if (std::abs(rest) > 4000) rest = std::clamp<int64_t>(rest, -4000, 4000);  // all is 0 or infinite by then
  }
  return out;
}

/// 2^e of an i32 in -126 .. 127.
Ref small_power(const Ref& e) {
  return Term(make(Op::Shl, {make(Op::Add, {e, number(127)}), number(23)})).bits(DType::F32).node;
}

Ref clamped(const Ref& e) { return make(Op::Min, {make(Op::Max, {e, number(-126)}), number(127)}); }

}  // namespace

Exponent operator+(const Exponent& a, const Exponent& b) {
  Ref measured = a.measured ? a.measured : b.measured;
  if (a.measured && b.measured) measured = make(Op::Add, {a.measured, b.measured});
  return {a.fixed + b.fixed, measured};
}

Exponent operator-(const Exponent& a, const Exponent& b) {
  if (a.measured == b.measured) return a.fixed - b.fixed;
  if (!b.measured) return {a.fixed - b.fixed, a.measured};
  return {a.fixed - b.fixed, make(Op::Sub, {a.measured ? a.measured : number(0), b.measured})};
}

Exponent operator*(const Exponent& a, int64_t times) {
  if (a.is_static() || times == 1) return times == 1 ? a : Exponent(a.fixed * times);
  if (times == 0) return 0;
  return {a.fixed * times, make(Op::Mul, {a.measured, number(times)})};
}

Exponent max(const Exponent& a, const Exponent& b) {
  return chosen<Op::Max>(a, b, [](int64_t x, int64_t y) { return std::max(x, y); });
}
Exponent min(const Exponent& a, const Exponent& b) {
  return chosen<Op::Min>(a, b, [](int64_t x, int64_t y) { return std::min(x, y); });
}

Exponent half(const Exponent& a) {
  if (a.is_static()) return a.fixed >> 1;
  return {0, make(Op::Shr, {whole(a), number(1)})};
}

std::string describe(const Exponent& e) {
  if (e.is_static()) return fmt::format("{}", e.fixed);
  return e.fixed == 0 ? "measured"
                      : fmt::format("measured {} {}", e.fixed < 0 ? '-' : '+', std::abs(e.fixed));
}

bool is_power_of_two(double value, int64_t& k) {
  int exponent = 0;
  if (!std::isfinite(value) || std::fabs(std::frexp(value, &exponent)) != 0.5) return false;
  k = exponent - 1;
  return true;
}

Ref power_of_two(const Exponent& by) {
  if (by.is_static()) return constant(DType::F32, std::ldexp(1.0, static_cast<int>(by.fixed)));
  return small_power(clamped(whole(by)));
}

Ref times_power(const Ref& x, const Exponent& by) {
  if (by.is_static()) return times_static(x, by.fixed);
  // In two steps, each a normal power: together they reach all exponents that two f32 can be apart.
  const Ref e = whole(by), first = clamped(make(Op::Shr, {e, number(1)})),
            rest = clamped(make(Op::Sub, {e, first}));
  Ref out = x;
  for (const Ref& part : {first, rest}) {
    const Ref factor = fn::cast(small_power(part), x->dtype);
    out = make(Op::Mul, {out, fn::splat(factor, x->shape)});
  }
  return out;
}

Ref measured_exponent(const Ref& x, int64_t least) {
  const Term bits = Term(x).bits(DType::I32) >> 23;
  const Ref e = make(Op::Min, {make(Op::Sub, {bits.node, number(127)}), number(127)});
  const Ref from = make(Op::Max, {e, number(least)});
  return where(Term(x) != Term(x), Term(number(least)), Term(from)).node;
}

}  // namespace kontor::scalify
