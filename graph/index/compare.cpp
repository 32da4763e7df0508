// Comparisons of index expressions, and the conditions made of them.
#include <algorithm>

#include "graph/index/algebra.h"

namespace kontor::ix {

// -k, which wraps.
static int64_t negated(int64_t k) { return static_cast<int64_t>(0 - static_cast<uint64_t>(k)); }

static Ref truth(bool value) { return constant(DType::Bool, int64_t{value}); }

// The extent below which a base stays, where it is 0 <= base < extent by construction.
static Ref extent_of(const Node& base) {
  if (base.op == Op::Range) return base[0];
  if (base.op == Op::Mod && base[1]->bounds.lo > 0) return base[1];
  return {};
}

// One term with its Ranges replaced by their last (or, for a negative term, first) value; false if it has none.
static bool raise(const Term& term, Sum& raised) {
  std::vector<Ref> all = factors(term.base);
  for (size_t i = 0; i < all.size(); i++) {
    Ref extent = extent_of(*all[i]);
    if (!extent) continue;
    std::vector<Ref> rest = all;
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(i));
    if (!std::all_of(rest.begin(), rest.end(), [](const Ref& f) { return f->bounds.lo >= 0; })) return false;
    raised = {};
    if (term.k < 0) return true;
    Ref others = product_of(std::move(rest));
    Sum scale = others ? Sum{{{others, term.k}}, 0} : sum_of(term.k);
    std::optional<Sum> product = multiply(add(sum_of(extent), sum_of(-1)), scale);
    if (product) raised = *product;
    return product.has_value();
  }
  return false;
}

Sum Algebra::maximum(Sum sum) const {
  for (bool again = true; again;) {
    again = false;
    for (const Term& t : sum.terms) {
      Sum raised;
      if (!raise(t, raised)) continue;
      sum = ix::add(ix::add(sum, Sum{{{t.base, 1}}, 0}, -t.k), raised);
      again = true;
      break;
    }
  }
  return sum;
}

static bool symbolic(const Ref& base) {
  for (const Ref& f : factors(base)) {
    if (f->op == Op::Variable || f->op == Op::Slot) return true;
    if (Ref e = extent_of(*f); e && !e->is_const()) return true;
  }
  return false;
}

int Algebra::sign(const Sum& sum) const {
  Span s = bounds(sum);
  if (s.hi < 0) return -1;
  if (s.lo >= 0) return 1;
  if (!std::any_of(sum.terms.begin(), sum.terms.end(), [](const Term& t) { return symbolic(t.base); }))
    return 0;
  for (const Term& t :
       sum.terms) {  // y/e + rest < 0 is y + rest*e < 0;  rest - y/e >= 0 is y - (rest + 1)*e < 0
    if (std::abs(t.k) != 1 || t.base->op != Op::IDiv || t.base->src[1]->bounds.lo <= 0) continue;
    Sum rest = scale(ix::add(sum, Sum{{{t.base, 1}}, 0}, -t.k), t.k);
    if (t.k < 0) rest.c -= 1;
    std::optional<Sum> scaled = multiply(rest, sum_of(t.base->src[1]));
    if (scaled) return static_cast<int>(t.k) * sign(ix::add(*scaled, sum_of(t.base->src[0])));
  }
  if (bounds(maximum(sum)).hi < 0) return -1;
  return bounds(maximum(scale(sum, -1))).hi <= 0 ? 1 : 0;
}

// s < k, where a group of terms has a common factor g that the others, with k, cannot reach across:
// g*A + B < k  is  A < ceil((k - B)/g), if that is one number for all values of B.
bool Algebra::drop_small(Sum& s, Int128& k) const {
  if (s.terms.size() < 2) return false;
  std::vector<int64_t> candidates;
  for (const Term& t : s.terms) candidates.push_back(std::abs(t.k));
  std::sort(candidates.rbegin(), candidates.rend());
  for (int64_t g : candidates) {
    if (g <= 1) return false;
    Sum outer, inner;
    for (const Term& t : s.terms) {
      if (t.k % g == 0) outer.terms.push_back({t.base, t.k / g});
      else inner.terms.push_back(t);
    }
    if (inner.terms.empty()) continue;
    Span b = bounds(inner);
    if (!b.fits() || floor_div(b.lo - k, g) != floor_div(b.hi - k, g)) continue;
    k = -static_cast<Int128>(floor_div(b.lo - k, g));
    s = outer;
    return true;
  }
  return false;
}

// The condition s < k in normal form; s has no constant.
Ref Algebra::below(Sum s, Int128 k) const {
  Span b = bounds(s);
  if (b.hi < k) return truth(true);
  if (b.lo >= k) return truth(false);
  if (k > INT64_MIN && k <= INT64_MAX)
    if (int known = sign(ix::add(s, sum_of(static_cast<int64_t>(-k))))) return truth(known < 0);
  int64_t g = 0;
  for (const Term& t : s.terms) g = gcd(g, t.k);
  for (Term& t : s.terms) t.k /= g;
  k = -static_cast<Int128>(floor_div(-k, g));
  if (g > 1 || drop_small(s, k)) return below(s, k);
  const Node& base = *s.terms[0].base;
  if (s.terms.size() == 1 && base.op == Op::IDiv && base[1]->is_const() && base[1]->at(0) > 0) {
    Int128 d = base[1]->at(0);  // y/d < k is y < k*d;  -(y/d) < k is y/d > -k, that is y >= (1 - k)*d
    Sum y = sum_of(base[0]);
    Int128 c = y.c;
    y.c = 0;
    return s.terms[0].k > 0 ? below(y, k * d - c) : below(scale(y, -1), (k - 1) * d + 1 + c);
  }
  Sum left, right;
  for (const Term& t : s.terms)
    t.k > 0 ? left.terms.push_back(t) : right.terms.push_back({t.base, negated(t.k)});
  bool on_right = left.terms.empty() ? false : right.terms.empty() ? true : k >= 0;
  (on_right ? right.c : left.c) = static_cast<int64_t>(on_right ? k : -k);
  Ref condition = make(Op::Lt, {chain(left), chain(right)});
  int known = facts_ ? facts_->truth(condition.get()) : -1;
  return known >= 0 ? truth(known == 1) : condition;
}

// s = a - b as numbers; false where one of the three may overflow.
bool Algebra::difference(const Ref& a, const Ref& b, Sum& s) const {
  Sum x = sum_of(a), y = sum_of(b);
  int64_t c = 0;
  bool exact = tame(x) && tame(y) && !__builtin_sub_overflow(x.c, y.c, &c);
  s = ix::add(x, y, -1);
  join(s);
  return exact && c != INT64_MIN && tame(s);
}

Ref Algebra::lt(const Ref& a, const Ref& b) const {
  Sum s;
  if (!difference(a, b, s)) {
    Span x = bounds(a), y = bounds(b);
    return x.hi < y.lo ? truth(true) : x.lo >= y.hi ? truth(false) : make(Op::Lt, {a, b});
  }
  if (s.is_const()) return truth(s.c < 0);
  Int128 k = -static_cast<Int128>(s.c);
  s.c = 0;
  return below(std::move(s), k);
}

Ref Algebra::le(const Ref& a, const Ref& b) const {
  Sum s, up = sum_of(b);
  bool has_next = up.c != INT64_MAX && tame(ix::add(up, sum_of(1)));
  if (Ref next = has_next ? add(b, index(1)) : Ref(); next && difference(a, next, s)) return lt(a, next);
  Span x = bounds(a), y = bounds(b);
  return x.hi <= y.lo ? truth(true) : x.lo > y.hi ? truth(false) : make(Op::Le, {a, b});
}

Ref Algebra::equal_zero(Sum s) const {
  if (s.is_const()) return truth(s.c == 0);
  Span b = bounds(s);
  if (b.lo > 0 || b.hi < 0) return truth(false);
  if (b.lo == 0 && b.hi == 0) return truth(true);
  int64_t g = 0;
  for (const Term& t : s.terms) g = gcd(g, t.k);
  if (s.c % g != 0) return truth(false);
  if (s.terms[0].k < 0) g = -g;
  Sum left, right;
  for (const Term& t : s.terms) {
    int64_t k = t.k / g;
    k > 0 ? left.terms.push_back({t.base, k}) : right.terms.push_back({t.base, -k});
  }
  int64_t c = -(s.c / g);
  (right.terms.empty() || c >= 0 ? right.c : left.c) = right.terms.empty() || c >= 0 ? c : -c;
  Ref condition = make(Op::Eq, {chain(left), chain(right)});
  int known = facts_ ? facts_->truth(condition.get()) : -1;
  return known >= 0 ? truth(known == 1) : condition;
}

Ref Algebra::eq(const Ref& a, const Ref& b) const {
  if (a == b) return truth(true);
  if (a->dtype != DType::I64)
    return compare(a.get(), b.get()) <= 0 ? make(Op::Eq, {a, b}) : make(Op::Eq, {b, a});
  Sum s;
  if (difference(a, b, s)) return equal_zero(std::move(s));
  Span x = bounds(a), y = bounds(b);
  return x.hi < y.lo || y.hi < x.lo ? truth(false) : make(Op::Eq, {a, b});
}

Ref Algebra::negation(const Ref& a) const {
  const Node& n = *a;
  if (n.is_const()) return truth(n.at(0) == 0);
  if (n.op == Op::Not) return n[0];
  bool of_index = !n.src.empty() && n[0]->dtype == DType::I64;
  if (n.op == Op::Lt && of_index) return le(n[1], n[0]);
  if (n.op == Op::Le && of_index) return lt(n[1], n[0]);
  if (n.op == Op::Eq) return make(Op::Ne, {n[0], n[1]});
  if (n.op == Op::Ne) return make(Op::Eq, {n[0], n[1]});
  return make(Op::Not, {a});
}

// The sum that a condition bounds from above (below: with opposite sign), and by what: sum < limit.
static bool bound_of(const Ref& condition, Sum& sum, Int128& limit) {
  if (condition->op != Op::Lt || condition->src[0]->dtype != DType::I64) return false;
  sum = add(sum_of(condition->src[0]), sum_of(condition->src[1]), -1);
  limit = -static_cast<Int128>(sum.c);
  sum.c = 0;
  return true;
}

Ref merge_conditions(const Algebra& algebra, const Ref& a, const Ref& b) {
  if (a == b) return a;
  bool opposite =
      a->op != Op::Lt && b->op != Op::Lt && algebra.negation(a) == b;  // bounds are compared below
  if (opposite) return truth(false);
  Sum x, y;
  Int128 k = 0, l = 0;
  if (!bound_of(a, x, k) || !bound_of(b, y, l)) return {};
  if (equal(x, y)) return k <= l ? a : b;
  if (!equal(x, scale(y, -1))) return {};
  // x < k and -x < l: -l < x < k.
  return k - (-l) < 2 ? truth(false) : Ref();
}

static void conjuncts(const Ref& condition, std::vector<Ref>& into) {
  if (condition->op != Op::And) return into.push_back(condition);
  conjuncts(condition->src[0], into);
  conjuncts(condition->src[1], into);
}

Ref Algebra::both(const Ref& a, const Ref& b) const {
  if (a == b || b->is_const()) return !b->is_const() || b->at(0) ? a : b;
  if (a->is_const()) return a->at(0) ? b : a;
  std::vector<Ref> pending, kept;
  conjuncts(b, pending);
  conjuncts(a, pending);
  while (!pending.empty()) {
    Ref next = pending.back();
    pending.pop_back();
    for (size_t i = 0; i < kept.size() && next; i++) {
      Ref merged = merge_conditions(*this, kept[i], next);
      if (!merged) continue;
      if (merged->is_const()) return merged;  // only ever false
      kept.erase(kept.begin() + static_cast<ptrdiff_t>(i));
      pending.push_back(merged);
      next = {};
    }
    if (next) kept.push_back(next);
  }
  std::sort(kept.begin(), kept.end(),
            [](const Ref& x, const Ref& y) { return compare(x.get(), y.get()) < 0; });
  Ref out = kept[0];
  for (size_t i = 1; i < kept.size(); i++) out = make(Op::And, {out, kept[i]});
  return out;
}

Ref Algebra::either(const Ref& a, const Ref& b) const {
  if (a == b) return a;
  if (a->is_const()) return a->at(0) ? a : b;
  if (b->is_const()) return b->at(0) ? b : a;
  if (negation(a) == b) return truth(true);
  return compare(a.get(), b.get()) <= 0 ? make(Op::Or, {a, b}) : make(Op::Or, {b, a});
}

}  // namespace kontor::ix
