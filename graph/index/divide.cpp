// Division and remainder of index expressions: what the divisor divides is taken out, the rest is decided by bounds.
#include <algorithm>

#include "graph/index/algebra.h"

namespace kontor::ix {

struct Algebra::Parts {
  Sum quotient, remainder;  // x = quotient * d + remainder; the remainder's coefficients keep their sign
};

// Whether an op makes a position of positions; bits that are shifted, mixed or cast (random numbers) count nothing.
static bool index_op(const Node& n) {
  if (has(n.op, Comparison) || n.op == Op::Not) return true;
  if (n.op == Op::And || n.op == Op::Or) return n.dtype == DType::Bool;
  constexpr Op ops[] = {Op::Add, Op::Sub, Op::Neg, Op::Mul, Op::IDiv, Op::Mod, Op::Max, Op::Min, Op::Where};
  return n.dtype == DType::I64 && std::find(std::begin(ops), std::end(ops), n.op) != std::end(ops);
}

// Index expressions of loop variables alone do not overflow: they count elements of something that exists.
static bool counts_elements(const Node* root) {
  std::vector<const Node*> open = {root};
  NodeSet seen;  // what is shared is looked at once
  while (!open.empty()) {
    const Node* n = open.back();
    open.pop_back();
    if (!seen.insert(n)) continue;
    if (n->op == Op::Range || n->op == Op::Variable || n->op == Op::Slot || n->is_const()) continue;
    if (!index_op(*n)) return false;
    for (const Ref& s : n->src) open.push_back(s.get());
  }
  return true;
}

bool Algebra::tame(const Sum& sum) const {
  if (bounds(sum).fits()) return true;
  return std::all_of(sum.terms.begin(), sum.terms.end(),
                     [](const Term& t) { return counts_elements(t.base.get()); });
}

// a - b*c, which wraps.
static int64_t less(int64_t a, int64_t b, int64_t c) {
  return static_cast<int64_t>(static_cast<Int128>(a) - static_cast<Int128>(b) * c);
}

static void put(Sum& sum, const Ref& base, int64_t k) {  // bases come in order
  if (k != 0) sum.terms.push_back({base, k});
}

Algebra::Parts Algebra::split(const Sum& x, int64_t d) const {
  Parts p;
  for (const Term& t : x.terms) {
    put(p.quotient, t.base, t.k / d);
    put(p.remainder, t.base, t.k % d);
  }
  p.quotient.c = floor_div(x.c, d);
  p.remainder.c = less(x.c, p.quotient.c, d);
  if (!join(p.remainder)) return p;
  Parts more = split(p.remainder, d);
  return {ix::add(p.quotient, more.quotient), more.remainder};
}

// True if the remainder stays within one period, which is then taken out of it.
bool Algebra::in_one_period(int64_t d, Sum& quotient, Sum& remainder) const {
  Span s = bounds(remainder);
  if (!s.fits()) return false;
  int64_t m = floor_div(s.lo, d);
  if (m != floor_div(s.hi, d)) return false;
  quotient.c = less(quotient.c, m, -1);
  remainder.c = less(remainder.c, m, d);
  return true;
}

// Decides x / d and x % d by bounds: as it is, and with coefficients of the smallest size (7i mod 8 is -i mod 8).
bool Algebra::decided(const Parts& parts, int64_t d, Sum& quotient, Sum& remainder) const {
  quotient = parts.quotient;
  remainder = parts.remainder;
  if (in_one_period(d, quotient, remainder)) return true;
  remainder.terms.clear();
  Sum carried;
  for (const Term& t : parts.remainder.terms) {
    int64_t other = t.k > 0 ? t.k - d : t.k + d;
    bool smaller = std::abs(other) < std::abs(t.k);
    put(remainder, t.base, smaller ? other : t.k);
    put(carried, t.base, smaller ? (t.k > 0 ? 1 : -1) : 0);
  }
  if (carried.terms.empty()) return false;
  quotient = ix::add(quotient, carried);
  return in_one_period(d, quotient, remainder);
}

// r = g * outer + inner with 0 <= inner < g, where g > 1 divides d; the largest such g.
bool Algebra::factor_out(const Sum& r, int64_t d, int64_t& g, Sum& outer, Sum& inner) const {
  std::vector<int64_t> candidates;
  for (const Term& t : r.terms) candidates.push_back(gcd(t.k, d));
  std::sort(candidates.rbegin(), candidates.rend());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  if (candidates.size() > 1)  // what divides all terms may be less than each of them
    for (size_t i = 1, all = candidates.size(); i < all; i++)
      candidates.push_back(gcd(candidates[i - 1], candidates[i]));
  for (int64_t c : candidates) {
    if (c <= 1) continue;
    outer = {};
    inner = {{}, r.c};
    for (const Term& t : r.terms) t.k % c == 0 ? put(outer, t.base, t.k / c) : put(inner, t.base, t.k);
    if (outer.terms.empty()) continue;
    Span s = bounds(inner);
    if (!s.fits() || floor_div(s.lo, c) != floor_div(s.hi, c)) continue;
    g = c;
    outer.c = floor_div(s.lo, c);
    inner.c = less(inner.c, outer.c, c);
    return true;
  }
  return false;
}

Sum Algebra::divided(const Sum& x, int64_t d) const {
  if (d == 1) return x;
  Parts p = split(x, d);
  Sum q, r;
  if (p.remainder.is_const()) return p.quotient;  // its constant is in [0, d)
  if (decided(p, d, q, r)) return q;
  int64_t g = 0;
  if (factor_out(p.remainder, d, g, q, r)) return ix::add(p.quotient, divided(q, d / g));
  return ix::add(p.quotient, divided_nested(p.remainder, d));
}

// A single division or remainder within: (y/e + c)/d, (y%e)/d.
Sum Algebra::divided_nested(const Sum& r, int64_t d) const {
  const Node& base = *r.terms[0].base;
  bool constant = base.src.size() == 2 && base.src[1]->is_const() && r.terms.size() == 1 && r.terms[0].k == 1;
  int64_t e = constant ? base.src[1]->at(0) : 0, c = 0, ed = 0;
  if (base.op == Op::IDiv && constant && e > 0 && !__builtin_mul_overflow(e, d, &ed) &&
      !__builtin_mul_overflow(r.c, e, &c)) {
    Sum inner = ix::add(sum_of(base.src[0]), sum_of(c));
    if (tame(inner)) return divided(inner, ed);
  }
  if (base.op == Op::Mod && constant && e > 0 && r.c == 0 && e % d == 0)
    return remainder(divided(sum_of(base.src[0]), d), e / d);
  return sum_of(make(Op::IDiv, {chain(r), index(d)}));
}

Sum Algebra::remainder(const Sum& x, int64_t d) const {
  if (d == 1) return {};
  Sum y = split(x, d).remainder;
  for (size_t i = 0; i < y.terms.size(); i++) {  // (k*(z%e) + ..) % d where d divides k*e
    Term t = y.terms[i];
    int64_t ke = 0;
    if (t.base->op != Op::Mod || !t.base->src[1]->is_const()) continue;
    if (__builtin_mul_overflow(t.k, t.base->src[1]->at(0), &ke) || ke % d != 0) continue;
    Sum whole = ix::add(ix::add(y, Sum{{{t.base, 1}}, 0}, -t.k), sum_of(t.base->src[0]), t.k);
    if (tame(whole)) return remainder(whole, d);
  }
  if (y.is_const()) return y;
  Parts p{{}, y};
  Sum q, r;
  if (decided(p, d, q, r)) return r;
  int64_t g = 0;
  if (factor_out(y, d, g, q, r)) return ix::add(r, remainder(q, d / g), g);
  return sum_of(make(Op::Mod, {chain(y), index(d)}));
}

// ---- divisors that are not constants ------------------------------------------------------------------------------

static size_t degree(const Term& t) { return factors(t.base).size(); }

// x = quotient * d + rest, by the term of d that has the most factors, as long as that makes x shorter.
bool Algebra::take_out(const Sum& x, const Sum& d, Sum& quotient, Sum& rest) const {
  const Term* lead = &d.terms[0];
  for (const Term& t : d.terms)
    if (degree(t) > degree(*lead)) lead = &t;
  quotient = {};
  rest = x;
  for (bool again = true; again;) {
    again = false;
    for (const Term& t : rest.terms) {
      Term q;
      if (!divide(t, *lead, q)) continue;
      Sum factor = q.base ? Sum{{q}, 0} : sum_of(q.k);
      std::optional<Sum> product = multiply(factor, d);
      if (!product) continue;
      Sum left = ix::add(rest, *product, -1);
      if (left.terms.size() + (left.c != 0) >= rest.terms.size() + (rest.c != 0)) continue;
      quotient = ix::add(quotient, factor);
      rest = left;
      again = true;
      break;
    }
  }
  return !equal(rest, x);
}

// 0 <= x < d.
bool Algebra::within(const Sum& x, const Sum& d) const {
  return sign(x) == 1 && sign(ix::add(x, d, -1)) == -1;
}

// r = g * outer + inner with 0 <= inner < g, where g is a common factor of a term of r and of d.
bool Algebra::factor_out_by(const Sum& r, const Term& d, Term& g, Sum& outer, Sum& inner) const {
  for (const Term& candidate : r.terms) {
    g = common(candidate, d);
    if (!g.base && g.k == 1) continue;
    Sum divisor = g.base ? Sum{{g}, 0} : sum_of(g.k);
    if (bounds(divisor).lo <= 0) continue;
    outer = {};
    inner = {{}, r.c};
    for (const Term& t : r.terms) {
      Term q;
      bool divides = divide(t, g, q);
      if (divides) outer = ix::add(outer, q.base ? Sum{{q}, 0} : sum_of(q.k));
      else put(inner, t.base, t.k);
    }
    if (within(inner, divisor)) return true;
  }
  return false;
}

Sum Algebra::divided_by(const Ref& a, const Ref& b, bool want_remainder) const {
  Sum x = sum_of(a), d = sum_of(b), q, r, outer, inner;
  Op op = want_remainder ? Op::Mod : Op::IDiv;
  auto opaque = [&](const Sum& value) { return sum_of(make(op, {chain(value), b})); };
  if (bounds(b).lo <= 0 || d.is_const() || !tame(x) || !tame(d)) return opaque(x);
  if (within(x, d)) return want_remainder ? x : Sum{};
  take_out(x, d, q, r);
  if (within(r, d)) return want_remainder ? r : q;
  if (Sum up = ix::add(r, d); within(up, d)) return want_remainder ? up : ix::add(q, sum_of(-1));
  Term g, divisor;
  if (d.c == 0 && d.terms.size() == 1 && factor_out_by(r, d.terms[0], g, outer, inner) &&
      divide(d.terms[0], g, divisor)) {
    Ref rest = divisor.base ? chain(Sum{{divisor}, 0}) : index(divisor.k);
    if (!want_remainder) return ix::add(q, sum_of(idiv(chain(outer), rest)));
    Sum scaled = *multiply(sum_of(mod(chain(outer), rest)), g.base ? Sum{{g}, 0} : sum_of(g.k), SIZE_MAX);
    return ix::add(inner, scaled);
  }
  if (r.is_const() && r.c == 0) return want_remainder ? r : q;
  if (want_remainder) return opaque(r);
  const Node& base = *(r.is_const() ? b : r.terms[0].base);
  bool single = r.terms.size() == 1 && r.c == 0 && r.terms[0].k == 1;
  if (single && base.op == Op::IDiv && bounds(base.src[1]).lo > 0)  // (y/e)/d = y/(e*d)
    return ix::add(q, sum_of(idiv(base.src[0], mul(base.src[1], b))));
  return ix::add(q, opaque(r));
}

Ref Algebra::idiv(const Ref& a, const Ref& b) const {
  if (!b->is_const() && b->bounds.exact()) return idiv(a, index(b->bounds.lo));
  if (!b->is_const()) {
    if (a == b && bounds(b).lo > 0) return index(1);
    return build(divided_by(a, b, false));
  }
  int64_t d = b->at(0);
  if (d == 0) return b;
  if (d == 1) return a;
  Sum x = sum_of(a);
  if (d == INT64_MIN || !tame(x) || (d < 0 && !tame(scale(x, -1))))
    return a->is_const() ? index(floor_div(a->at(0), d)) : make(Op::IDiv, {a, b});
  return build(d > 0 ? divided(x, d) : divided(scale(x, -1), -d));
}

Ref Algebra::mod(const Ref& a, const Ref& b) const {
  if (!b->is_const() && b->bounds.exact()) return mod(a, index(b->bounds.lo));
  if (!b->is_const()) return build(divided_by(a, b, true));
  int64_t d = b->at(0);
  if (d == 0 || d == 1 || d == -1) return index(0);
  Sum x = sum_of(a);
  if (d == INT64_MIN || !tame(x) || (d < 0 && !tame(scale(x, -1)))) {
    if (!a->is_const()) return make(Op::Mod, {a, b});
    return index(static_cast<int64_t>(a->at(0) - static_cast<Int128>(floor_div(a->at(0), d)) * d));
  }
  return build(d > 0 ? remainder(x, d) : scale(remainder(scale(x, -1), -d), -1));
}

}  // namespace kontor::ix
