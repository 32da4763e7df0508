// Term: arithmetic on nodes of one shape with numbers, so that decompositions read as they stand in papers.
#pragma once
#include "graph/functions/functions.h"

namespace kontor {

struct Term {
  Ref node;
  explicit Term(Ref n) : node(std::move(n)) {}
  Term constant(double value) const { return Term(fn::fill(node->dtype, value, node->shape)); }
  Term integer(int64_t value) const {
    return Term(fn::splat(kontor::constant(node->dtype, value), node->shape));
  }
  Term as(DType dtype) const { return Term(node->dtype == dtype ? node : make(Op::Cast, {node}, {}, dtype)); }
  Term bits(DType dtype) const {
    return Term(node->dtype == dtype ? node : make(Op::Bitcast, {node}, {}, dtype));
  }
};

inline Term op(Op o, const Term& a) { return Term(make(o, {a.node})); }
inline Term op(Op o, const Term& a, const Term& b) { return Term(make(o, {a.node, b.node})); }
inline Term number(const Term& like, double v) {
  return is_float(like.node->dtype) ? like.constant(v) : like.integer(static_cast<int64_t>(v));
}
// clang-format off
inline Term operator+(const Term& a, const Term& b) { return op(Op::Add, a, b); }
inline Term operator-(const Term& a, const Term& b) { return op(Op::Sub, a, b); }
inline Term operator*(const Term& a, const Term& b) { return op(Op::Mul, a, b); }
inline Term operator/(const Term& a, const Term& b) { return op(Op::Div, a, b); }
inline Term operator+(const Term& a, double b) { return a + number(a, b); }
inline Term operator-(const Term& a, double b) { return a - number(a, b); }
inline Term operator*(const Term& a, double b) { return a * number(a, b); }
inline Term operator-(double a, const Term& b) { return number(b, a) - b; }
inline Term operator/(const Term& a, double b) { return a / number(a, b); }
inline Term operator/(double a, const Term& b) { return number(b, a) / b; }
inline Term operator-(const Term& a) { return op(Op::Neg, a); }
inline Term operator&(const Term& a, const Term& b) { return op(Op::And, a, b); }
inline Term operator|(const Term& a, const Term& b) { return op(Op::Or, a, b); }
inline Term operator^(const Term& a, const Term& b) { return op(Op::Xor, a, b); }
inline Term operator&(const Term& a, int64_t b) { return a & a.integer(b); }
inline Term operator|(const Term& a, int64_t b) { return a | a.integer(b); }
inline Term operator<<(const Term& a, int64_t b) { return op(Op::Shl, a, a.integer(b)); }
inline Term operator>>(const Term& a, int64_t b) { return op(Op::Shr, a, a.integer(b)); }
inline Term operator<(const Term& a, const Term& b) { return op(Op::Lt, a, b); }
inline Term operator<(const Term& a, double b) { return a < number(a, b); }
inline Term operator>(const Term& a, double b) { return number(a, b) < a; }
inline Term operator<=(const Term& a, double b) { return op(Op::Le, a, number(a, b)); }
inline Term operator==(const Term& a, const Term& b) { return op(Op::Eq, a, b); }
inline Term operator==(const Term& a, double b) { return a == number(a, b); }
inline Term operator!=(const Term& a, const Term& b) { return op(Op::Ne, a, b); }
inline Term operator!(const Term& a) { return op(Op::Not, a); }
inline Term fma(const Term& a, const Term& b, const Term& c) { return Term(make(Op::Fma, {a.node, b.node, c.node})); }
inline Term fma(const Term& a, const Term& b, double c) { return fma(a, b, a.constant(c)); }
inline Term fma(const Term& a, double b, const Term& c) { return fma(a, a.constant(b), c); }
inline Term fma(const Term& a, double b, double c) { return fma(a, a.constant(b), a.constant(c)); }
inline Term where(const Term& c, const Term& a, const Term& b) { return Term(make(Op::Where, {c.node, a.node, b.node})); }
inline Term where(const Term& c, double a, const Term& b) { return where(c, number(b, a), b); }
inline Term where(const Term& c, const Term& a, double b) { return where(c, a, number(a, b)); }
inline Term max(const Term& a, const Term& b) { return op(Op::Max, a, b); }
inline Term max(const Term& a, double b) { return max(a, number(a, b)); }
inline Term min(const Term& a, double b) { return op(Op::Min, a, number(a, b)); }
inline Term abs(const Term& a) { return op(Op::Abs, a); }
inline Term floor(const Term& a) { return op(Op::Floor, a); }
inline Term ceil(const Term& a) { return op(Op::Ceil, a); }
inline Term sqrt(const Term& a) { return op(Op::Sqrt, a); }
// clang-format on
/// A function of the unary table, recorded as a Call of its own.
inline Term unary(std::string_view name, const Term& x) { return Term(fn::unary(name, x.node)); }
/// coefficients[0] + x * (coefficients[1] + ...), by fma.
inline Term polynomial(const Term& x, std::span<const double> coefficients) {
  Term p = x.constant(coefficients.back());
  for (size_t i = coefficients.size() - 1; i-- > 0;) p = fma(p, x, coefficients[i]);
  return p;
}

}  // namespace kontor
