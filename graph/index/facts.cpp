// What a guard says: bounds of sums, spread to the bases in them, and conditions known to hold.
#include "graph/index/facts.h"

#include <algorithm>

namespace kontor::ix {

static constexpr Int128 infinite = static_cast<Int128>(1)
                                   << 80;  // times a k below 2^40 it is still an Int128
static constexpr int64_t largest_k = int64_t{1} << 40;

static Int128 ceil_to(Int128 a, int64_t b) {  // b > 0
  Int128 q = a / b;
  return q + (a % b > 0);
}
static Int128 floor_to(Int128 a, int64_t b) {
  Int128 q = a / b;
  return q - (a % b < 0);
}

static Span scaled(Span s, Int128 k) { return k >= 0 ? Span{s.lo * k, s.hi * k} : Span{s.hi * k, s.lo * k}; }

// c + the terms' bounds; beyond all i64 (and no overflow of ours) if a term is out of all proportion.
template <class BoundsOf>
static Span total(const Sum& sum, BoundsOf&& bounds_of) {
  Span out{sum.c, sum.c};
  for (const Term& t : sum.terms) {
    if (t.k > largest_k || t.k < -largest_k) return {-infinite, infinite};
    Span s = scaled(bounds_of(t.base), t.k);
    out = {out.lo + s.lo, out.hi + s.hi};
  }
  return out;
}

// Divides by the gcd of the coefficients, with the first one positive; returns the divisor.
static int64_t make_primitive(Sum& sum) {
  int64_t g = 0;
  for (const Term& t : sum.terms) g = gcd(g, t.k);
  if (!sum.terms.empty() && sum.terms[0].k < 0) g = -g;
  if (g == 0) return 1;
  for (Term& t : sum.terms) t.k /= g;
  return g;
}

Facts::Facts(const Ref& given, const Facts* outer) {
  if (outer) {
    sums_ = outer->sums_;
    truths_ = outer->truths_;
    impossible_ = outer->impossible_;
  }
  if (given) learn(given, true);
  spread();
}

void Facts::learn(const Ref& condition, bool holds) {
  const Node& n = *condition;
  if (n.is_const()) {
    if ((n.at(0) != 0) != holds) impossible_ = true;
    return;
  }
  if (n.op == Op::Not) return learn(n[0], !holds);
  if ((n.op == Op::And && holds) || (n.op == Op::Or && !holds)) {
    learn(n[0], holds);
    return learn(n[1], holds);
  }
  if (!has(n.op, Comparison) || n[0]->dtype != DType::I64) {
    truths_.emplace_back(condition, holds);
    return;
  }
  truths_.emplace_back(condition, holds);
  // a < b is a - b <= -1 as numbers, provided that neither side overflows as an i64.
  Sum a = sum_of(n[0]), b = sum_of(n[1]);
  if (!bounds(a).fits() || !bounds(b).fits()) return;
  Int128 c = static_cast<Int128>(a.c) - b.c;
  a.c = b.c = 0;
  Sum d = add(a, b, -1);
  bool equal = (n.op == Op::Eq && holds) || (n.op == Op::Ne && !holds);
  if (equal) return learn(d, -c, -c);
  if (n.op == Op::Lt) return holds ? learn(d, -infinite, -c - 1) : learn(d, -c, infinite);
  if (n.op == Op::Le) return holds ? learn(d, -infinite, -c) : learn(d, -c + 1, infinite);
}

void Facts::learn(Sum sum, Int128 lo, Int128 hi) {
  if (sum.is_const()) {
    if (lo > 0 || hi < 0) impossible_ = true;
    return;
  }
  int64_t g = make_primitive(sum);
  if (g < 0) std::swap(lo, hi), lo = -lo, hi = -hi, g = -g;
  lo = lo <= -infinite ? -infinite : ceil_to(lo, g);
  hi = hi >= infinite ? infinite : floor_to(hi, g);
  known_.clear();
  kept_.clear();
  for (Fact& f : sums_) {
    if (!equal(f.sum, sum)) continue;
    f.lo = std::max(f.lo, lo);
    f.hi = std::min(f.hi, hi);
    if (f.lo > f.hi) impossible_ = true;
    return;
  }
  if (lo > hi) impossible_ = true;
  sums_.push_back({std::move(sum), lo, hi});
}

// In lo <= sum <= hi each term is bounded by what the others leave; a second round sees what the first one found.
void Facts::spread() {
  for (int round = 0; round < 2 && !impossible_; round++) {
    std::vector<Fact> facts = sums_;
    for (const Fact& f : facts) spread(f);
  }
  for (const Fact& f : sums_) {
    Span s = bounds(f.sum);
    if (s.lo > s.hi) impossible_ = true;
  }
}

void Facts::spread(const Fact& fact) {
  if (fact.sum.terms.size() < 2) {
    const Ref& base = fact.sum.terms[0].base;
    bool division = base->op == Op::IDiv && base->src[1]->is_const() && base->src[1]->at(0) > 0;
    if (!division || fact.lo < INT64_MIN || fact.hi > INT64_MAX) return;
    Sum x = sum_of(base->src[0]);  // lo <= x / d <= hi
    if (!bounds(x).fits()) return;
    Int128 d = base->src[1]->at(0), c = x.c;
    x.c = 0;
    return learn(x, fact.lo * d - c, fact.hi * d + d - 1 - c);
  }
  for (size_t i = 0; i < fact.sum.terms.size(); i++) {
    Sum rest = fact.sum;
    int64_t k = rest.terms[i].k;
    Ref base = rest.terms[i].base;
    rest.terms.erase(rest.terms.begin() + static_cast<ptrdiff_t>(i));
    Span r = bounds(rest);
    Int128 lo = fact.lo <= -infinite ? -infinite : fact.lo - r.hi;
    Int128 hi = fact.hi >= infinite ? infinite : fact.hi - r.lo;
    learn(Sum{{{base, k}}, 0}, lo, hi);
  }
}

void Facts::tighten(const Sum& sum, Span& span) const {
  for (const Fact& f : sums_) {
    if (f.sum.terms.size() > sum.terms.size()) continue;
    // sum = k * f.sum + rest, where k is that of the first base of f.
    auto it = std::find_if(sum.terms.begin(), sum.terms.end(),
                           [&](const Term& t) { return t.base == f.sum.terms[0].base; });
    if (it == sum.terms.end() || it->k % f.sum.terms[0].k != 0) continue;
    int64_t k = it->k / f.sum.terms[0].k;
    Sum rest = add(sum, f.sum, -k);
    if (rest.terms.size() + f.sum.terms.size() != sum.terms.size()) continue;
    if (k > largest_k || k < -largest_k) continue;
    Span part = scaled({f.lo, f.hi}, k);
    Span others = total(rest, [&](const Ref& base) { return bounds(base.get()); });
    if (k > 0 ? f.lo > -infinite : f.hi < infinite) span.lo = std::max(span.lo, part.lo + others.lo);
    if (k > 0 ? f.hi < infinite : f.lo > -infinite) span.hi = std::min(span.hi, part.hi + others.hi);
  }
}

Span Facts::bounds(const Sum& sum) const {
  Span out = total(sum, [&](const Ref& base) { return bounds(base.get()); });
  if (sum.terms.size() > 1) tighten(sum, out);
  return out;
}

Span Facts::bounds(const Node* node) const {
  if (auto it = known_.find(node); it != known_.end()) return it->second;
  Span s = compute(node);
  s.lo = std::max(s.lo, static_cast<Int128>(node->bounds.lo));
  s.hi = std::min(s.hi, static_cast<Int128>(node->bounds.hi));
  for (const Fact& f : sums_) {
    if (f.sum.terms.size() != 1 || f.sum.terms[0].base.get() != node) continue;
    s = {std::max(s.lo, f.lo), std::min(s.hi, f.hi)};
  }
  known_.emplace(node, s);
  kept_.emplace_back(node);
  return s;
}

Span Facts::compute(const Node* node) const {
  const Node& n = *node;
  Span all{node->bounds.lo, node->bounds.hi};
  if (n.dtype != DType::I64 || n.src.empty()) return all;
  auto source = [&](size_t i) { return bounds(n.src[i].get()); };
  switch (n.op) {
    case Op::Add: {
      Span s = bounds(sum_of(Ref(node)));
      return s.fits() ? s : all;
    }
    case Op::Mul: {
      Span a = source(0), b = source(1);
      Int128 p[] = {a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi};
      Span s{*std::min_element(p, p + 4), *std::max_element(p, p + 4)};
      return s.fits() ? s : all;
    }
    case Op::IDiv: {
      Span a = source(0), b = source(1);
      if (!a.fits() || b.lo <= 0 || b.hi < b.lo || b.hi > INT64_MAX) return all;
      auto lo = static_cast<int64_t>(b.lo), hi = static_cast<int64_t>(b.hi);
      return {std::min(floor_div(a.lo, lo), floor_div(a.lo, hi)),
              std::max(floor_div(a.hi, lo), floor_div(a.hi, hi))};
    }
    case Op::Mod: {
      Span a = source(0), b = source(1);
      if (b.lo <= 0) return all;
      if (a.lo >= 0 && a.hi < b.lo) return a;
      return {0, a.lo >= 0 ? std::min(a.hi, b.hi - 1) : b.hi - 1};
    }
    case Op::Max:   return {std::max(source(0).lo, source(1).lo), std::max(source(0).hi, source(1).hi)};
    case Op::Min:   return {std::min(source(0).lo, source(1).lo), std::min(source(0).hi, source(1).hi)};
    case Op::Where: return {std::min(source(1).lo, source(2).lo), std::max(source(1).hi, source(2).hi)};
    default:        return all;
  }
}

int Facts::truth(const Node* condition) const {
  for (const auto& [known, holds] : truths_)
    if (known.get() == condition) return holds;
  return -1;
}

Span bounds(const Ref& node, const Facts* facts) {
  if (facts) return facts->bounds(node.get());
  return {node->bounds.lo, node->bounds.hi};
}

Span bounds(const Sum& sum, const Facts* facts) {
  if (facts) return facts->bounds(sum);
  return total(sum, [](const Ref& base) { return Span{base->bounds.lo, base->bounds.hi}; });
}

}  // namespace kontor::ix
